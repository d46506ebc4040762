"""Builds every object once: base, tokenizer, engine, store, routes. Starts and stops the engine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from prompt_store.errors import BaseDamaged, StoreUnavailable, StoreUnsuitable, TaskNotFound
from prompt_store.mounts import file_system, is_local
from prompt_store.store import Store
from server.account import Trace, untraced
from server.api import errors, files, generate, ops, tasks
from server.api import jobs as jobs_api
from server.api.auth import Keys, authorize, is_open
from server.api.guard import Guard
from server.api.leaving import Answering, admit
from server.api.openapi import document
from server.api.queries import check_query
from server.api.turns import InTurn
from server.api.v1 import chat, completions, models
from server.chat import Chat
from server.config import EMBEDDED_BASE, EMBEDDED_TASKS, Settings
from server.engine.checkpoint import BadBase, locate, name_of
from server.engine.engine import Engine
from server.engine.model import FAMILIES, BaseModel
from server.engine.selfcheck import check
from server.engine.settings import EngineSettings
from server.errors import KNOWN, as_fault
from server.heap import give_back, keep_giving_back
from server.jobs.desk import Jobs, NoJobs
from server.jobs.disk import InUseError
from server.jobs.learner import learner
from server.lifecycle import Lifecycle
from server.lookup import Tasks
from server.metrics import Meter
from server.page import routes as page
from server.publish import Desk, publish_files
from server.reach import Reach
from server.rendering import Room
from server.running import Running
from server.telemetry import logger
from server.tokenizer import Tokenizer
from tuning.base import FrozenBase

ROUTERS: Sequence[APIRouter] = (
    generate.router,
    tasks.router,
    completions.router,
    chat.router,
    models.router,
    files.router,
    jobs_api.router,
    ops.router,
    page.router,
)
RETRY_SECONDS = 1.0
SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own spans, where a version has them, tell paths and queries, which are input; ours tell neither."""


@dataclass(frozen=True, slots=True)
class Started:
    """What came up: the desk, which of the packaged tasks were published, and jobs or why there are none.

    `packaged` is None where the store could not be reached yet: they follow when it is.
    """

    desk: Desk
    packaged: list[str] | None
    jobs: Jobs | NoJobs


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Started]:
    """Everything below HTTP, running. Raises BadBase, BaseDamaged, OSError or ValueError, which name what is wrong."""
    base, tokenizer = await run_sync(load_base, settings)
    learning = await run_sync(_learner, base, tokenizer, settings)
    engine = Engine(base, _engine_settings(settings))
    reach = Reach(await run_sync(Store.open, settings.store, settings.bucket_seconds))
    _warn_of_overlay(settings.store)
    engine.start()
    jobs: Jobs | NoJobs = NoJobs("the server is starting")
    later: asyncio.Task[None] | None = None
    chat = Chat(tokenizer.chat_template, tokenizer.special_names)
    about = {"version": ops.VERSION, "model": base.base.name, "fingerprint": base.base.fingerprint}
    meter = Meter(engine.snapshot, about, settings.metrics_tasks)
    tidy = asyncio.create_task(keep_giving_back(lambda: engine.snapshot().counters.forwards, meter.gave_back))
    try:
        meter.watch_store(lambda: reach.down_seconds > 0)
        meter.watch_engine(lambda: engine.pulse.silent_seconds)
        meter.watch_loop(lambda: len(asyncio.all_tasks()))  # scraped in the loop
        await _probe(chat)
        tasks = Tasks(reach, engine, tokenizer, settings, meter)
        room = Room(tasks, Running(engine, tasks.quarantine), tokenizer, meter, chat)
        desk = Desk(room, settings)
        packaged = await _stocked(desk) if await _reached(reach) else None
        if packaged is None:
            later = asyncio.create_task(_stocked_later(desk))
        jobs = await _jobs(learning, desk)
        if isinstance(jobs, Jobs):
            meter.watch_jobs(jobs.records.counts)
        await run_sync(give_back)  # what loading needed
        yield Started(desk, packaged, jobs)
    finally:
        tidy.cancel()
        if later is not None:
            later.cancel()
        await run_sync(chat.close)
        await run_sync(jobs.close)
        await run_sync(engine.close, settings.drain_seconds)
        await reach.close()


async def _probe(chat: Chat) -> None:
    """A server whose base has a chat template that finds no end serves everything else."""
    off = await chat.probe()
    if off is not None:
        logger().warning("conversations are refused", reason=off)


def _warn_of_overlay(store: str) -> None:
    if is_local(store) and file_system(Path(store)) == "overlay":
        logger().warning("the store is on an overlay file system: it goes when the container does", store=store)


async def _reached(reach: Reach) -> bool:
    """A bucket may come later than the server, which waits for it. Raises StoreUnsuitable for one that never can."""
    try:
        await reach.look()
    except StoreUnsuitable:
        raise
    except StoreUnavailable:
        return False
    return True


async def _stocked(desk: Desk) -> list[str]:
    """Packaged tasks are published where the store is new, pinned ones brought into memory. Gives the former."""
    tasks, settings = desk.room.tasks, desk.settings
    wanted = await tasks.reach.ask(unpublished, tasks.store, EMBEDDED_TASKS) if settings.embedded else []
    packaged = await publish_files(wanted, desk)
    await _bring_pinned(tasks, settings.pin)
    return packaged


async def _stocked_later(desk: Desk) -> None:
    """Once the store is there; and again, where it goes away meanwhile."""
    reach = desk.room.tasks.reach
    while True:
        await reach.there()
        try:
            packaged = await _stocked(desk)
        except KNOWN:
            await asyncio.sleep(RETRY_SECONDS)
        else:
            logger().info("the packaged tasks are published", tasks=packaged)
            return


def _learner(base: BaseModel, tokenizer: Tokenizer, settings: Settings) -> FrozenBase | NoJobs:
    if not settings.jobs:
        return NoJobs("this server was started without a folder for jobs")
    try:
        return learner(base, tokenizer)
    except ValueError as error:
        return NoJobs(str(error))


async def _jobs(learning: FrozenBase | NoJobs, desk: Desk) -> Jobs | NoJobs:
    """A server that cannot learn serves all the same."""
    if isinstance(learning, NoJobs):
        return learning
    try:
        return await Jobs.open(learning, desk)
    except InUseError as error:
        return NoJobs(str(error))
    except OSError as error:
        return NoJobs(f"the folder of jobs cannot be used: {error.strerror}")


async def _bring_pinned(tasks: Tasks, names: Sequence[str]) -> None:
    """What can be is in memory before the first request; the rest when it comes."""
    for name in names:
        try:
            await tasks.warm(await tasks.find(name))
        except KNOWN as error:
            logger().warning("a pinned task is not in memory", task=name, code=as_fault(error).code)


def load_base(settings: Settings) -> tuple[BaseModel, Tokenizer]:
    """The base and its tokenizer, which must not know more ids than the base has rows."""
    if settings.model is None and not (EMBEDDED_BASE / "config.json").is_file():
        raise BadBase("this installation has no embedded base: name one with --model")
    path = EMBEDDED_BASE if settings.model is None else locate(settings.model, settings.revision)
    try:
        return _loaded(path, name_of(settings.model or str(path)), settings)
    except (BadBase, BaseDamaged, OSError):
        raise
    except Exception as error:  # transformers raises whatever a config makes it stumble over
        raise BadBase(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error


def _loaded(path: Path, name: str, settings: Settings) -> tuple[BaseModel, Tokenizer]:
    how = settings.model_dump(include={"device", "dtype", "weights", "native"})
    base = BaseModel.load(path, name=name, **how)
    if base.config.model_type not in FAMILIES:
        found = check(base)
        logger().info("an untried family answers alike", model_type=base.config.model_type, difference=found)
    tokenizer = _tokenizer(path)
    if tokenizer.size > base.shape.vocabulary:
        raise BadBase(f"{path}: the tokenizer has {tokenizer.size} ids, the base {base.shape.vocabulary} rows")
    return base, tokenizer


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.load(path)
    except Exception as error:  # whatever a damaged file makes the libraries stumble over
        raise BadBase(f"{path / 'tokenizer.json'} and what belongs to it give no tokenizer: {error}") from error


def unpublished(store: Store, packaged: Path) -> list[Path]:
    """The files of packaged tasks without a history, as long as the store holds nobody else's.

    All of them on an empty store; the rest after a first start that was cut short; never one that somebody deleted.
    """
    files = {path.stem: path for path in sorted(packaged.glob("*.safetensors"))}
    known, _ = store.list(limit=len(files) + 1)
    if any(task.name not in files for task in known):
        return []
    return [path for name, path in files.items() if not _has_history(store, name)]


def _has_history(store: Store, name: str) -> bool:
    try:
        return bool(store.versions(name))
    except TaskNotFound:
        return False


def _engine_settings(settings: Settings) -> EngineSettings:
    return EngineSettings(
        max_total_tokens=settings.max_total_tokens,
        max_batch=settings.max_batch,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        queue_seconds=settings.queue_seconds,
        kv_budget=settings.kv_budget,
        prompt_budget=settings.prompt_budget,
        text_budget=settings.text_budget,
        threads=settings.threads,
        deterministic=settings.deterministic,
    )


def build(up: Started, lifecycle: Lifecycle, trace: Trace = untraced) -> ASGIApp:
    """The application: every route of ours behind the guard and the keys."""
    app = FastAPI(
        title="softprompt",
        version=ops.VERSION,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=SILENT,
        dependencies=[Depends(authorize), Depends(admit), Depends(check_query)],
    )
    desk = up.desk
    app.state.desk = desk
    app.state.jobs = up.jobs
    app.state.settings = desk.settings
    app.state.lifecycle = lifecycle
    app.state.keys = Keys(desk.settings)
    app.state.methods = methods_of
    app.state.document = cache(partial(_document, app))
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return Guard(Answering(InTurn(app), lifecycle), desk.settings, desk.room.meter, trace)


def _document(app: FastAPI) -> dict[str, Any]:
    """Takes a second of a busy server: once is enough."""
    open_paths = {route.path for route in routes() if is_open(route)}
    return document(app, closed=app.state.keys.closed, open_paths=open_paths)


def routes() -> list[APIRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def methods_of(path: str) -> list[str]:
    """What the routes of a path answer to: the Allow header of a 405."""
    return sorted({method for route in routes() if route.path_regex.match(path) for method in route.methods or ()})
