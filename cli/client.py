"""What the client commands share: where the server is, the key, and how its errors are told.

Knows HTTP and nothing of tasks.
"""

import json
from typing import Annotated, Any, NoReturn

import httpx
import typer
from typer import Option

from server.config import ClientSettings

FAILED = 1
SECONDS = 120.0

Url = Annotated[str | None, Option(help="Address of the server. Default http://127.0.0.1:8000 or SOFTPROMPT_URL")]
AsJson = Annotated[bool, Option("--json", help="Print the server's answer as it is")]


def call(method: str, path: str, *, url: str | None = None, **request: Any) -> httpx.Response:
    """The answer of a request that went well; else its error on the screen and exit code 1."""
    settings = ClientSettings()
    headers = {**request.pop("headers", {})}
    if settings.key:
        headers["Authorization"] = f"Bearer {settings.key}"
    address = (url or settings.url).rstrip("/")
    if "://" not in address:
        fail(f"{address} is no address: http:// or https:// is wanted in front")
    try:
        answer = httpx.request(method, f"{address}{path}", headers=headers, timeout=SECONDS, **request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"{address} did not answer ({error}); another address: --url or SOFTPROMPT_URL")
    if answer.is_error:
        fail(_told(answer))
    return answer


def fail(message: str) -> NoReturn:
    typer.echo(f"softprompt: {message}", err=True)
    raise typer.Exit(FAILED)


def show(answer: Any) -> None:
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))


def _told(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{answer.status_code} {error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}"
