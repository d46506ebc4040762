"""A job as a client asks for it, and all that can be said of it before anything is learnt.

Knows methods, files and the base's limits; no queue.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from prompt_store.errors import PromptError
from server.errors import Missing, Unacceptable
from server.jobs.files import TRAINING, Files
from server.jobs.method import Method
from server.jobs.records import Job
from server.jobs.rows import both
from tuning.base import FrozenBase
from tuning.encoding import encode
from tuning.examples import DataError
from tuning.learn import encoder_for
from tuning.methods import lacking


@dataclass(frozen=True, slots=True)
class Wanted:
    """`operation` names the request: sent again it makes no second job. `seed` None: any."""

    task: str
    method: Method
    training_file: str
    validation_file: str | None
    seed: int | None
    metadata: Mapping[str, str] | None
    operation: str

    @property
    def digest(self) -> str:
        """Of what is asked for: one operation asks for one thing."""
        told = [
            self.task, self.method.model_dump(exclude_none=True), self.training_file, self.validation_file, self.seed,
            self.metadata,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def begun(wanted: Wanted, seed: int, starts_from: str | None, fingerprint: str) -> Job:
    """Its record, waiting."""
    return Job(
        f"ftjob-{secrets.token_hex(12)}", time.time(), wanted.task, wanted.method.model_dump(exclude_none=True),
        wanted.training_file, wanted.validation_file, seed, wanted.metadata, starts_from, fingerprint,
        wanted.operation, wanted.digest,
    )  # fmt: skip


def check(wanted: Wanted, seed: int, files: Files, base: FrozenBase) -> None:
    """Raises Missing for a file that is none, Unacceptable for rows and settings that nothing could be learnt from."""
    for name, param in ((wanted.training_file, "training_file"), (wanted.validation_file, "validation_file")):
        if name is not None and files.get(name, param).purpose != TRAINING:
            raise Missing("file_not_found", "that file holds results, no rows", param)
    method = wanted.method
    learnt = method.learnt
    reason = None if learnt is None else lacking(base, learnt)
    if reason is not None:
        raise Unacceptable("unsupported_kind", reason, "method")
    try:
        train, held_out = both(method.data, files, wanted.training_file, wanted.validation_file)
        settings = method.settings([*train, *held_out], seed)
        if learnt is not None:
            encode(train[:1], encoder_for(base, replace(settings, method=learnt)), base.context)
    except DataError as error:
        raise Unacceptable("bad_training_data", error.plain, "training_file") from None
    except FileNotFoundError:
        raise Missing("file_not_found", "what a file held is gone", "training_file") from None
    except PromptError as error:
        raise Unacceptable(error.code, error.message, "method") from None
    except ValueError as error:
        raise Unacceptable("bad_training_data", str(error), "method") from None
