"""docker/kubernetes against Kubernetes' own schemas, the server's settings and its routes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from docker.replay import parse
from server.app import routes
from server.config import MIN_KEY, Settings
from server.leaving import LATEST_SECONDS
from tests.checkout import ROOT

FOLDER = ROOT / "docker" / "kubernetes"
APPLIED = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OLDEST, NEWEST = "1.32", "1.37"
"""Versions of Kubernetes; `sleep` before the end is on by default from 1.30 on."""


def objects(path: Path) -> Iterator[dict[str, Any]]:
    yield from (found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found is not None)


def one(name: str) -> dict[str, Any]:
    (found,) = objects(FOLDER / name)
    return found


@pytest.fixture
def pod() -> dict[str, Any]:
    found: dict[str, Any] = one("statefulset.yaml")["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_manifest_is_what_kubernetes_takes(path: Path, version: str) -> None:
    """By the schemas of its API, strictly: an unknown field is none that is ignored."""
    for found in objects(path):
        kubernetes_validate.validate(found, version, strict=True)


def test_what_is_applied_is_there_and_what_is_not_says_so() -> None:
    """The kustomization lists every file but the examples."""
    assert sorted(APPLIED) == [path.name for path in FILES if not path.name.endswith(".example.yaml")]
    for path in FILES:
        if path.name not in APPLIED:
            assert path.read_text(encoding="utf-8").startswith("# Not applied by kustomization.yaml")


def test_every_variable_is_a_setting_of_the_server(container: dict[str, Any]) -> None:
    """A SOFTPROMPT_ variable that is none would stop the start; those with a value are taken as they stand."""
    names = [variable["name"] for variable in container["env"]]
    ours = [name for name in names if name.startswith("SOFTPROMPT_")]
    assert len(ours) >= 4
    assert {name.removeprefix("SOFTPROMPT_").lower() for name in ours} <= set(Settings.model_fields)
    given = {
        variable["name"].removeprefix("SOFTPROMPT_").lower(): variable["value"]
        for variable in container["env"]
        if "value" in variable and variable["name"].startswith("SOFTPROMPT_")
    }
    Settings(**given)
    for text in (path.read_text(encoding="utf-8") for path in FILES):
        named = set(re.findall(r"SOFTPROMPT_([A-Z_]+)", text)) - {"PORT"}
        assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_no_service_of_a_name_becomes_a_setting(pod: dict[str, Any]) -> None:
    """Kubernetes would set SOFTPROMPT_PORT for the service `softprompt`, were it not told not to."""
    assert one("service.yaml")["metadata"]["name"] == "softprompt"
    assert pod["enableServiceLinks"] is False
    with pytest.raises(ValidationError):
        Settings(port="tcp://10.0.0.1:8000")  # type: ignore[arg-type]


def test_probes_ask_open_routes_on_the_port_of_the_image(container: dict[str, Any]) -> None:
    """Each probe's path is a route; ports agree from the image to the service and the network's rule."""
    paths = {route.path for route in routes()}
    for probe, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert path in paths
    image = parse((ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8"))
    (port,) = [int(instruction.rest) for instruction in image if instruction.word == "EXPOSE"]
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    assert one("service.yaml")["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
    assert [rule["ports"] for rule in one("network.yaml")["spec"]["ingress"]] == [[{"port": "http"}]]


def test_the_end_has_the_time_that_it_takes(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Until the service has forgotten it, and while it drains: then it may be killed. The default has that time too."""
    (drain,) = [float(one["value"]) for one in container["env"] if one["name"] == "SOFTPROMPT_DRAIN_SECONDS"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before >= container["readinessProbe"]["periodSeconds"]
    default = Settings.model_fields["drain_seconds"].default
    assert pod["terminationGracePeriodSeconds"] > before + max(drain, default) + LATEST_SECONDS


def test_a_server_that_answers_late_is_not_restarted_for_it(container: dict[str, Any]) -> None:
    """Readiness goes before liveness, and what recovers by itself gets the time to."""
    ready, live = container["readinessProbe"], container["livenessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < live["periodSeconds"] * live["failureThreshold"]
    assert live["failureThreshold"] >= 3


def test_a_container_may_do_no_more_than_it_does(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """As compose.yaml has it: the image's user, no capability, a root that is read only; what it writes is mounted."""
    image = parse((ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8"))
    (user,) = [instruction.rest for instruction in image if instruction.word == "USER"]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["fsGroup"] == context["runAsGroup"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (volume,) = [instruction.rest for instruction in image if instruction.word == "VOLUME"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {volume, "/tmp"}  # noqa: S108 - in the image
    assert pod["automountServiceAccountToken"] is False


def test_a_directory_has_one_server() -> None:
    """One replica, whose volume outlives it."""
    spec = one("statefulset.yaml")["spec"]
    assert spec["replicas"] == 1
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_everything_means_the_same_pods(container: dict[str, Any]) -> None:
    """Service, budget and network rule select the set's pods, and the secret has the keys that it reads."""
    labels = one("statefulset.yaml")["spec"]["template"]["metadata"]["labels"]
    assert one("statefulset.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert one("service.yaml")["spec"]["selector"] == labels
    assert one("disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert one("network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    secret = one("secret.example.yaml")
    wanted = [variable["valueFrom"] for variable in container["env"] if "secretKeyRef" in variable.get("valueFrom", {})]
    assert {source["secretKeyRef"]["name"] for source in wanted} == {secret["metadata"]["name"]}
    assert {source["secretKeyRef"]["key"] for source in wanted} == set(secret["stringData"])


def test_the_example_of_a_secret_opens_nothing() -> None:
    """Applied as it is, the server does not start: no key of a public file lets anybody in."""
    for key in one("secret.example.yaml")["stringData"].values():
        assert len(key) < MIN_KEY
        with pytest.raises(ValidationError):
            Settings(api_key=key)
