"""multipart/form-data: the one form that we take, an upload of /v1/files. The whole body has come already.

Knows parts and their names; not what a file is for.
"""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from server.errors import Invalid, Unsupported

KIND = "multipart/form-data"
MAX_FIELDS = 16
MAX_FIELD_BYTES = 1024
MAX_NAME = 255


@dataclass(slots=True)
class Form:
    """Fields by name, and the one file with the name that the client gave it."""

    fields: dict[str, str] = field(default_factory=dict)
    file: bytes | None = None
    filename: str = ""


class _Reader:
    """What the parser calls, part by part."""

    def __init__(self) -> None:
        self.form = Form()
        self.whole = False

    def field(self, found: Field) -> None:
        name, value = (found.field_name or b"").decode(), (found.value or b"").decode()
        if len(self.form.fields) == MAX_FIELDS or len(value) > MAX_FIELD_BYTES:
            raise Invalid("invalid_request", f"a form may have {MAX_FIELDS} fields of {MAX_FIELD_BYTES} bytes")
        if name in self.form.fields:
            raise Invalid("invalid_request", "a field of the form stands twice")
        self.form.fields[name] = value

    def file(self, found: File) -> None:
        if found.field_name != b"file" or self.form.file is not None:
            raise Invalid("invalid_request", "the form must have one file, in the part `file`", "file")
        self.form.filename = (found.file_name or b"").decode()[:MAX_NAME]
        found.file_object.seek(0)
        self.form.file = found.file_object.read()
        found.close()

    def end(self) -> None:
        self.whole = True


def parse(body: bytes, content_type: str) -> Form:
    """The form. Raises Unsupported for another media type, Invalid for what is no form or ends early."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != KIND.encode() or not boundary:
        raise Unsupported("unsupported_media_type", f"a file comes as {KIND}, with a boundary")
    reader = _Reader()
    in_memory = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    try:
        parser = FormParser(KIND, reader.field, reader.file, reader.end, boundary, config=in_memory)
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError):
        raise Invalid("invalid_request", "the body is not a form") from None
    if not reader.whole:
        raise Invalid("invalid_request", "the form ends in the middle")
    return reader.form
