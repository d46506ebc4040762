"""`softprompt serve`: options to settings, what was chosen on the screen, the server until a signal."""

from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

from cli.loading import quietly
from prompt_store.findings import size
from server.app import Started
from server.config import Settings
from server.jobs.desk import Jobs
from server.serve import start

CANNOT_START = 2


def serve(  # noqa: PLR0913, PLR0917 - one argument per option of design/20
    model: Annotated[str | None, Option(help="Model directory or Hub id; the embedded base if left out.")] = None,
    store: Annotated[
        str | None, Option(help="Where tasks are: a directory, s3://, gs://, az://, memory://. Default .store.")
    ] = None,
    jobs: Annotated[str | None, Option(help="Folder of tuning jobs, empty for none. Default .jobs.")] = None,
    host: Annotated[str | None, Option(help="Address to bind. Default 127.0.0.1.")] = None,
    port: Annotated[int | None, Option(help="Port to bind, 0 for any. Default 8000.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, Option(help="Default auto.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        Option(help="Default auto: bfloat16, or float32 for a small base on a CPU."),
    ] = None,
    weights: Annotated[
        Literal["dtype", "int8"] | None, Option(help="int8: linear layers of 8 bits, faster and a little coarser.")
    ] = None,
    threads: Annotated[int | None, Option(help="Threads of the engine. Default: torch's own choice.")] = None,
    max_total_tokens: Annotated[int | None, Option(help="Longest sequence. Default: the base's context.")] = None,
    kv_budget: Annotated[str | None, Option(help="Memory for keys and values, like 4GiB.")] = None,
    prompt_budget: Annotated[str | None, Option(help="Memory for soft prompts, like 512MiB.")] = None,
    text_budget: Annotated[str | None, Option(help="Memory for texts that requests begin with alike.")] = None,
    pin: Annotated[str | None, Option(help="Tasks whose soft prompts leave the memory last, like a,b.")] = None,
    tls_cert: Annotated[str | None, Option(help="Serve https: certificate and chain, a PEM file.")] = None,
    tls_key: Annotated[str | None, Option(help="Its key, a PEM file, unless the certificate's has it.")] = None,
    tls_key_password_file: Annotated[str | None, Option(help="File with the key's password.")] = None,
    tls_client_ca: Annotated[str | None, Option(help="PEM file: let in only clients whom it signed.")] = None,
    revision: Annotated[str | None, Option(help="Revision of a Hub id.")] = None,
    native: Annotated[
        bool | None,
        Option("--native/--no-native", help="Kernels of our own: in C on a CPU, in Triton on a GPU. Default: yes."),
    ] = None,
    deterministic: Annotated[
        bool | None, Option("--deterministic", help="No neighbour changes a bit of an answer's logits; slower.")
    ] = None,
    insecure: Annotated[bool | None, Option("--insecure", help="Let others in without keys.")] = None,
) -> None:
    """Serve one frozen base and the tasks of a store.

    Every option has a SOFTPROMPT_* variable of its name; the option wins. Other settings are variables alone
    (docs/operations.md).
    """
    _start({name: value for name, value in locals().items() if value is not None})


def _start(given: dict[str, Any]) -> None:
    """The server with these settings over the environment's; what cannot be is said in a line each, exit code 2."""
    quietly()
    for line in start(given, announce):
        typer.echo(f"softprompt serve: {line}", err=True)
    raise typer.Exit(CANNOT_START)


def _context(settings: Settings, longest: int) -> str:
    asked = settings.max_total_tokens
    return f", the base's context, not {asked}" if asked and asked > longest else ""


def announce(settings: Settings, up: Started) -> None:
    """What was chosen."""
    engine = up.desk.room.running.engine
    snapshot = engine.snapshot()
    rows: dict[str, Any] = {
        "base": f"{'embedded' if settings.embedded else settings.model} ({engine.base.base.fingerprint[:12]})",
        "device, dtype": f"{engine.base.device}, {str(engine.base.dtype).removeprefix('torch.')}",
        "weights": f"8 bits in {engine.base.packed} linear layers" if engine.base.int8 else "as the dtype",
        "threads": engine.threads,
        "native kernels": engine.base.speedup,
        "longest sequence": f"{engine.max_total_tokens} tokens{_context(settings, engine.max_total_tokens)}",
        "at once": f"{snapshot.slots} sequences, keys and values within {size(settings.kv_budget)}",
        "soft prompts in memory": f"within {size(settings.prompt_budget)}",
        "pinned": ", ".join(settings.pin) or "none",
        "texts in memory": f"within {size(settings.text_budget)}",
        "the same bits in any batch": "yes" if settings.deterministic else "no",
        "store": settings.store,
        "tasks": _tasks(settings, up),
        "tuning jobs": settings.jobs if isinstance(up.jobs, Jobs) else f"none: {up.jobs.reason}",
        "keys": _keys(settings),
        "address": f"{settings.scheme}://{settings.host}:{settings.port}",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console().print(table)


def _keys(settings: Settings) -> str:
    if not settings.closed:
        return "none: whoever reaches this address may do everything"
    return "needed" if settings.admin_key else "needed; nobody may publish, as SOFTPROMPT_ADMIN_KEY is not set"


def _tasks(settings: Settings, up: Started) -> str:
    if up.packaged is None:
        return "not known yet: the store cannot be reached, and is asked again and again"
    if up.packaged:
        return f"published the packaged ones: {', '.join(up.packaged)}"
    if up.desk.room.tasks.store.list(limit=1)[0]:
        return "those of the store"
    return "none yet" if settings.embedded else "none yet: the packaged ones fit the embedded base only"
