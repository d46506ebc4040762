"""OpenAI's answers and vLLM's, as pydantic models: the document shows them, tests hold the routes to them."""

from typing import Any, Literal

from server.api.answers import Answer

Reason = Literal["stop", "length"]


class PromptDetails(Answer):
    """`soft_tokens` are counted nowhere else."""

    cached_tokens: int
    soft_tokens: int


class TokenCounts(Answer):
    """Ids of all prompts with BOS, and of all answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Logprobs(Answer):
    """An entry for each id of the request's own, then of the answer; nothing is known of a prompt's first."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Answer):
    """One text."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Reason


class Enveloped(Answer):
    """What every answer says of itself."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class Completion(Enveloped):
    """Of /v1/completions: choices of the first prompt, then of the next."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: TokenCounts


class CompletionPart(Answer):
    """A token of a choice."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Reason | None


class CompletionChunk(Enveloped):
    """An event of a stream; the last before `[DONE]` may count."""

    object: Literal["text_completion"]
    choices: list[CompletionPart]
    usage: TokenCounts | None = None


class ChatToken(Answer):
    """An id, and its text's bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ChatPlace(ChatToken):
    """With the likeliest in its place."""

    top_logprobs: list[ChatToken]


class ChatLogprobs(Answer):
    """An entry for each id."""

    content: list[ChatPlace]
    refusal: None


class ChatMessage(Answer):
    """A turn."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Answer):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Reason


class ChatCompletion(Enveloped):
    """Of /v1/chat/completions."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: TokenCounts


class ChatPart(Answer):
    """A token of a choice."""

    index: int
    delta: dict[str, Any]
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None


class ChatChunk(Enveloped):
    """An event of a stream; the last before `[DONE]` may count."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatPart]
    usage: TokenCounts | None = None


class Model(Answer):
    """A task, or the bare base. `root`: what it runs on; `parent` is null for the base itself."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int


class ModelList(Answer):
    """The base, then all tasks by name."""

    object: Literal["list"]
    data: list[Model]


class Tokenized(Answer):
    """Ids of a text; `token_strs` where they were asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Answer):
    """Text with its special tokens by name."""

    prompt: str


class TokenizerInfo(Answer):
    """The base's tokenizer: special tokens by their use, and the chat template."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None
    chat_template: str | None
    model_max_length: int
    vocab_size: int
