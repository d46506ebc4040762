"""Every bound by its name, as /info shows it. Knows constants and settings; checks nothing itself."""

from prompt_store import metadata, template
from prompt_store.container import HEADER_LIMIT
from prompt_store.parameters import MAX_STOP_CHARACTERS, MAX_STOPS
from server.api.door import most
from server.api.queries import MAX_NEAREST, MAX_PAGE
from server.api.schemas import MAX_REQUESTS
from server.api.strict_json import MAX_DEPTH, MAX_KEYS
from server.api.v1.bodies import MAX_IDS, MAX_MESSAGES, MAX_TOLD
from server.config import Settings
from server.jobs.desk import MAX_WAITING as MAX_WAITING_JOBS
from server.jobs.files import MAX_FILES
from server.jobs.method import MAX_EVALUATIONS, MAX_STEPS
from server.jobs.records import MAX_JOBS
from server.jobs.rows import MAX_ROWS
from server.parameters import MAX_CHOICES, MAX_LOGPROBS, MAX_SEED, MAX_TIMEOUT_MS

CONSTANT = {
    "max_requests": MAX_REQUESTS,
    "max_choices": MAX_CHOICES,
    "max_logprobs": MAX_LOGPROBS,
    "max_echo_logprobs": MAX_TOLD,
    "max_messages": MAX_MESSAGES,
    "max_prompt_ids": MAX_IDS,
    "max_seed": MAX_SEED,
    "max_stops": MAX_STOPS,
    "max_stop_characters": MAX_STOP_CHARACTERS,
    "max_timeout_ms": MAX_TIMEOUT_MS,
    "max_prompt_length": metadata.MAX_LENGTH,
    "max_prompt_header_bytes": HEADER_LIMIT,
    "max_template_characters": metadata.MAX_TEMPLATE_CHARACTERS,
    "max_template_fields": template.MAX_FIELDS,
    "max_field_characters": template.MAX_FIELD_CHARACTERS,
    "max_delimiter_characters": metadata.MAX_DELIMITER_CHARACTERS,
    "max_labels": metadata.MAX_LABELS,
    "max_label_characters": metadata.MAX_LABEL_CHARACTERS,
    "max_description_characters": metadata.MAX_DESCRIPTION_CHARACTERS,
    "max_metrics": metadata.MAX_METRICS,
    "max_json_depth": MAX_DEPTH,
    "max_json_keys": MAX_KEYS,
    "max_page": MAX_PAGE,
    "max_nearest": MAX_NEAREST,
    "max_jobs": MAX_JOBS,
    "max_waiting_jobs": MAX_WAITING_JOBS,
    "max_job_rows": MAX_ROWS,
    "max_job_steps": MAX_STEPS,
    "max_job_evaluations": MAX_EVALUATIONS,
    "max_files": MAX_FILES,
}
FROM_SETTINGS = (
    "max_batch", "max_waiting", "queue_seconds", "bodies_budget", "answers_budget",
    "kv_budget", "prompt_budget", "text_budget", "jobs_budget", "max_norm",
    "max_upload_bytes", "max_body_bytes", "max_header_bytes", "max_headers", "max_url_bytes", "receive_seconds",
    "write_seconds", "store_seconds", "bucket_seconds", "drain_seconds", "stall_seconds", "staleness_seconds",
    "freshness_seconds", "quarantine_seconds",
)  # fmt: skip


def limits(settings: Settings, waiting_tokens: int) -> dict[str, int | float]:
    """What this server holds its clients to. `waiting_tokens`: the engine's, which depends on its cache."""
    chosen = {name: getattr(settings, name) for name in FROM_SETTINGS}
    return {**CONSTANT, **chosen, "max_connections": most(settings), "max_waiting_tokens": waiting_tokens}
