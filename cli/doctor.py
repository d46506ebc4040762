"""`softprompt doctor`: what this machine and this store would do, without starting a server, and whether one answers.

Every line is a check with its answer, and what to do where one failed; the exit code is then 1.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from typer import Option

from cli import machine
from cli.client import Url, show
from cli.finding import Finding, printed
from cli.loading import quietly
from prompt_store.base import SUMS, damaged
from prompt_store.errors import BaseDamaged, PromptError, StoreError
from prompt_store.findings import counted
from prompt_store.prompt import check_fits
from prompt_store.store import Store
from prompt_store.task import Task
from prompt_store.versions import Versions
from server.advisories import outdated
from server.app import load_base
from server.config import EMBEDDED_BASE, Settings, unknown_variables
from server.engine.checkpoint import BadBase, locate
from server.engine.model import BaseModel
from server.lookup import computed_in
from softprompt_client import Client, SoftpromptError
from softprompt_client.errors import NO_ANSWER

PAGE = 1000
SERVER_SECONDS = 3.0
"""For a server to say what it is."""
BUCKETS = {
    "s3": "AWS_ENDPOINT_URL, AWS_REGION and the credentials",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and its key",
}
"""What says where a bucket is and who asks."""


def doctor(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Annotated[str | None, Option(help="Model directory or Hub id; the embedded base if left out.")] = None,
    store: Annotated[str | None, Option(help="A directory or a bucket. Default SOFTPROMPT_STORE, or .store.")] = None,
    weights: Annotated[
        Literal["dtype", "int8"] | None, Option(help="int8: linear layers of 8 bits, as `serve` would have them.")
    ] = None,
    verify: Annotated[bool, Option("--verify", help="Read the whole base and every current prompt file.")] = False,
    url: Url = None,
    as_json: Annotated[bool, Option("--json", help="Print a list of findings: what, answer, good, advice.")] = False,
) -> None:
    """Check the machine, the settings, the base, the store and the server."""
    quietly()
    named = {"model": model, "store": store, "weights": weights}
    given = {name: value for name, value in named.items() if value is not None}
    findings = list(_findings(given, url, verify=verify))
    if as_json:
        show([asdict(finding) for finding in findings])
    else:
        printed(findings, Console(highlight=False))
    raise typer.Exit(int(any(finding.good is False for finding in findings)))


def _findings(given: dict[str, str], url: str | None, *, verify: bool) -> Iterator[Finding]:
    yield from machine.machine()
    yield _packages()
    unknown = unknown_variables()
    advice = f"unset {' '.join(unknown)}; docs/operations.md lists them all" if unknown else None
    said = f"unknown: {', '.join(unknown)}" if unknown else "all known"
    yield Finding("variables", said, good=not unknown, advice=advice)
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # strings, which pydantic checks
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'together'}: {fault['msg']}" for fault in faults)
        yield Finding("settings", said, good=False, advice="the option or the SOFTPROMPT_ variable of that name")
    else:
        yield Finding("settings", "fit together", good=True)
        yield from machine.limits(settings)
        yield from _base_and_store(settings, verify=verify)
    yield _server(url)


def _packages() -> Finding:
    """Against the versions that are known to be vulnerable; what nobody has told this table it does not know."""
    old = outdated()
    said = "; ".join(f"{one.advisory.package} {one.installed}: {one.advisory.names}" for one in old)
    advice = (
        "pip install " + " ".join(f"'{one.advisory.package}>={one.advisory.fixed}'" for one in old) if old else None
    )
    return Finding("packages", said or "none with a vulnerability that this version knows", good=not old, advice=advice)


def _base_and_store(settings: Settings, *, verify: bool) -> Iterator[Finding]:
    base, finding = _base(settings)
    yield finding
    if base is not None:
        yield Finding("weights", f"8 bits in {base.packed} linear layers" if base.int8 else "as the dtype")
        if base.device.type == "cpu":
            yield Finding("kernels for it", base.speedup)
        yield from machine.memory(base, settings)
        if verify:
            yield _whole(settings)
    yield from _store(settings, base, verify=verify)


def _base(settings: Settings) -> tuple[BaseModel | None, Finding]:
    try:
        if finding := machine.too_large(_folder(settings)):
            return None, finding
        base, _ = load_base(settings)
    except (BadBase, BaseDamaged, OSError, ValueError) as error:
        advice = "--model and --weights: docs/operations.md says which bases are served, and on what"
        return None, Finding("base", str(error), good=False, advice=advice)
    where = f"{base.base.name}, {str(base.dtype).removeprefix('torch.')} on {base.device}"
    return base, Finding("base", f"{where}, fingerprint {base.base.fingerprint}", good=True)


def _folder(settings: Settings) -> Path:
    return EMBEDDED_BASE if settings.model is None else locate(settings.model, settings.revision)


def _server(url: str | None) -> Finding:
    """Whether one answers, which is no fault if it does not."""
    try:
        with Client(url, timeout=SERVER_SECONDS, retries=0) as client:
            info, number = client.info(), len(list(client.tasks.list()))
    except ValueError as error:
        return Finding("server", str(error), good=False, advice="--url or SOFTPROMPT_URL, like http://127.0.0.1:8000")
    except SoftpromptError as error:
        if error.code == NO_ANSWER:
            return Finding("server", f"none at {client.url}", advice="softprompt serve, or --url for another address")
        advice = (
            "SOFTPROMPT_API_KEY or SOFTPROMPT_ADMIN_KEY" if error.status == 401 else "docs/errors.md, the server's log"
        )
        return Finding("server", f"{client.url} says {error}", good=False, advice=advice)
    said = f"{client.url} serves {counted(number, 'task')} on {info['model']} ({info['fingerprint'][:12]})"
    return Finding("server", f"{said}, {info['dtype']} on {info['device']}, version {info['version']}", good=True)


def _whole(settings: Settings) -> Finding:
    """Every byte of the base, where its sums were recorded."""
    found = damaged(_folder(settings))
    if found is None:
        return Finding("base, whole files", f"no {SUMS} beside the weights to compare with")
    said = f"damaged: {', '.join(found)}" if found else f"as {SUMS} says"
    return Finding("base, whole files", said, not found, advice="fetch or copy the base anew" if found else None)


def _store(settings: Settings, base: BaseModel | None, *, verify: bool) -> Iterator[Finding]:
    if "://" not in settings.store and not Path(settings.store).is_dir():
        yield Finding("store", f"{settings.store} is not there yet: serving makes it")
        return
    try:
        store = Store.open(settings.store, make=False)
        tasks, hurt = list(_tasks(store)), list(store.damaged())
    except (StoreError, OSError, ValueError) as error:
        yield Finding("store", f"{settings.store}: {error}", good=False, advice=_elsewhere(settings.store))
        return
    yield Finding("store", f"{settings.store}, {counted(len(tasks), 'task')}", good=True)
    for name, said in hurt:
        yield Finding(
            name,
            f"is not served: {said}",
            good=False,
            advice=f"softprompt fsck names the manifest to restore, or {_anew(store, name)}",
        )
    if verify and base is not None:
        for task in tasks:
            yield _verified(store, task, base, settings)


def _tasks(store: Store) -> Iterator[Task]:
    after, more = None, True
    while more:
        page, more = store.list(limit=PAGE, after=after)
        yield from page
        after = page[-1].name if page else None


def _verified(store: Store, task: Task, base: BaseModel, settings: Settings) -> Finding:
    advice: str | None = None
    try:
        file = store.load(task)
        named = check_fits(file, base.base, max_norm=settings.max_norm, dtype=computed_in(base))
    except PromptError as error:
        said, advice = f"does not fit: {error.message}", _anew(store, task.name)
    except StoreError as error:
        said, advice = str(error), f"softprompt fsck --repair --from BACKUP, or {_anew(store, task.name)}"
    else:
        said = "learnt on this base" if named else "base not named"
    return Finding(task.name, f"version {task.version}, {said}", good=advice is None, advice=advice)


def _anew(store: Store, name: str) -> str:
    """A roll-back only where there is something to go back to."""
    several = len(Versions(store.objects).numbers(name)) > 1
    return "publish it again" + f", or softprompt rollback {name} VERSION to a good one" * several


def _elsewhere(place: str) -> str:
    """What to look at when a store cannot be opened: of a bucket, what says where it is and who asks."""
    scheme, separator, _ = place.partition("://")
    if not separator:
        return "--store or SOFTPROMPT_STORE: a directory of a store's own, or a bucket"
    return f"{BUCKETS.get(scheme, '--store or SOFTPROMPT_STORE')}: docs/buckets.md"
