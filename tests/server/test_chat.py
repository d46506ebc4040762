"""Chat templates that find no end, take all memory or end their process: a refusal, and the next one has another."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.chat import MOST_CHARACTERS, PROBE, Chat, ChatError

GOOD = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)
ENDLESS = {
    "a power": "{{ 9**(9**8) }}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a shift of text": "{% for a in range(99999) %}{% set b = ('ab' * (10**7 + a)) | length %}{% endfor %}",
}
TOO_MUCH = {
    "a text": "{{ 'a' * 10**9 }}",
    "a width": "{{ '%01000000000d' % 1 }}",
    "a list": "{{ [0] * 10**10 }}",
    "a long answer": f"{{{{ 'a' * {MOST_CHARACTERS + 1} }}}}",
}
ON_DEMAND = (  # not made of constants: those are computed when it is compiled
    "{% set n = messages | length + 8 %}{% if messages[0]['content'] == 'explode' %}{{ n**(n**8) }}{% endif %}" + GOOD
)


@asynccontextmanager
async def of(template: str | None) -> AsyncIterator[Chat]:
    chat = Chat(template, {"bos_token": "<s>"})
    try:
        yield chat
    finally:
        chat.close()


async def test_a_conversation_is_rendered_in_a_process_of_its_own() -> None:
    """As transformers writes it, with special tokens and the beginning of an answer."""
    async with of(GOOD) as chat:
        assert await chat.probe() is None
        assert await chat.render([{"role": "user", "content": "é\0"}], answer=True) == "<s>[user] é\0>"
        assert await chat.render(PROBE, answer=False) == "<s>[user] Hello"


async def test_a_base_without_a_template_has_no_conversations() -> None:
    """And no process."""
    async with of(None) as chat:
        assert await chat.probe() is None
        with pytest.raises(ChatError, match="has no chat template"):
            await chat.render(PROBE, answer=True)


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
async def test_what_finds_no_end_is_switched_off(template: str) -> None:
    """At the probe, within its seconds; afterwards nothing is tried any more."""
    async with of(template) as chat:
        assert "more than 2 seconds" in str(await chat.probe())
        began = time.monotonic()
        with pytest.raises(ChatError, match="on a greeting"):
            await chat.render(PROBE, answer=True)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("template", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_takes_too_much_is_refused(template: str) -> None:
    """In the process beside, whose memory is bounded, or by the length of what it gives."""
    async with of(template) as chat:
        await chat.probe()
        with pytest.raises(ChatError):
            await chat.render(PROBE, answer=True)


async def test_what_explodes_on_some_input_is_refused_for_that() -> None:
    """A template that passed its probe: the conversation is refused, and the next one is rendered."""
    async with of(ON_DEMAND) as chat:
        assert await chat.probe() is None
        for _ in range(2):
            with pytest.raises(ChatError, match="no end of this conversation"):
                await chat.render([{"role": "user", "content": "explode"}], answer=True)
            assert (await chat.render(PROBE, answer=True)).endswith("Hello>")


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% if %}",
        "{{ ''.__class__.__mro__ }}{{ cycler.__init__.__globals__.os.system('id') }}",
    ],
)
async def test_what_is_refused_by_the_template_is_refused_each_time(template: str) -> None:
    """It is not switched off for that: another conversation may please it."""
    async with of(template) as chat:
        assert await chat.probe() is None
        with pytest.raises(ChatError, match="takes no such conversation"):
            await chat.render(PROBE, answer=True)
