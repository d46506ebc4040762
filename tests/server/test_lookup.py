"""From a name to a version in memory: when the store is down, shared, damaged, or for another base."""

from pathlib import Path

from prompt_store.metadata import Base
from prompt_store.store import Store
from tests.fakes import FailingObjects
from tests.server.site import Site, embeddings, until
from tests.server.site import site as running

HIDDEN_BASE = Base("0" * 64, "other", 64, 3, 2, 16)


def code(site: Site, task: str, **fields: object) -> str:
    answer = site.http.post("/generate", json={"task": task, "inputs": "x", **fields})
    return f"{answer.status_code} {answer.json()['error']['code']}" if answer.is_error else str(answer.status_code)


def test_what_is_known_is_served_while_the_store_is_down(base_folder: Path) -> None:
    """Known tasks go on, unknown ones are 503 and never 404, nothing is published."""
    objects = FailingObjects()
    with running(base_folder, "memory://", freshness_seconds=0) as site:
        site.desk.room.tasks.reach.store = Store(objects)
        site.publish("known", "play {text}", soft=2)
        objects.down = True
        assert site.generate("x", "known", max_new_tokens=2)["version"] == 1
        assert code(site, "unknown") == "503 store_unavailable"
        refused = site.http.put("/tasks/new", json={"template": "{text}"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert site.http.get("/tasks").status_code == 503
        assert site.http.get("/livez").status_code == 200
        objects.down = False
        until(lambda: code(site, "unknown") == "404 task_not_found", "the store is found again")


def test_another_servers_versions_are_seen(base_folder: Path, tmp_path: Path) -> None:
    """Two servers on one directory: `min_version` reads the other's write at once."""
    with running(base_folder, tmp_path, freshness_seconds=60) as one, running(base_folder, tmp_path) as two:
        one.publish("shared", "one {text}")
        assert two.generate("x", "shared", max_new_tokens=1)["version"] == 1
        assert one.generate("x", "shared", max_new_tokens=1)["version"] == 1
        two.publish("shared", "two {text}")
        assert one.generate("x", "shared", max_new_tokens=1, min_version=2)["version"] == 2
        assert one.http.get("/tasks/shared?min_version=2").json()["template"] == "two {text}"
        assert one.http.get("/tasks/shared?min_version=3").status_code == 503


def test_a_damaged_file_stops_its_task_and_no_other(base_folder: Path, tmp_path: Path) -> None:
    """A flipped byte is found before it is served; uploading the file again mends it."""
    file = embeddings(None, "{text}", 3)
    with running(base_folder, tmp_path) as site:
        site.http.put("/tasks/damaged", content=file.data)
        site.publish("other", "{text}", soft=2)
    path = next(tmp_path.rglob(f"{file.digest}.safetensors"))
    path.chmod(0o644)
    path.write_bytes(file.data[:-1] + bytes([file.data[-1] ^ 1]))
    with running(base_folder, tmp_path) as site:
        assert code(site, "damaged") == "503 corrupt"
        assert code(site, "other") == "200"
        assert site.http.get("/tasks/damaged").json()["resident"] is False
        assert site.http.post("/tasks/damaged/rollback", json={"version": 1}).status_code == 422
        assert site.http.get("/tasks/damaged/versions/1/prompt").status_code == 503
        assert site.http.put("/tasks/damaged", content=file.data).status_code == 200
        assert code(site, "damaged") == "200"


def test_a_task_of_another_base_is_shown_but_not_run(base_folder: Path, tmp_path: Path) -> None:
    """Swapping the base under a store refuses its tasks; it never gives garbage."""
    store = Store.open(str(tmp_path))
    store.publish("foreign", embeddings(HIDDEN_BASE, "{text}", 3), verified=True, op_id="op")
    with running(base_folder, tmp_path) as site:
        task = site.http.get("/tasks/foreign").json()
        assert (task["servable"], task["base"]["name"]) == (False, "other")
        assert code(site, "foreign") == "503 wrong_base"


def test_a_file_of_another_width_is_not_run(base_folder: Path, tmp_path: Path) -> None:
    """Without a fingerprint the shapes still decide, on every load."""
    store = Store.open(str(tmp_path))
    store.publish("narrow", embeddings(None, "{text}", 3, hidden=32), verified=False, op_id="op")
    with running(base_folder, tmp_path) as site:
        assert code(site, "narrow") == "503 wrong_base"


def test_what_does_not_fit_in_memory_is_read_again(base_folder: Path) -> None:
    """More soft prompts than the budget holds: every answer is still the task's own."""
    with running(base_folder, "memory://", prompt_budget=40_000) as site:
        names = [f"task-{number}" for number in range(12)]
        for number, name in enumerate(names):
            site.publish(name, "play {text}", soft=8, seed=number)
        alone = {name: site.generate("x", name, max_new_tokens=6)["generated_text"] for name in names}
        assert site.snapshot().resident_prompts < len(names)
        assert len(set(alone.values())) == len(names)
        items = [{"task": name, "inputs": "x", "parameters": {"max_new_tokens": 6}} for name in names]
        together = site.http.post("/generate", json={"requests": items}).json()["responses"]
        assert [answer["generated_text"] for answer in together] == list(alone.values())


def test_a_pinned_task_stays_in_memory_in_its_current_version(base_folder: Path, tmp_path: Path) -> None:
    """Whatever else comes; a new version takes the old one's place, and a start brings it before any request."""
    settings = {"prompt_budget": 40_000, "pin": ("kept",)}
    with running(base_folder, str(tmp_path), **settings) as site:
        site.publish("kept", "play {text}", soft=8, seed=99)
        first = site.http.get("/tasks/kept").json()
        for number in range(12):
            site.publish(f"task-{number}", "play {text}", soft=8, seed=number)
            site.generate("x", f"task-{number}", max_new_tokens=2)
        assert site.http.get("/tasks/kept").json()["resident"]
        assert not site.http.get("/tasks/task-0").json()["resident"]
        site.publish("kept", "play {text}", soft=8, seed=100)
        for number in range(12):
            site.generate("x", f"task-{number}", max_new_tokens=2)
        assert site.http.get("/tasks/kept").json()["resident"]
        assert not site.desk.room.running.engine.resident(first["digest"])
    with running(base_folder, str(tmp_path), **settings) as site:
        assert site.http.get("/tasks/kept").json()["resident"]
        site.http.delete("/tasks/kept")
        for number in range(12):
            site.generate("x", f"task-{number}", max_new_tokens=2)
        assert site.snapshot().resident_bytes <= 40_000


def test_a_pinned_task_is_replaced_where_only_one_fits(base_folder: Path) -> None:
    """And leaves others served: what is in use drives it out for as long."""
    with running(base_folder, "memory://", prompt_budget=17_000, pin=("kept",)) as site:
        for seed in range(3):
            site.publish("kept", "play {text}", soft=8, seed=seed)
            site.publish("other", "play {text}", soft=8, seed=10 + seed)
            for name in ("kept", "other", "kept"):
                site.generate("x", name, max_new_tokens=2)


def test_one_file_pinned_under_two_names_stays_for_the_one_that_is_left(base_folder: Path) -> None:
    """Deleting the other does not unpin it."""
    with running(base_folder, "memory://", prompt_budget=40_000, pin=("a", "b")) as site:
        for name in ("a", "b"):
            site.publish(name, "play {text}", soft=8, seed=1)
        site.http.delete("/tasks/a")
        for number in range(12):
            site.publish(f"task-{number}", "play {text}", soft=8, seed=10 + number)
        assert site.http.get("/tasks/b").json()["resident"]


def test_a_soft_prompt_larger_than_all_may_be_is_refused_when_it_is_published(base_folder: Path) -> None:
    """With how many bytes it takes and how many there are; nothing is stored."""
    with running(base_folder, "memory://", prompt_budget=20_000) as site:
        answer = site.http.put("/tasks/large", content=embeddings(site.base, "play {text}", 60).data)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "prompt_too_long"
        assert "20000" in answer.json()["error"]["message"]
        assert site.http.get("/tasks/large").status_code == 404
