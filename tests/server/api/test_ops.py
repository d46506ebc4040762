"""Probes, /info, and an OpenAPI document that tells the truth."""

import re
from typing import Any

import pytest

from server.api import answers
from server.api.answers import Health, Info
from server.api.ops import VERSION
from server.app import routes
from server.config import Settings
from server.errors import RULES
from tests.server.site import Site, raw, status, until


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/health", "/ping"])
def test_a_running_server_is_well(site: Site, path: str) -> None:
    """Every probe says so."""
    answer = site.http.get(path)
    assert (answer.status_code, Health.model_validate(answer.json()).status) == (200, "ok")


def test_a_draining_server_is_alive_but_not_ready(site: Site) -> None:
    """Readiness goes first, so that nothing new is sent here; liveness stays."""
    site.lifecycle.draining = True
    try:
        assert site.http.get("/livez").status_code == 200
        answer = site.http.get("/readyz")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    finally:
        site.lifecycle.draining = False


def test_info_names_the_base_and_every_bound(site: Site) -> None:
    """Model, fingerprint, dtype, device, context, kinds, limits."""
    answer = site.http.get("/info").json()
    found = Info.model_validate(answer)
    assert found.fingerprint == site.base.fingerprint
    assert (found.max_total_tokens, found.kinds, found.dtype) == (
        256,
        ["adapter", "embeddings", "prefix", "text"],
        "float32",
    )
    assert found.limits["max_requests"] == 256
    assert all(value > 0 for value in found.limits.values())
    bounds = {name for name in Settings.model_fields if re.search(r"^max_|_budget$|_seconds$", name)}
    assert bounds - set(found.limits) == {"max_total_tokens", "jobs_save_seconds"}  # said beside; not the clients'
    assert site.http.get("/version").json() == {"version": VERSION}


def test_the_document_has_every_route(site: Site) -> None:
    """What can be called is written down, with its body and its errors, and nothing else is."""
    document = site.http.get("/openapi.json").json()
    written = {(path, method.upper()) for path, found in document["paths"].items() for method in found}
    assert written == {
        (route.path, method) for route in routes() if route.include_in_schema for method in route.methods or ()
    }
    for path, found in document["paths"].items():
        for method, operation in found.items():
            assert operation["summary"], (path, method)
            has_body = method in {"put", "post", "patch"} and not path.endswith("/cancel")
            assert ("requestBody" in operation) == has_body, (path, method)


def test_references_of_the_document_lead_somewhere(site: Site) -> None:
    """Every $ref has its schema, and FastAPI's own error shape is in none."""
    document = site.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()

    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} <= set(schemas)
    assert "HTTPValidationError" not in schemas


def test_documented_statuses_are_in_the_table(site: Site) -> None:
    """An error that is documented is one that can be raised."""
    statuses = {rule.status for rule in RULES.values()}
    for found in site.http.get("/openapi.json").json()["paths"].values():
        for operation in found.values():
            assert {int(status) for status in operation["responses"]} - {200, 201, 204} <= statuses


def test_a_request_has_an_id(site: Site) -> None:
    """The client's when it is plain, a new one otherwise, on every answer."""
    assert site.http.get("/livez", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for strange in ("a b", "x" * 200, "\x1b[31m", ""):
        assert site.http.get("/livez", headers={"x-request-id": strange}).headers["x-request-id"] != strange
    assert site.http.get("/nowhere").headers["x-request-id"]


def test_unknown_routes_and_methods_say_so(site: Site) -> None:
    """404 and 405 in the one error shape; Allow names every method of the path; nothing is redirected."""
    assert site.http.get("/nowhere").json()["error"]["code"] == "not_found"
    answer = site.http.post("/tasks/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PATCH, PUT")
    for method in ("GET", "PUT", "TRACE"):
        assert site.http.request(method, "/generate").headers["allow"] == "POST"
    assert site.http.get("/tasks/").status_code == 404
    assert status(raw(site.url, b"GET //tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 404


def test_the_server_is_idle_when_nobody_asks(site: Site) -> None:
    """Nothing is left running after all that."""
    until(site.idle, "the engine is idle")


def test_the_document_says_that_null_is_absent_where_it_is(site: Site) -> None:
    """On /v1 and there only; what is required stays so, and other fields may come."""
    schemas = site.http.get("/openapi.json").json()["components"]["schemas"]
    null = {"type": "null"}
    for name in ("CompletionBody", "ChatBody", "TokenizeBody", "DetokenizeBody", "Message", "StreamOptions", "JobBody"):
        schema = schemas[name]
        assert "additionalProperties" not in schema
        for field, told in schema["properties"].items():
            assert (null in told.get("anyOf", ())) == (field not in schema.get("required", ())), (name, field)
    assert null not in schemas["GenerateOne"]["properties"]["task"].get("anyOf", ())


def exemplary(schema: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    """The examples of a schema, or of what it refers to."""
    if "$ref" in schema:
        return exemplary(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    one_of = [
        example for kind in ("anyOf", "oneOf") for one in schema.get(kind, []) for example in exemplary(one, schemas)
    ]
    return [*schema.get("examples", []), *one_of]


def test_every_body_has_an_example(site: Site) -> None:
    """Whoever reads the document can send something at once; a file is bytes."""
    document = site.http.get("/openapi.json").json()
    schemas, without = document["components"]["schemas"], []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                if kind != "application/octet-stream" and "example" not in content:
                    without += [] if exemplary(content["schema"], schemas) else [f"{method} {path} {kind}"]
    assert not without


def test_an_example_of_an_answer_is_one() -> None:
    """Each fits the model that it stands in."""
    models = (answers.Generated, answers.Classified, answers.Rendered, answers.TaskObject, answers.Nearest)
    for model in models:
        (example,) = model.model_json_schema()["examples"]
        model.model_validate(example)
