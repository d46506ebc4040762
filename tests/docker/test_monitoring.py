"""docker/monitoring and its compose file, as far as they can be read; tests/e2e/test_monitoring.py runs them."""

import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from tests.checkout import ROOT, text
from tests.docker.monitoring import FOLDER, RULES, alerts, dashboard, panels, queries, rules

UNITS = re.compile(r"none|reqps|ops|percentunit|s|bytes|suffix: .+")
CASES = Path(__file__).with_name("rules.test.yml")


def compose(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker" / name).read_text(encoding="utf-8"))
    return found


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_the_panels_stand_beside_each_other() -> None:
    """Each has an id of its own and a place on Grafana's 24 columns that no other takes."""
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    places = [panel["gridPos"] for panel in every]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["w"] * place["h"] > 0 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    """A title of its own, a unit that Grafana knows, a query with a name for its line."""
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        assert UNITS.fullmatch(panel["fieldConfig"]["defaults"]["unit"]), panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(set(references)) == len(references)
        assert all(target["legendFormat"] for target in panel["targets"])


def test_the_data_source_is_one_that_is_provisioned() -> None:
    """Every panel and variable asks the variable's data source, whose value at first is the provisioned one."""
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    first, *others = dashboard()["templating"]["list"]
    assert (first["name"], first["type"]) == ("datasource", "datasource")
    assert first["current"] == {"text": source["name"], "value": source["uid"]}
    wanted = {"type": source["type"], "uid": "${datasource}"}
    targets = [target for panel in panels() for target in panel["targets"]]
    assert all(one["datasource"] == wanted for one in [*others, *panels(), *targets])
    used = {name for query in queries() for name in re.findall(r"\$(\w+)", query.expr)} - {"__rate_interval"}
    assert used == {variable["name"] for variable in others}


def test_what_is_asked_for_is_documented() -> None:
    """Every metric in a query or a rule is in docs/metrics.md, those that rules record among them."""
    page = text(Path("docs/metrics.md"))
    known = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) | {
        rule["record"] for rule in rules() if "record" in rule
    }
    asked = " ".join([*(query.expr for query in queries()), *(rule["expr"] for rule in rules())])
    names = {
        re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name)
        for name in re.findall(r"softprompt[\w:]+|process_\w+", asked)
    }
    assert names <= known, names - known


def test_every_alert_says_what_to_do() -> None:
    """A severity, one line of what is wrong, what to do about it; and docs/metrics.md lists it."""
    assert len(alerts()) > 5
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert all(rule["annotations"][part].strip() for part in ("summary", "action")), name
        assert f"| `{name}` |" in text(Path("docs/metrics.md"))


def test_every_alert_fires_when_it_should(prometheus_installed: None, tmp_path: Path) -> None:
    """promtool plays series of each fault through the rules: each alert is silent once and fires once."""
    played: dict[str, Any] = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    cases = [case for test in played["tests"] for case in test["alert_rule_test"]]
    for case in cases:
        for expected in case.get("exp_alerts", ()):
            expected["exp_annotations"]["action"] = alerts()[case["alertname"]]["annotations"]["action"]
    assert {case["alertname"] for case in cases if "exp_alerts" in case} == set(alerts())
    assert {case["alertname"] for case in cases if "exp_alerts" not in case} == set(alerts())
    (tmp_path / CASES.name).write_text(yaml.safe_dump({**played, "rule_files": [str(RULES)]}), encoding="utf-8")
    for command in (["check", "rules", str(RULES)], ["test", "rules", CASES.name]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_mounted_is_there_and_this_machine_alone_sees_it() -> None:
    """The compose file's paths lead somewhere; both ports are on the loopback address; images have a version."""
    services = compose("compose.monitoring.yaml")["services"]
    assert set(services) == {"prometheus", "grafana"}
    for service in services.values():
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        mounts = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith(".")]
        assert mounts
        assert all((ROOT / "docker" / mount).exists() for mount in mounts)
        assert service["cap_drop"] == ["ALL"]
    assert (FOLDER / "no-key").is_file()
    assert "${SOFTPROMPT_KEY_FILE:-monitoring/no-key}" in (ROOT / "docker" / "compose.monitoring.yaml").read_text()


def test_prometheus_finds_the_server_of_the_compose_file() -> None:
    """The target is the service and the port of compose.yaml, and Grafana's source the service of Prometheus."""
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    ((target,),) = [static["targets"] for static in job["static_configs"]]
    name, port = target.split(":")
    assert compose("compose.yaml")["services"][name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
