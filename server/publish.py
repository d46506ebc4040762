"""THE UPLOAD PATH: parse + validate -> fits this base? -> canary -> store.put -> engine.load.

Knows prompt files, the store and the engine; no HTTP. Patch, roll back and delete stand beside it: each makes a
version.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync

from prompt_store import peft
from prompt_store.errors import Corrupt, PreconditionFailed, PromptError
from prompt_store.metadata import Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, build, parse
from prompt_store.task import Task
from prompt_store.template import Template, compose
from server.config import Settings
from server.engine.request import Prompt, Request, Sampling
from server.engine.residency import Unloadable
from server.errors import KNOWN, Invalid, Unacceptable, Unavailable
from server.lookup import check_runs, engine_prompt, refusal
from server.rendering import Room
from server.telemetry import logger


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client wants to be the task's next version. `source`: a file's bytes, or the metadata of a text task.

    `bare` are the arguments of `peft.convert` that came with a bare PEFT file; `op_id` names the operation,
    `given` says that the client chose it, and may be asking again.
    """

    task: str
    source: bytes | Mapping[str, Any]
    op_id: str
    given: bool = False
    bare: Mapping[str, Any] = field(default_factory=dict)
    if_match: str | None = None
    if_none_match: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """What is to change in the metadata of a task's current version."""

    task: str
    merge: Mapping[str, Any]
    op_id: str
    given: bool = False
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What the upload path works with; built once."""

    room: Room
    settings: Settings


async def publish(upload: Upload, desk: Desk) -> tuple[Task, bool]:
    """The version that is current now, and whether it is new. Raises PromptError, StoreError or Fault."""
    tasks = desk.room.tasks
    file = await run_sync(read, upload, desk)
    verified = await run_sync(fits, file, desk)
    prompt = await run_sync(_engine_prompt, file, desk)
    await canary(file, prompt, desk)

    task, created = await tasks.reach.change(
        tasks.store.publish,
        upload.task,
        file,
        verified=verified,
        if_match=upload.if_match,
        if_none_match=upload.if_none_match,
        op_id=upload.op_id,
        given=upload.given,
    )
    tasks.written(task)
    tasks.load(task, prompt)
    return task, created


def read(upload: Upload, desk: Desk) -> PromptFile:
    """Parse what came. A bare PEFT file is converted, and only that takes arguments."""
    if not isinstance(upload.source, bytes):
        return build(SoftPrompt("text", 0, {}), Metadata.for_text_task(upload.source))
    if peft.is_peft(upload.source):
        return peft.convert(upload.source, desk.room.running.engine.base.base, **upload.bare)
    if upload.bare:
        raise Invalid("invalid_request", "the query's metadata are for a bare PEFT file: this one has its own")
    return parse(upload.source)


def fits(file: PromptFile, desk: Desk) -> bool:
    """Whether the file names this very base. Raises when this server could not run it."""
    engine, settings = desk.room.running.engine, desk.settings
    refused = refusal(file.prompt.kind, engine.base)
    if refused is not None:
        raise PromptError("unsupported_kind", refused)
    verified = check_runs(
        file, engine.base, max_norm=settings.max_norm, require_fingerprint=settings.require_fingerprint
    )
    window = engine.base.shape.window
    if file.prompt.kind == "prefix" and window is not None and file.prompt.length > window:
        raise Unacceptable(
            "prompt_too_long", f"{file.prompt.length} pseudo-tokens reach beyond the base's sliding window of {window}"
        )
    needed = len(_tried(file, desk)) + file.metadata.defaults.get("max_new_tokens", 1)
    if needed > engine.max_total_tokens:
        raise Unacceptable(
            "prompt_too_long",
            f"soft prompt, template and max_new_tokens need {needed} tokens, the context has {engine.max_total_tokens}",
        )
    return verified


async def canary(file: PromptFile, prompt: Prompt, desk: Desk) -> None:
    """One forward pass over everything the task brings. Raises Unacceptable when its logits are not finite."""
    ids = await run_sync(_tried, file, desk)
    if not ids:
        return
    request = Request(f"canary/{secrets.token_hex(8)}", ids, Sampling(max_new_tokens=1), prompt)
    try:
        async with desk.room.running.events([request], canary=True) as events:
            async for _ in events:
                pass
    except Unavailable as fault:
        if fault.code != "non_finite_output":
            raise
        desk.room.running.engine.drop(prompt.digest)
        raise Unacceptable("canary_failed", "a forward pass with this soft prompt gives non-finite logits") from None


async def patch(change: Patch, desk: Desk) -> tuple[Task, bool]:
    """A new version with the current one's tensors and other metadata (RFC 7396). Raises as `publish` does."""
    tasks = desk.room.tasks
    store, named = tasks.store, (change.task, change.merge)
    op_id, given = change.op_id, change.given

    while True:
        file, source = await tasks.reach.ask(store.merged, *named, op_id=op_id, given=given, if_match=change.if_match)
        await run_sync(fits, file, desk)
        prompt = await run_sync(_engine_prompt, file, desk)
        await canary(file, prompt, desk)
        try:
            task, created = await tasks.reach.change(
                store.patch, *named, op_id=op_id, given=given, if_match=source.digest
            )
            break
        except PreconditionFailed:
            # Someone published while this was checked: merge into theirs and check that, unless told not to.
            if change.if_match is not None:
                raise
    tasks.written(task)
    tasks.load(task, prompt)
    return task, created


async def rollback(  # noqa: PLR0913 - the precondition of HTTP and the id of the operation
    name: str, version: int, op_id: str, if_match: str | None, desk: Desk, *, given: bool = False
) -> tuple[Task, bool]:
    """A new version with an old one's content, brought into memory. Raises StoreError or Fault."""
    tasks = desk.room.tasks
    try:
        task, created = await tasks.reach.change(tasks.store.rollback, name, version, op_id, if_match, given=given)
    except Corrupt:
        raise Unacceptable("version_corrupt", "the stored file of that version is damaged", "version") from None
    tasks.written(task)
    with suppress(*KNOWN):  # the version is kept; that it can be run here is for its first request to say
        await tasks.warm(task)
    return task, created


async def delete(name: str, op_id: str, if_match: str | None, desk: Desk, *, given: bool = False) -> Task:
    """A tombstone. What runs goes on with the version it started with."""
    tasks = desk.room.tasks
    tombstone = await tasks.reach.change(tasks.store.delete, name, op_id, if_match=if_match, given=given)
    tasks.written(tombstone)
    return tombstone


async def publish_files(files: Sequence[Path], desk: Desk) -> list[str]:
    """Publish prompt files under their own names; the names of those that fit this base and this context."""
    names = []
    for file in files:
        data = await run_sync(file.read_bytes)
        try:
            await publish(Upload(file.stem, data, op_id=f"packaged-{file.stem}", if_none_match=True), desk)
            names.append(file.stem)
        except PreconditionFailed:
            logger().info("another server has published a packaged task", task=file.stem)
        except (PromptError, Unacceptable) as refused:
            logger().warning("a packaged task is left out", task=file.stem, code=refused.code)
    return names


def _engine_prompt(file: PromptFile, desk: Desk) -> Prompt:
    """Raises Unacceptable for a soft prompt that could never be brought into memory."""
    prompt = engine_prompt(file, _template(file), desk.room.tokenizer)
    try:
        desk.room.running.engine.check(prompt)
    except Unloadable as error:
        raise Unacceptable("prompt_too_long", str(error)) from None
    return prompt


def _template(file: PromptFile) -> Template:
    return Template.parse(file.metadata.template, file.metadata.kind, file.metadata.length)


def _tried(file: PromptFile, desk: Desk) -> tuple[int, ...]:
    """The ids of a request whose inputs are all empty: every row, every literal, and one at least after a prefix."""
    template = _template(file)
    tokenizer = desk.room.tokenizer
    ids = compose(template, dict.fromkeys(template.fields, ""), tokenizer.encode, tokenizer.bos).ids
    if file.prompt.kind == "prefix" and all(item < 0 for item in ids):
        return (*ids, 0)  # a deep prefix is never fed: some id has to read it
    return ids
