"""From a task's name to what the engine needs of it: which version, does it fit this base, its soft prompt in memory.

Knows the store and the engine's memory; no HTTP, no request.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prompt_store.container import DType
from prompt_store.errors import PromptError, TaskDeleted, TaskNotFound, VersionNotFound
from prompt_store.metadata import Kind, Metadata
from prompt_store.prompt import PromptFile, check_fits
from prompt_store.store import Store
from prompt_store.task import Task, is_task_id
from prompt_store.template import Template, head
from server.account import account
from server.config import Settings
from server.current import Current
from server.engine.adapters import MAX_ROWS
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Prompt
from server.errors import KNOWN, Invalid, Unacceptable, Unavailable, as_fault
from server.metrics import Meter
from server.pins import Pins
from server.quarantine import Quarantine
from server.reach import Reach
from server.telemetry import logger
from server.tokenizer import Tokenizer

DTYPES: Mapping[str, DType] = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
BARE = "base"


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a task, ready to run. The bare model is one too: no task, no soft prompt, its inputs as they are."""

    task: Task | None
    metadata: Metadata
    template: Template
    prompt: Prompt | None

    @property
    def name(self) -> str:
        return self.task.name if self.task else BARE

    @property
    def length(self) -> int:
        """Number of pseudo-tokens."""
        return self.metadata.length


_BARE = Served(None, Metadata("text", 0, "{input}", ""), Template.parse("{input}", "text", 0), None)


def refusal(kind: Kind, base: BaseModel) -> str | None:
    """Why this base does not run a kind; None when it does."""
    return base.no_adapters if kind == "adapter" else None


def check_runs(file: PromptFile, base: BaseModel, *, max_norm: float, require_fingerprint: bool = False) -> bool:
    """Whether the file names this very base. Raises PromptError or Unacceptable when the base cannot run it."""
    if file.prompt.kind == "adapter":
        gates, heads = file.prompt.tensors["gate"].shape[1], base.shape.heads
        if file.prompt.length > MAX_ROWS:
            raise Unacceptable("prompt_too_long", f"an adapter may have {MAX_ROWS} rows, got {file.prompt.length}")
        if gates not in {1, heads}:
            raise PromptError("wrong_shape", f"gate must have 1 or {heads} numbers a layer, got {gates}")
    return check_fits(
        file, base.base, max_norm=max_norm, require_fingerprint=require_fingerprint, dtype=computed_in(base)
    )


def computed_in(base: BaseModel) -> DType:
    """The dtype that a soft prompt's numbers must survive."""
    return DTYPES[str(base.dtype)]


def engine_prompt(file: PromptFile, template: Template, tokenizer: Tokenizer) -> Prompt:
    """A prompt file as the engine takes it."""
    ids, tensors = head(template, tokenizer.encode, tokenizer.bos), file.prompt.tensors
    if file.prompt.kind == "embeddings":
        return Prompt(file.digest, np.ascontiguousarray(tensors["embeddings"].float32()), ids)
    if file.prompt.kind == "prefix":
        both = np.stack([tensors["key"].float32(), tensors["value"].float32()], axis=1)
        return Prompt(file.digest, None, ids, prefix=both)
    if file.prompt.kind == "adapter":
        return Prompt(file.digest, None, ids, adapter=(tensors["prompts"].float32(), tensors["gate"].float32()))
    return Prompt(file.digest, None, ids)


class Tasks:
    """`find` answers which version; `served` brings it into memory as well."""

    def __init__(self, reach: Reach, engine: Engine, tokenizer: Tokenizer, settings: Settings, meter: Meter) -> None:
        self.reach = reach
        self.current = Current(reach, meter)
        self.quarantine = Quarantine(settings.quarantine_seconds, meter.quarantined)
        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._meter = meter
        self._pins = Pins(settings.pin, engine)
        self._loading: dict[str, asyncio.Task[Prompt]] = {}

    @property
    def store(self) -> Store:
        return self.reach.store

    async def served(self, name: str | None, version: int | None = None, min_version: int | None = None) -> Served:
        if name is None or name == BARE:
            if version is not None or min_version is not None:
                raise Invalid("invalid_request", "the bare model has no versions", "version")
            account().asked(BARE, None)
            return _BARE
        task = await self.find(name, version, min_version)
        self.quarantine.check(task.digest)
        return await self.bring(task)

    async def warm(self, task: Task) -> None:
        """Bring a version into memory ahead of its first request."""
        served = await self.bring(task)
        if served.prompt is not None:
            self.load(task, served.prompt)

    def load(self, task: Task, prompt: Prompt) -> None:
        """The engine brings the version's soft prompt into memory, to stay if the task is pinned."""
        self._engine.load(prompt, pinned=self.current.is_newest(task) and self._pins.take(task))

    async def bring(self, task: Task) -> Served:
        """A version with its soft prompt in memory. Raises Unavailable for one that this server cannot run."""
        metadata = self.fitting(task)
        template = Template.parse(metadata.template, metadata.kind, metadata.length)
        prompt = await self._prompt(task, template)
        if self._pins.wants(task) and self.current.is_newest(task):
            self.load(task, prompt)
        return Served(task, metadata, template, prompt)

    async def find(self, name: str, version: int | None = None, min_version: int | None = None) -> Task:
        """The current version, or the one asked for. Raises StoreError: a deleted task has no versions to run."""
        if not is_task_id(name):
            raise TaskNotFound("no task can have this name")
        found = await self._visible(name, min_version)
        if version is not None and version != found.version:
            found = await self.reach.ask(self.store.get, name, version)
            if found.event == "delete":
                raise VersionNotFound("that version is a tombstone")
        account().asked(found.name, found.version)
        return found

    def written(self, task: Task) -> None:
        """A version that this server made: no older one counts from here on, and the store is asked next."""
        account().asked(task.name, task.version)
        self.current.written(task)
        self._seen(task)

    async def arrived(self, name: str, min_version: int) -> Task:
        """The newest version, a tombstone too, once it is at least `min_version`. Raises VersionNotVisible."""
        if not is_task_id(name):
            raise TaskNotFound("no task can have this name")
        return self._seen(await self.current.arrived(name, min_version))

    def _seen(self, newest: Task) -> Task:
        if newest.event == "delete":
            self._pins.leave(newest.name)
        return newest

    def fitting(self, task: Task) -> Metadata:
        """The metadata of a version that this server can run. Raises Unavailable."""
        metadata = task.metadata
        if metadata is None:
            raise TaskNotFound("a tombstone cannot be run")
        refused = refusal(metadata.kind, self._engine.base)
        if refused is not None:
            raise Unavailable("unsupported_kind", refused, "task")
        if metadata.base is not None and metadata.base.fingerprint != self._engine.base.base.fingerprint:
            raise Unavailable("wrong_base", "this version was learnt on another base", "task")
        if metadata.base is None and metadata.kind != "text" and self._settings.require_fingerprint:
            raise Unavailable("wrong_base", "this version does not name its base, and this server requires it", "task")
        return metadata

    async def _visible(self, name: str, min_version: int | None) -> Task:
        if min_version is not None:
            return _alive(await self.arrived(name, min_version))
        return _alive(self._seen(await self.current.newest(name, self._settings.freshness_seconds)))

    async def _prompt(self, task: Task, template: Template) -> Prompt:
        """What is resident, else what the store holds: read once, however many requests wait for it."""
        digest = task.digest or ""
        resident = self._engine.resident(digest)
        if resident is not None:
            return resident
        loading = self._loading.get(digest)
        if loading is None:
            loading = asyncio.create_task(self._load(task, template))
            self._loading[digest] = loading
            loading.add_done_callback(lambda done: self._loaded(digest, done))
        return await asyncio.shield(loading)

    def _loaded(self, digest: str, done: "asyncio.Task[Prompt]") -> None:
        del self._loading[digest]
        if not done.cancelled():
            done.exception()  # it is seen here even when every request that waited has gone

    async def _load(self, task: Task, template: Template) -> Prompt:
        began = time.monotonic()
        try:
            prompt = await self.reach.ask(self._read, task, template)
        except KNOWN as error:
            code = as_fault(error).code
            self._meter.not_loaded(code)
            if code == "corrupt":
                logger().error("a version is damaged: softprompt fsck", task=task.name, version=task.version)
            raise
        self._meter.loaded(time.monotonic() - began)
        return prompt

    def _read(self, task: Task, template: Template) -> Prompt:
        file = self.store.load(task)
        try:
            check_runs(file, self._engine.base, max_norm=self._settings.max_norm)
        except (PromptError, Unacceptable):
            raise Unavailable("wrong_base", "the stored file of this version does not fit this base", "task") from None
        return engine_prompt(file, template, self._tokenizer)


def _alive(task: Task) -> Task:
    if task.event == "delete":
        raise TaskDeleted(task)
    return task
