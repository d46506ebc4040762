"""/v1/files: rows to learn from come in, results go out, as OpenAI's clients send and read them."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from server.api import multipart, wire
from server.api.auth import Access, needs
from server.api.body import read_bytes
from server.api.conditions import operation_id
from server.api.errors import documented
from server.api.job_answers import FileDeleted, FileList, FileObject, file_object, page
from server.api.jobs_of import jobs_of
from server.api.openapi import takes
from server.api.queries import FilePage
from server.errors import Invalid
from server.jobs.files import TRAINING

router = APIRouter(tags=["tuning"])
PIECE = 256 * 2**10
"""Bytes of a file that are read at once."""
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            multipart.KIND: {
                "example": {"file": '{"text": "play some jazz", "act": "request"}', "purpose": TRAINING},
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "JSONL, or CSV if so named"},
                        "purpose": {"const": TRAINING},
                    },
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                },
            }
        },
    }
}
PURPOSE = f"files are rows to learn from: purpose must be {TRAINING}"


@router.post(
    "/v1/files",
    summary="Upload rows to learn from",
    response_model=FileObject,
    responses=documented(408, 409, 413, 415, 422, 507),
    openapi_extra=takes("Idempotency-Key", body=FORM),
)
@needs(Access.ADMIN)
async def upload(request: Request) -> Response:
    jobs, settings = jobs_of(request), request.app.state.settings
    body = await read_bytes(request, settings.max_upload_bytes, settings.receive_seconds)
    form = await run_sync(multipart.parse, body, request.headers.get("content-type", ""))
    if form.file is None:
        raise Invalid("invalid_request", "the form has no file", "file")
    if form.fields.get("purpose") != TRAINING:
        raise Invalid("invalid_request", PURPOSE, "purpose")
    others = form.fields.keys() - {"purpose"}
    if others:
        raise Invalid("unknown_field", "the form has a field that this server does not know: it takes file and purpose")
    return wire.answer(file_object(await jobs.upload(form.file, form.filename, operation_id(request))))


@router.get("/v1/files", summary="List files", response_model=FileList, responses=documented())
@needs(Access.ADMIN)
async def list_files(request: Request, query: Annotated[FilePage, Query()]) -> Response:
    found = [one for one in jobs_of(request).files.all() if query.purpose in {None, one.purpose}]
    ordered = found if query.order == "asc" else found[::-1]
    return wire.answer(page([file_object(one) for one in ordered], query.after, query.limit))


@router.get("/v1/files/{file}", summary="One file", response_model=FileObject, responses=documented(404))
@needs(Access.ADMIN)
async def get_file(request: Request, file: str) -> Response:
    return wire.answer(file_object(jobs_of(request).files.get(file)))


@router.get(
    "/v1/files/{file}/content",
    summary="What a file holds, byte for byte",
    response_class=Response,
    responses={200: {"description": "The bytes", "content": {"application/octet-stream": {}}}, **documented(404)},
)
@needs(Access.ADMIN)
async def get_content(request: Request, file: str) -> Response:
    files = jobs_of(request).files
    opened = await run_sync(files.opened, files.get(file))
    size = {"content-length": str(os.fstat(opened.fileno()).st_size)}
    return StreamingResponse(_pieces(opened), media_type="application/octet-stream", headers=size)


async def _pieces(opened: BinaryIO) -> AsyncIterator[bytes]:
    """As its client takes them: a file is never held in memory as a whole."""
    with opened:
        while piece := await run_sync(opened.read, PIECE):
            yield piece


@router.delete("/v1/files/{file}", summary="Delete a file", response_model=FileDeleted, responses=documented(404, 409))
@needs(Access.ADMIN)
async def delete_file(request: Request, file: str) -> Response:
    deleted = await jobs_of(request).delete(file)
    return wire.answer({"id": deleted.id, "object": "file", "deleted": True})
