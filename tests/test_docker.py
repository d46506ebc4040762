"""docker/: the images and the compose files, as far as they can be read; `make replay` builds and starts the image."""

import json
import tomllib
from typing import Any

import pytest
import yaml

from docker.replay import Instruction, expand, parse
from tests.checkout import ROOT

FOLDER = ROOT / "docker"


@pytest.fixture
def image() -> list[Instruction]:
    return parse((FOLDER / "Dockerfile").read_text(encoding="utf-8"))


def rest_of(word: str, image: list[Instruction]) -> list[str]:
    return [instruction.rest for instruction in image if instruction.word == word]


def compose(name: str) -> dict[str, Any]:
    server: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["services"]["server"]
    return server


def test_the_image_leaves_its_build_tools_behind(image: list[Instruction]) -> None:
    """The image is built in two stages, and only the environment is carried over."""
    assert len(rest_of("FROM", image)) == 2
    last = max(index for index, instruction in enumerate(image) if instruction.word == "FROM")
    assert [c for c in rest_of("COPY", image[last:]) if not c.startswith("--from=build")] == []


def test_the_server_does_not_run_as_root(image: list[Instruction]) -> None:
    """The last USER is a number, so that orchestrators can see that it is not root."""
    user = rest_of("USER", image)[-1].split(":")[0]
    assert int(user) > 0


def health() -> list[str]:
    """The command of HEALTHCHECK."""
    (check,) = rest_of("HEALTHCHECK", parse((FOLDER / "Dockerfile").read_text(encoding="utf-8")))
    command: list[str] = json.loads(check.split("CMD", 1)[1])
    return command


def test_health_is_asked_of_the_process_alone() -> None:
    """HEALTHCHECK asks /livez, which answers while a model loads or the store is away."""
    assert "/livez" in health()[-1]


def test_every_package_reaches_the_image(image: list[Instruction]) -> None:
    """Whatever pyproject.toml packs is copied, exists, and is let through by the ignore file."""
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    copied = {part for line in rest_of("COPY", image) if "--from" not in line for part in line.split()[:-1]}
    passed = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert set(hatch["build"]["targets"]["wheel"]["packages"]) <= copied
    assert copied == passed
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_can_send_traces(image: list[Instruction]) -> None:
    """The extra that they need is installed: an operator sets a variable and builds nothing anew."""
    (installed,) = [line for line in rest_of("RUN", image) if "--require-hashes" in line]
    assert installed.endswith("requirements/otel.txt")


def test_the_store_is_on_the_volume(image: list[Instruction]) -> None:
    """The store's folder lies below the one volume, which compose.yaml keeps under a name."""
    (volume,) = rest_of("VOLUME", image)
    (store,) = [word for line in rest_of("ENV", image) for word in line.split() if word.startswith("SOFTPROMPT_STORE=")]
    assert store.removeprefix("SOFTPROMPT_STORE=").startswith(f"{volume}/")
    assert compose("compose.yaml")["volumes"] == [f"store:{volume}"]


def test_without_keys_only_this_machine_is_served() -> None:
    """compose.yaml says --insecure only because it publishes the port on the loopback address."""
    server = compose("compose.yaml")
    assert "--insecure" in server["command"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_cuda_is_the_same_image_with_another_torch(image: list[Instruction]) -> None:
    """The CUDA variant sets build arguments that the Dockerfile declares: torch, and what Triton compiles with."""
    arguments = compose("compose.cuda.yaml")["build"]["args"]
    assert arguments.keys() == {"TORCH_INDEX_URL", "GPU_PACKAGES"}
    declared = rest_of("ARG", image)
    assert all(any(line.startswith(f"{name}=") for line in declared) for name in arguments)
    assert set(arguments["GPU_PACKAGES"].split()) == {"gcc", "libc6-dev"}


def test_a_dockerfile_is_read_as_docker_reads_it() -> None:
    """Continuation lines are joined, comments dropped and variables filled in."""
    found = parse("# note\nRUN one \\\n  two\n\nENV A=$B\n")
    assert [(i.word, i.rest.split()) for i in found] == [("RUN", ["one", "two"]), ("ENV", ["A=$B"])]
    assert expand("${A}/bin:$B", {"A": "/x", "B": "/y"}) == "/x/bin:/y"
