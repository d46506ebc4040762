"""Every setting of the server, frozen, checked once at the start. The only reader of the environment.

A command-line option wins over its SOFTPROMPT_* variable, which wins over the default. Knows nothing of what is built
from it.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from prompt_store.mounts import is_local, unfit_for_a_store
from server.key_files import Unread, with_keys_of_files

PREFIX = "SOFTPROMPT_"
EMBEDDED_BASE = Path(__file__).parent / "default" / "base"
EMBEDDED_TASKS = Path(__file__).parent / "default" / "tasks"
MIN_KEY = 16
OPEN_TO_STRANGERS = "an address that others reach needs SOFTPROMPT_API_KEY or SOFTPROMPT_ADMIN_KEY"
OTLP_HTTP = "http/protobuf"
LOOPBACK_NAMES = ("localhost",)
CLIENTS_OWN = ("url",)
"""What clients alone read: where the server is."""

ANY_ORIGIN = "*"
ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
HOST_NAME = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]"
PYDANTICS = "Value error, "  # in front of what a validator of ours says
SIZE = re.compile(r"([0-9]+)\s*([KMGT]?)(i?B)?", re.IGNORECASE)


def _bytes(value: Any) -> Any:
    """A number of bytes, or a text like 512M or 4GiB; K is 1024."""
    if not isinstance(value, str):
        return value
    match = SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("a number of bytes is wanted, or one with its unit: 512M, 4GiB")
    return int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")


class BadSettings(ValueError):  # noqa: N818 - the settings are
    """`lines`: one for each thing that is wrong."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


Keys = Annotated[tuple[SecretStr, ...], NoDecode]
Bytes = Annotated[int, Field(gt=0), BeforeValidator(_bytes)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name that is no address is taken as reachable from elsewhere."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Of one server. Raises pydantic's ValidationError; `read` tells everything that is wrong, in a line each.

    What two settings are together is checked with the later one, so that no fault hides another.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=False, hide_input_in_errors=True
    )

    model: str | None = None
    revision: str | None = None
    store: str = ".store"
    jobs: str = ".jobs"
    """The folder of tuning jobs and their files, one server's at a time; empty: this server learns nothing."""
    port: int = Field(default=8000, ge=0, le=65535)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    weights: Literal["dtype", "int8"] = "dtype"
    threads: int | None = Field(default=None, ge=1, le=1024)
    native: bool = True
    deterministic: bool = False
    max_total_tokens: int | None = Field(default=None, ge=2)
    max_batch: int = Field(default=64, ge=1, le=4096)
    max_waiting: int = Field(default=1024, ge=1)
    max_waiting_tokens: int | None = Field(default=None, ge=1)
    """Ids that those who wait may cost, read and generated; None: eight times what the K/V cache holds, or 65,536."""
    queue_seconds: float = Field(default=60.0, gt=0, le=3600)
    """For who waits for the batch, after which the client is told to come later."""
    kv_budget: Bytes = 4 * 2**30
    prompt_budget: Bytes = 512 * 2**20
    text_budget: Annotated[int, Field(ge=0), BeforeValidator(_bytes)] = 256 * 2**20
    pin: Annotated[tuple[str, ...], NoDecode] = ()
    metrics_tasks: int = Field(default=100, ge=0, le=10_000)
    """Tasks with a label of their own in /metrics."""
    jobs_budget: Bytes = 2**30
    """Bytes of all uploaded files and results together."""
    jobs_save_seconds: float = Field(default=20.0, ge=0, le=3600)
    """Between two checkpoints of a job: what a kill may cost it."""

    api_key: Keys = ()
    admin_key: Keys = ()
    api_key_file: str | None = None
    admin_key_file: str | None = None
    """Files that hold the keys, one a line."""
    insecure: bool = False
    host: str = "127.0.0.1"
    tls_cert: str | None = None
    """PEM: the certificate and what stands between it and its root; with the key in it, if tls_key is not set."""
    tls_key: str | None = None
    tls_key_password_file: str | None = None
    tls_client_ca: str | None = None
    """PEM: who signs the certificates that clients must show."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call this server, as a browser names them; `*` is every one, and wants keys."""
    require_fingerprint: bool = False
    max_norm: float = Field(default=1e6, gt=0, allow_inf_nan=False)

    max_upload_bytes: Bytes = 64 * 2**20
    max_body_bytes: Bytes = 4 * 2**20
    bodies_budget: Bytes = 256 * 2**20
    """Of all bodies that are held at once; the first 64 KiB of each are not counted."""
    answers_budget: Bytes = 256 * 2**20
    """Of all answers that wait for their clients to take them; the first 256 KiB of each are not counted."""
    max_header_bytes: Bytes = 32 * 2**10
    max_headers: int = Field(default=100, ge=1)
    max_url_bytes: Bytes = 8 * 2**10
    max_connections: int | None = Field(default=None, ge=1, le=1_000_000)
    """Open at once; None: ten thousand, or as many as the limit on open files leaves."""
    http_parser: Literal["httptools", "h11"] = "httptools"
    receive_seconds: float = Field(default=30.0, gt=0, le=3600)
    write_seconds: float = Field(default=30.0, gt=0, le=3600)
    store_seconds: float = Field(default=30.0, gt=0, le=3600)
    """For a change of the store, after which the client is told that the outcome is unknown."""
    drain_seconds: float = Field(default=30.0, gt=0, le=3600)
    stall_seconds: float = Field(default=10.0, gt=0, le=3600)
    """For one pass of the engine, after which the server counts as not ready."""
    bucket_seconds: float = Field(default=10.0, ge=0.1, le=300)
    """For one request to a bucket; a write that gets no answer ends after three times that."""
    staleness_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """For how long a server whose store is down counts as ready: it serves what it knows, and learns of nothing new."""
    freshness_seconds: float = Field(default=1.0, ge=0, le=60)
    """For how long a task's current version may be remembered before the store is asked again."""
    quarantine_seconds: float = Field(default=60.0, ge=0, le=3600)
    """For how long a version is refused that keeps giving numbers which are not finite; 0 refuses none."""

    @model_validator(mode="before")
    @classmethod
    def _read_keys(cls, given: dict[str, Any]) -> dict[str, Any]:
        return with_keys_of_files(given)

    @field_validator("api_key", "admin_key", "allowed_hosts", "cors_origins", "pin", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, Unread):
            raise ValueError(value.reason)  # noqa: TRY004 - pydantic's word for a value that is wrong
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("api_key", "admin_key")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            if len(key.get_secret_value()) < MIN_KEY:
                raise ValueError(f"a key needs at least {MIN_KEY} characters")
        return keys

    @field_validator("store")
    @classmethod
    def _a_place(cls, store: str) -> str:
        unfit = unfit_for_a_store(Path(store)) if is_local(store) else None
        if not store or unfit is not None:
            raise ValueError(unfit or "it names nothing")
        return store

    @field_validator("host")
    @classmethod
    def _closed_to_strangers(cls, host: str, others: ValidationInfo) -> str:
        if not is_loopback(host) and not cls._closed(others) and not others.data.get("insecure"):
            raise ValueError(f"{OPEN_TO_STRANGERS}, or --insecure")
        return host

    @classmethod
    def _closed(cls, others: ValidationInfo) -> bool:
        """By keys that are right or by keys that are wrong, which is told of them already."""
        return any(others.data.get(name) or name not in others.data for name in ("api_key", "admin_key"))

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(HOST_NAME, host) for host in hosts):
            raise ValueError("a host is a name or an address alone, without http:// and without a port")
        return hosts

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if origins != (ANY_ORIGIN,) and not all(ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError(
                "an origin is what a browser sends: https://name or http://name:port, and no more; or * alone"
            )
        if ANY_ORIGIN in origins and not cls._closed(others):
            raise ValueError("* without keys would let every page that a browser opens do everything")
        return origins

    @field_validator("tls_key", "tls_key_password_file", "tls_client_ca")
    @classmethod
    def _has_a_certificate(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value and others.data.get("tls_cert", "") is None:
            raise ValueError("it wants a tls_cert beside it")
        return value

    @property
    def scheme(self) -> str:
        return "http" if self.tls_cert is None else "https"

    @property
    def closed(self) -> bool:
        """Setting either key closes both."""
        return bool(self.api_key or self.admin_key)

    @property
    def embedded(self) -> bool:
        return self.model is None


def otlp_protocol() -> str | None:
    """How traces are to be sent, by OpenTelemetry's own variables; None where nobody asked for any."""
    told = os.environ.get
    named = told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or told("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not named or told("OTEL_SDK_DISABLED", "").lower() == "true" or told("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return None
    return told("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or told("OTEL_EXPORTER_OTLP_PROTOCOL") or OTLP_HTTP


def unknown_variables() -> list[str]:
    """Names of SOFTPROMPT_* variables that nothing reads: a mistyped limit must not be ignored."""
    tests_own, known = f"{PREFIX}TEST_", _variables()
    return sorted(
        name for name in os.environ if name.startswith(PREFIX) and not name.startswith(tests_own) and name not in known
    )


def _variables() -> set[str]:
    return {PREFIX + name.upper() for name in (*Settings.model_fields, *CLIENTS_OWN)}


def read(given: Mapping[str, Any]) -> Settings:
    """Options over the environment. Raises BadSettings with everything that is wrong at once."""
    unknown = [f"{name} is not a setting{_meant(name)}" for name in unknown_variables()]
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise BadSettings([*_lines(error, given), *unknown]) from None
    if unknown:
        raise BadSettings(unknown)
    return settings


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name, _variables(), 1, 0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _lines(error: ValidationError, given: Mapping[str, Any]) -> list[str]:
    found = [
        (fault["loc"], fault["msg"].removeprefix(PYDANTICS))
        for fault in error.errors(include_url=False, include_input=False)
    ]
    return [f"{_named(where, given)}: {what}" if where else what for where, what in found]


def _named(where: tuple[int | str, ...], given: Mapping[str, Any]) -> str:
    """A setting by the name that it was given under."""
    name, *inside = map(str, where)
    variable = PREFIX + name.upper()
    return ".".join((variable if name not in given and variable in os.environ else name, *inside))
