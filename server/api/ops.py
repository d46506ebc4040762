"""Is it alive, is it ready, what is it: the probes, /info, /version and the OpenAPI document."""

from dataclasses import asdict
from importlib.metadata import version

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from prompt_store.metadata import KINDS
from server.api import wire
from server.api.answers import Health, Info, VersionAnswer
from server.api.auth import Access, needs
from server.api.desk_of import desk_of
from server.api.errors import documented
from server.api.limits import limits
from server.engine.engine import Engine
from server.errors import Unavailable
from server.lookup import refusal

router = APIRouter(tags=["operations"])
VERSION = version("softprompt-server")
OK = {"status": "ok"}
DEGRADED = {"status": "degraded"}
"""The store is down: what is known is served, nothing is published."""


DEAD_AFTER = 6
"""Times `stall_seconds`: a pass that takes so long is not slow, and only a restart helps."""


def check_alive(request: Request) -> None:
    """Raises Unavailable once the engine's thread has given up or has been in one pass for very long."""
    engine = desk_of(request).room.running.engine
    if not engine.healthy:
        raise Unavailable("engine_failed", "the engine has stopped")
    _check_goes_on(engine, DEAD_AFTER * request.app.state.settings.stall_seconds)


def check_ready(request: Request) -> None:
    """Raises Unavailable as long as new requests should go elsewhere."""
    check_alive(request)
    if request.app.state.lifecycle.draining:
        raise Unavailable("draining", "the server is shutting down")
    desk = desk_of(request)
    _check_goes_on(desk.room.running.engine, desk.settings.stall_seconds)
    reach = desk.room.tasks.reach
    if not reach.reached:
        raise Unavailable("store_unavailable", "the store has not been reached yet")
    if reach.down_seconds > desk.settings.staleness_seconds:
        raise Unavailable("store_unavailable", "the store has been out of reach for too long")


def _check_goes_on(engine: Engine, seconds: float) -> None:
    if engine.pulse.silent_seconds > seconds:
        raise Unavailable("engine_stalled", f"the engine has been in one pass for more than {seconds:g} seconds")


@router.get("/livez", summary="Is the process worth keeping?", response_model=Health, responses=documented())
@needs(Access.OPEN)
async def livez(request: Request) -> Response:
    check_alive(request)
    return wire.answer(OK)


@router.get("/readyz", summary="Should requests come here?", response_model=Health, responses=documented())
@needs(Access.OPEN)
async def readyz(request: Request) -> Response:
    check_ready(request)
    return wire.answer(DEGRADED if desk_of(request).room.tasks.reach.down_seconds else OK)


@router.get("/startupz", summary="Has it started?", response_model=Health, responses=documented())
@needs(Access.OPEN)
async def startupz() -> Response:
    return wire.answer(OK)


@router.get("/health", summary="The same as /readyz", response_model=Health, responses=documented())
@needs(Access.OPEN)
async def health(request: Request) -> Response:
    return await readyz(request)


@router.get("/ping", summary="The same as /readyz, for who has a key", response_model=Health, responses=documented())
@needs(Access.GENERATE)
async def ping(request: Request) -> Response:
    return await readyz(request)


@router.get("/version", summary="The server's version", response_model=VersionAnswer, responses=documented())
@needs(Access.GENERATE)
async def version_route() -> Response:
    return wire.answer({"version": VERSION})


@router.get("/info", summary="What is served, and every bound", response_model=Info, responses=documented())
@needs(Access.GENERATE)
async def info(request: Request) -> Response:
    engine = desk_of(request).room.running.engine
    base = engine.base
    return wire.answer(
        {
            "model": base.base.name,
            "fingerprint": base.base.fingerprint,
            "dtype": str(base.dtype).removeprefix("torch."),
            "weights": "int8" if base.int8 else "dtype",
            "native_kernels": base.speedup,
            "deterministic": request.app.state.settings.deterministic,
            "device": str(base.device),
            "max_total_tokens": engine.max_total_tokens,
            "kinds": sorted(kind for kind in KINDS if refusal(kind, engine.base) is None),
            "version": VERSION,
            "vocabulary": engine.vocab_size,
            "limits": limits(request.app.state.settings, engine.admission.most.tokens),
            "engine": asdict(engine.snapshot()),
        }
    )


@router.get(
    "/metrics",
    summary="For Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}, **documented()},
)
@needs(Access.GENERATE)
async def metrics(request: Request) -> Response:
    return Response(desk_of(request).room.meter.text(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/openapi.json",
    summary="This document",
    response_class=Response,
    responses={200: {"description": "OpenAPI 3.1", "content": {"application/json": {}}}, **documented()},
)
@needs(Access.GENERATE)
async def openapi(request: Request) -> Response:
    return wire.answer(request.app.state.document())
