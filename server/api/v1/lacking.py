"""Fields of OpenAI's schema and vLLM's that are not here, each with what there is instead."""

from collections.abc import Mapping

from server.api.lenient import Lacking

_PENALTY = Lacking("repetition_penalty is there", (0, 0.0))
_SOFT_PROMPT = "a task's answers are its soft prompt's"
_PLAIN = Lacking("answers are plain text")
_TOKENS = Lacking("special tokens are never in the text", (True,))
BOTH: Mapping[str, Lacking] = {
    "frequency_penalty": _PENALTY,
    "presence_penalty": _PENALTY,
    "logit_bias": Lacking("ids are not weighted"),
    "min_tokens": Lacking("ignore_eos with max_tokens gives an exact count", (0,)),
    "stop_token_ids": Lacking("stop takes texts"),
    "include_stop_str_in_output": Lacking("a stop text is never in the text"),
    "bad_words": Lacking("ids are not forbidden"),
    "allowed_token_ids": Lacking("ids are not forbidden"),
    "length_penalty": Lacking("there is no beam search", (1, 1.0)),
    "use_beam_search": Lacking("there is no beam search"),
    "early_stopping": Lacking("there is no beam search"),
    "skip_special_tokens": _TOKENS,
    "spaces_between_special_tokens": _TOKENS,
    "prompt_logprobs": Lacking("echo with logprobs tells the prompt's"),
    "truncate_prompt_tokens": Lacking("nothing is ever cut", (-1,)),
    "response_format": Lacking("answers are plain text", ({"type": "text"},)),
    "structured_outputs": _PLAIN,
    "guided_json": _PLAIN,
    "guided_regex": _PLAIN,
    "guided_choice": Lacking("/classify chooses among labels"),
    "guided_grammar": _PLAIN,
    "priority": Lacking("tasks share the server fairly", (0,)),
    "logits_processors": _PLAIN,
    "return_tokens_as_token_ids": Lacking("/tokenize gives ids"),
    "return_token_ids": Lacking("/tokenize gives ids"),
    "cache_salt": Lacking("keys and values are shared inside a task only"),
}
COMPLETION: Mapping[str, Lacking] = {
    **BOTH,
    "suffix": Lacking("text is only continued"),
    "prompt_embeds": Lacking(f"PUT /tasks publishes them: {_SOFT_PROMPT}"),
    "add_special_tokens": Lacking("ids are taken as they are given", (True,)),
}
CHAT: Mapping[str, Lacking] = {
    **BOTH,
    "tools": Lacking("there are no tools"),
    "tool_choice": Lacking("there are no tools", ("none", "auto")),
    "parallel_tool_calls": Lacking("there are no tools", (True,)),
    "functions": Lacking("there are no tools"),
    "function_call": Lacking("there are no tools", ("none", "auto")),
    "audio": Lacking("there is only text"),
    "modalities": Lacking("there is only text", (["text"],)),
    "prediction": Lacking("nothing is predicted"),
    "reasoning_effort": Lacking("the base has no such setting", ("none",)),
    "verbosity": Lacking("the base has no such setting"),
    "web_search_options": Lacking("there are no tools"),
    "store": Lacking("nothing is stored"),
    "metadata": Lacking("nothing is stored"),
    "echo": Lacking("/v1/completions has it"),
    "add_generation_prompt": Lacking("the answer is always the next turn", (True,)),
    "continue_final_message": Lacking("the answer is always the next turn"),
    "add_special_tokens": Lacking("the chat template has its own"),
    "documents": Lacking("write them into a message"),
    "chat_template": Lacking("the base's own is used"),
    "chat_template_kwargs": Lacking("the base's own is used as it is"),
    "service_tier": Lacking("there is one", ("auto", "default")),
}
