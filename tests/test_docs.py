"""docs/: what the documents list is what the code has, and every link leads somewhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import COMMANDS, Lazily, app
from prompt_store.metadata import KINDS, Metadata
from server.app import routes
from server.config import Settings
from server.errors import table
from server.parameters import Parameters
from tests.checkout import ROOT, files, text

DOCUMENTS = [file for file in files() if file.suffix == ".md"]


def rows(document: str) -> Iterator[list[str]]:
    """The cells of every table row, without backticks."""
    for line in (ROOT / "docs" / document).read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            yield [cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")]


def test_the_error_table_is_the_codes() -> None:
    """docs/errors.md has one row for each code that can be answered, and no other."""
    documented = [tuple(row[:4]) for row in rows("errors.md")]
    assert documented == [
        (code, str(status), type_, "yes" if again else "no") for code, status, type_, again in table()
    ]
    assert all(row[4].strip() for row in rows("errors.md"))


def test_every_parameter_is_documented() -> None:
    """docs/parameters.md has a row for each parameter of a request, in the schema's order."""
    assert [row[0] for row in rows("parameters.md")] == list(Parameters.model_fields)


def test_every_setting_is_documented() -> None:
    """docs/operations.md has a row for each setting of the server, with its variable."""
    found = {row[0] for row in rows("operations.md") if row[0].startswith("SOFTPROMPT_")}
    assert found == {f"SOFTPROMPT_{name.upper()}" for name in Settings.model_fields}


def told(name: str, value: object) -> str:
    """A default as the table has it; "" for one that it says in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and name.endswith(("_budget", "_bytes")):
        unit, size = next((u, s) for u, s in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if value % s == 0)
        return f"{value // size} {unit}"
    if isinstance(value, float):
        return f"{value:g}".replace("e+0", "e")
    return str(value) if value else ""


def test_the_defaults_are_the_codes() -> None:
    """Whatever is a number, a size, a word or yes and no stands in the table as the code has it."""
    documented = {row[0]: row[1] for row in rows("operations.md") if row[0].startswith("SOFTPROMPT_")}
    code = {f"SOFTPROMPT_{name.upper()}": told(name, field.default) for name, field in Settings.model_fields.items()}
    assert {name: documented[name] for name, default in code.items() if default} == {n: d for n, d in code.items() if d}


def test_every_route_is_documented() -> None:
    """docs/http.md has a row for each route of the API, with what the OpenAPI document says of it, and no other."""
    known = [
        (f"{method} {route.path}", str(route.summary))
        for route in routes()
        if route.include_in_schema
        for method in sorted(route.methods or ())
    ]
    assert [(row[0], row[1]) for row in rows("http.md")] == [(route, said.replace("`", "")) for route, said in known]


def test_every_key_of_a_prompt_file_is_documented() -> None:
    """docs/format.md has a row for each, and for each kind."""
    described = [row[0] for row in rows("format.md")]
    written = json.loads(Metadata("text", 0, "{input}").to_json())
    assert set(described) == {*written, *KINDS}


def anchors(document: Path) -> set[str]:
    """What its headings are called in links, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text(document), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", DOCUMENTS, ids=str)
def test_links_lead_somewhere(file: Path) -> None:
    """A relative link in a document names a file that is there, and behind # one of its headings."""
    targets = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text(file))
    absent = [target for target, _ in targets if not (ROOT / file.parent / target).exists()]
    assert not absent
    places = [(file.parent / target if target else file, anchor) for target, anchor in targets if anchor]
    assert not [f"{place}#{anchor}" for place, anchor in places if anchor not in anchors(place)]


def test_decisions_are_numbered_and_dated() -> None:
    """Decisions count up from 0001, each with a date and a line in the list."""
    folder = ROOT / "docs" / "decisions"
    pages = sorted(page.name for page in folder.glob("[0-9]*.md"))
    assert [int(page[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert all(re.search(r"^\d{4}-\d\d-\d\d", (folder / page).read_text(), re.MULTILINE) for page in pages)
    assert all(page in (folder / "README.md").read_text() for page in pages)


def test_the_command_line_is_documented() -> None:
    """docs/cli.md has a section for each command: an example, and every argument and option with its help."""
    sections = re.split(r"^## ", text(Path("docs/cli.md")), flags=re.MULTILINE)
    found = {section.split("\n", 1)[0]: section for section in sections}
    assert [name for name in found if name.startswith("softprompt ")] == [f"softprompt {name}" for name in COMMANDS]
    group = typer.main.get_command(app)
    assert isinstance(group, Lazily)
    with group.make_context("softprompt", ["--help"], resilient_parsing=True) as context:
        for name, place in COMMANDS.items():
            section, command = found[f"softprompt {name}"], group.get_command(context, name)
            assert f"```\nsoftprompt {name} " in section
            assert place.help in section
            assert re.findall(r"^\| (`.+) \|$", section, re.MULTILINE) == [
                f"`{shown(one)}` | " + one.help.replace("|", r"\|") for one in command.params if one.name != "help"
            ]


def shown(parameter: Any) -> str:
    """An option by all its names, an argument in capitals."""
    if parameter.param_type_name == "option":
        return ", ".join([*parameter.opts, *parameter.secondary_opts])
    return str(parameter.name).upper()
