"""Bases that are damaged, do not fit themselves, bring code, or are another one: T05 to T08."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from prompt_store.errors import BaseDamaged
from server.app import load_base
from server.config import Settings
from server.engine.checkpoint import BadBase
from tests.attacks.asking import OURS, question
from tests.attacks.attack import Attack
from tests.attacks.victim import Lines, inside
from tests.forked import environment, run
from tests.models import save
from tests.server.site import peft_file

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PATIENCE = 120
NOT_LOADED = (BadBase, BaseDamaged, OSError, ValueError)
"""What `server.serve.start` says in a line, and no other exception."""
STARTED = ("a byte too few", "a shard that is missing", "wider")
"""Bases that are given to a process too."""


def refuses(folder: Path, *names: str) -> None:
    """It is not loaded, and what is said of it has these names. What a process then does, `refuses_to_start` shows."""
    settings = Settings(model=str(folder), store="memory://", threads=1)
    with pytest.raises(NOT_LOADED) as told:
        load_base(settings)
    assert all(name in str(told.value) for name in names), told.value


def refuses_to_start(folder: Path, *names: str) -> None:
    """The process ends with 2 and says why in one line with these names."""
    ended = served(SOFTPROMPT_MODEL=str(folder), SOFTPROMPT_STORE=str(folder.parent / "store"))
    said = ended.stderr
    lines = [line for line in said.splitlines() if line.startswith("softprompt serve: ")]
    assert ended.returncode == 2, said
    assert len(lines) == 1, said
    assert all(name in lines[0] for name in names), lines[0]
    assert "Traceback" not in said
    assert '"ready"' not in said + ended.stdout


GIVEN = {"SOFTPROMPT_PORT": "0", "SOFTPROMPT_JOBS": "", "SOFTPROMPT_THREADS": "1"}


def served(**variables: str) -> "subprocess.CompletedProcess[str]":
    """`softprompt serve`, which is expected to end by itself."""
    return run(["serve"], PATIENCE, {**GIVEN, **variables})


def started(command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    """The same by a command of its own, made anew: seconds of imports."""
    return subprocess.run(
        command,
        env=environment({**GIVEN, **variables}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


Damage = Callable[[Path], tuple[str, ...]]
"""Damages a folder and gives the names that must be told."""


def without_folder(folder: Path) -> tuple[str, ...]:
    shutil.rmtree(folder)
    return (folder.name, "not a directory")


def emptied(folder: Path) -> tuple[str, ...]:
    for file in folder.iterdir():
        file.unlink()
    return (CONFIG,)


def pickled(folder: Path) -> tuple[str, ...]:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    return ("*.safetensors", "pickled")


def of(name: str, data: bytes | None, *said: str) -> Damage:
    """The file has other bytes, or is gone."""

    def damage(folder: Path) -> tuple[str, ...]:
        file = folder / name
        file.unlink() if data is None else file.write_bytes(data)
        return said or (name,)

    return damage


def cut(folder: Path) -> tuple[str, ...]:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-1])
    return (WEIGHTS,)


def sharded(folder: Path) -> dict[str, str]:
    """The weights in two files with an index, which is returned."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    (folder / WEIGHTS).unlink()
    parts = {f"model-0000{number + 1}-of-00002.safetensors": names[number::2] for number in range(2)}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    told = {name: file for file, held in parts.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": told}))
    return told


def shard_missing(folder: Path) -> tuple[str, ...]:
    gone = sorted(set(sharded(folder).values()))[1]
    (folder / gone).unlink()
    return (gone,)


def shard_cut(folder: Path) -> tuple[str, ...]:
    short = sorted(set(sharded(folder).values()))[1]
    (folder / short).write_bytes((folder / short).read_bytes()[:-100])
    return (short,)


def tensor_missing(folder: Path) -> tuple[str, ...]:
    told = sharded(folder)
    told["model.layers.7.mlp.up_proj.weight"] = next(iter(told.values()))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": told}))
    return (INDEX, "model.layers.7.mlp.up_proj.weight")


def index_of(data: str) -> Damage:
    def damage(folder: Path) -> tuple[str, ...]:
        sharded(folder)
        (folder / INDEX).write_text(data)
        return (INDEX,)

    return damage


DAMAGED: dict[str, Damage] = {
    "no folder": without_folder,
    "an empty folder": emptied,
    "pickled weights alone": pickled,
    "a byte too few": cut,
    "weights of nothing": of(WEIGHTS, b""),
    "a pointer in place of weights": of(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "a shard that is missing": shard_missing,
    "a shard that is cut": shard_cut,
    "an index of a tensor that is missing": tensor_missing,
    "an index that is no JSON": index_of("{"),
    "an index of nothing": index_of("{}"),
    "no config": of(CONFIG, None),
    "a config that is no JSON": of(CONFIG, b"{"),
    "a config that is a list": of(CONFIG, b"[]"),
    "no tokenizer": of("tokenizer.json", None),
    "a tokenizer that is none": of("tokenizer.json", b"{}"),
    "a generation config that is none": of("generation_config.json", b"{"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_T05_a_damaged_base(name: str, tmp_path: Path) -> None:
    """No server; the message names the file."""
    folder = save(tmp_path / "base")
    names = DAMAGED[name](folder)
    refuses(folder, *names)
    if name in STARTED:
        refuses_to_start(folder, *names)


def changed(folder: Path, name: str = CONFIG, **values: Any) -> Path:
    found = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**found, **values}))
    return folder


MISFITS: dict[str, dict[str, Any]] = {
    "wider": {"hidden_size": 128},
    "narrower": {"hidden_size": 32},
    "more layers": {"num_hidden_layers": 4},
    "fewer layers": {"num_hidden_layers": 2},
    "fewer rows than the tokenizer has ids": {"vocab_size": 300},
}


@pytest.mark.parametrize("name", MISFITS)
def test_T06_a_base_that_does_not_fit_itself(name: str, tmp_path: Path) -> None:
    """Sizes of the config that are not the weights'; a tokenizer that knows more ids than there are rows."""
    folder = changed(save(tmp_path / "base"), **MISFITS[name])
    refuses(folder, CONFIG)
    if name in STARTED:
        refuses_to_start(folder, CONFIG)
        folder = save(tmp_path / "other")
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        first, rows = tokenizer["added_tokens"][0], len(tokenizer["model"]["vocab"])
        more = [{**first, "id": number, "content": f"<new {number}>"} for number in range(rows, 385)]
        tokenizer["added_tokens"] += more
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        refuses(folder, "the tokenizer has 385 ids, the base 384 rows")


@pytest.mark.parametrize("name", [CONFIG, "tokenizer_config.json"])
def test_T07_code_of_its_own(name: str, tmp_path: Path) -> None:
    """A base that brings code is refused, and its code is not run."""
    folder, proof = save(tmp_path / "base"), tmp_path / "it-ran"
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w').close()\nclass Own: pass\n")
    classes = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}
    refuses(changed(folder, name, auto_map=classes), name, "auto_map")
    refuses_to_start(folder, name, "auto_map")
    assert not proof.exists()


def test_T08_another_base_under_the_same_tasks(attack: Attack, tmp_path: Path, lines: Lines) -> None:
    """Its prompts are refused, not garbage; words belong to no base; with the first base back they answer as before."""
    base, store = save(tmp_path / "base"), tmp_path / "store"
    learnt = {"task": "target", "inputs": "x", "version": 1, "parameters": {"max_new_tokens": 4}}
    with inside(base, store, lines) as victim:
        victim.http.put("/tasks/words", json={"template": "play {text}"}).raise_for_status()
        before = victim.http.post("/generate", json=learnt).raise_for_status().json()["generated_text"]
    base.rename(tmp_path / "first")
    save(base, seed=1)
    with inside(base, store, lines) as victim:
        swapped = attack.on(victim)
        swapped.all_refused(503, "wrong_base", [(route, {**question(route), "version": 1}) for route in OURS])
        swapped.right(swapped.ask("/generate", question("/generate", task="words")))
        assert victim.http.post("/tasks/target/rollback", json={"version": 1}).status_code == 201
        assert victim.http.get("/tasks/target").json()["servable"] is False
        swapped.all_refused(503, "wrong_base", [(route, question(route)) for route in (*OURS, "/v1/completions")])
        swapped.all_refused(422, "wrong_base", [("/tasks/target", {"description": "still there"})], method="PATCH")
    shutil.rmtree(base)
    (tmp_path / "first").rename(base)
    with inside(base, store, lines) as victim:
        assert victim.http.post("/generate", json=learnt).json()["generated_text"] == before
    unnamed = peft_file(np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32))
    with inside(base, tmp_path / "other", lines) as victim:
        assert victim.http.put("/tasks/unnamed", content=unnamed).json()["verified"] is False
        attack.on(victim).right(attack.on(victim).ask("/generate", question("/generate", task="unnamed")))
    with inside(base, tmp_path / "other", lines, require_fingerprint=True) as victim:
        strict = attack.on(victim)
        strict.all_refused(503, "wrong_base", [(route, question(route, task="unnamed")) for route in OURS])
        strict.all_refused(
            422,
            "wrong_base",
            [("/tasks/another", unnamed)],
            method="PUT",
            headers={"Content-Type": "application/octet-stream"},
        )
