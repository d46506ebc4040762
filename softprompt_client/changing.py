"""The routes of /tasks, each as a call. Knows the contract's paths, queries and headers; sends nothing."""

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx

from softprompt_client.answers import Changed, Kind, NearRow, PromptFile, Task, TaskPage, Version, VersionDetail
from softprompt_client.call import Call, holding, listed
from softprompt_client.errors import garbled
from softprompt_client.peft import read_directory

NO_CONTENT = 204
FILE, JSON = "application/octet-stream", "application/json"
LONGEST_PAGE = 1000
TASK = holding({"id": str, "version": int, "digest": str})
VERSION = holding({"version": int, "event": str})
DATA = listed("data")
PAGE = holding({"data": list, "has_more": bool})


def list_tasks(
    *, kind: Kind | None = None, search: str = "", order: Literal["asc", "desc"] = "asc", page: int = LONGEST_PAGE
) -> Call[TaskPage]:
    """Every task, by id; `search`: only ids that begin so. Pages are fetched as they are needed."""
    narrowed: dict[str, str] = ({"kind": kind} if kind else {}) | ({"search": search} if search else {})
    return Call("GET", "/tasks", _page, query={"limit": page, "order": order, **narrowed})


def next_page(call: Call[TaskPage], page: TaskPage) -> Call[TaskPage] | None:
    """What follows, if anything does."""
    last = page.get("last_id") if page["has_more"] else None
    return None if last is None else replace(call, query={**call.query, "after": last})


def get(task: str, *, min_version: int | None = None) -> Call[Task]:
    """The current version. `min_version`: wait up to a second for one that another server published."""
    return Call("GET", _path(task), TASK, query=_given(min_version=min_version))


def versions(task: str, *, min_version: int | None = None) -> Call[list[Version]]:
    """A task's history, newest first, of a deleted task too."""
    return Call("GET", _path(task, "/versions"), DATA, query=_given(min_version=min_version))


def version(task: str, number: int, *, min_version: int | None = None) -> Call[VersionDetail]:
    """One version, with the task as it was."""
    return Call("GET", _path(task, f"/versions/{number}"), VERSION, query=_given(min_version=min_version))


def prompt(task: str, number: int, *, min_version: int | None = None) -> Call[PromptFile]:
    """The stored file of a version, byte for byte, its digest checked."""

    def read(response: httpx.Response) -> PromptFile:
        digest = hashlib.sha256(response.content).hexdigest()
        if response.headers.get("etag", "").strip('"') != digest:
            raise garbled(response, "the file is not the one that its digest names: it was damaged on the way")
        return PromptFile(number, digest, response.content)

    return Call("GET", _path(task, f"/versions/{number}/prompt"), read, query=_given(min_version=min_version))


def nearest(task: str, k: int = 5, *, min_version: int | None = None) -> Call[list[NearRow]]:
    """The k tokens that each pseudo-token is nearest to; of kinds embeddings and adapter."""
    return Call("GET", _path(task, "/nearest"), DATA, query=_given(k=k, min_version=min_version))


def publish(  # noqa: PLR0913 - one argument per query parameter and condition of an upload
    task: str,
    source: bytes | str | Path | Mapping[str, Any],
    *,
    template: str | None = None,
    target_delimiter: str | None = None,
    labels: Sequence[str] | None = None,
    description: str | None = None,
    kind: Kind | None = None,
    task_index: int | None = None,
    create_only: bool = False,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Changed]:
    """A new version. `source`: a file's bytes; a path of a prompt file, of a PEFT directory or of a text task's
    `.json`; or a text task as a mapping. What stands between `kind` and `task_index` is for a bare PEFT file, which
    says nothing about text. `if_match`: only if this is the current digest.

    Raises OSError or ValueError for a path that cannot be read, and ValueError for a label with a comma.
    """
    if labels is not None and any("," in label for label in labels):
        raise ValueError("a label with a comma: publish the file first, then patch its labels")
    content, media_type, learnt_as = _content(source)
    query = _given(
        template=template,
        target_delimiter=target_delimiter,
        labels=None if labels is None else ",".join(labels),
        description=description,
        kind=kind or learnt_as,
        task_index=task_index,
    )
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    headers = {"Content-Type": media_type, "Content-Digest": f"sha-256=:{digest}:"}
    headers |= {"If-None-Match": "*"} if create_only else {}
    headers |= _operation(if_match, idempotency_key)
    return Call("PUT", _path(task), _changed, content=content, query=query, headers=headers)


def patch(
    task: str, change: Mapping[str, Any], *, if_match: str | None = None, idempotency_key: str | None = None
) -> Call[Changed]:
    """A new version with the same tensors: template, labels, defaults, description, target_delimiter (RFC 7396)."""
    return Call("PATCH", _path(task), _changed, dict(change), headers=_operation(if_match, idempotency_key))


def rollback(
    task: str, number: int, *, if_match: str | None = None, idempotency_key: str | None = None
) -> Call[Changed]:
    """A new version with the content of an old one; brings a deleted task back."""
    headers = _operation(if_match, idempotency_key)
    return Call("POST", _path(task, "/rollback"), _changed, {"version": number}, headers=headers)


def delete(task: str, *, if_match: str | None = None, idempotency_key: str | None = None) -> Call[None]:
    """A tombstone; the versions stay, and `rollback` brings the task back."""
    return Call("DELETE", _path(task), _nothing, headers=_operation(if_match, idempotency_key))


def _content(source: bytes | str | Path | Mapping[str, Any]) -> tuple[bytes, str, Kind | None]:
    """Bytes, their type, and the kind where a PEFT directory says it."""
    if isinstance(source, bytes):
        return source, FILE, None
    if isinstance(source, Mapping):
        return json.dumps(source, ensure_ascii=False).encode(), JSON, None
    path = Path(source)
    if path.is_dir():
        data, kind = read_directory(path)
        return data, FILE, kind
    return path.read_bytes(), JSON if path.suffix == ".json" else FILE, None


def _path(task: str, below: str = "") -> str:
    """A name of dots alone would be taken for a place in the path."""
    name = quote(task, safe="")
    return f"/tasks/{name if name.strip('.') else name.replace('.', '%2E')}{below}"


def _given(**query: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in query.items() if value is not None}


def _operation(if_match: str | None, key: str | None) -> dict[str, str]:
    """Every change names its operation: an answer that was lost can be asked for again."""
    condition = {} if if_match is None else {"If-Match": f'"{if_match}"'}
    return {**condition, "Idempotency-Key": key or uuid.uuid4().hex}


def _page(response: httpx.Response) -> TaskPage:
    DATA(response)
    page: TaskPage = PAGE(response)
    return page


def _changed(response: httpx.Response) -> Changed:
    return Changed(TASK(response), response.status_code == 201, response.headers.get("x-operation-id", ""))


def _nothing(response: httpx.Response) -> None:
    if response.status_code != NO_CONTENT:
        raise garbled(response, "a deletion is answered with nothing: is this a softprompt server?")
