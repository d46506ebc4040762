"""The client's types are the server's: the same fields, of the same types, as often there."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from server.api import answers as theirs
from server.api import schemas
from server.parameters import NotNull, Parameters
from softprompt_client import answers as ours
from softprompt_client import requests

SAME: Mapping[str, type[BaseModel]] = {
    "BaseName": theirs.BaseName,
    "Task": theirs.TaskObject,
    "TaskPage": theirs.TaskList,
    "Version": theirs.VersionObject,
    "VersionDetail": theirs.VersionDetail,
    "NearToken": theirs.NearToken,
    "NearRow": theirs.NearRow,
    "Usage": theirs.Usage,
    "TopToken": theirs.TopToken,
    "TokenLogprob": theirs.TokenLogprob,
    "Choice": theirs.Choice,
    "Details": theirs.Details,
    "Generated": theirs.Generated,
    "ErrorBody": theirs.ErrorBody,
    "Failed": theirs.ErrorAnswer,
    "StreamToken": theirs.StreamToken,
    "StreamEvent": theirs.StreamEvent,
    "LabelScore": theirs.LabelScore,
    "Classified": theirs.Classified,
    "Slot": theirs.Slot,
    "Counts": theirs.Counts,
    "Rendered": theirs.Rendered,
    "Info": theirs.Info,
    "Health": theirs.Health,
}
ASKED: Mapping[str, type[BaseModel]] = {
    "Parameters": Parameters,
    "Asked": schemas.Asked,
    "GenerateRequest": schemas.GenerateItem,
    "ClassifyRequest": schemas.ClassifyItem,
}


def described(kind: Any) -> Any:
    """A type as plain values: of both sorts of classes their fields, and which of these may be missing."""
    if is_typeddict(kind):
        return {name: (described(hint), name in kind.__required_keys__) for name, hint in get_type_hints(kind).items()}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: _field(field) for name, field in kind.model_fields.items()}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return set(inner)
    if origin in {Union, UnionType}:
        return {"either": sorted(map(str, map(described, inner)))}
    return kind if origin is None else (origin, [described(one) for one in inner])


def _field(field: FieldInfo) -> tuple[Any, bool]:
    """A `Given` field is left out where it is null."""
    given = any(isinstance(one, NotNull) for one in field.metadata)
    kinds = [one for one in get_args(field.annotation) if one is not NoneType] if given else [field.annotation]
    return described(kinds[0]), not given


def test_every_type_has_its_model() -> None:
    """None is left out of the comparison."""
    names = {name for name, found in vars(ours).items() if is_typeddict(found)}
    assert names == SAME.keys()


@pytest.mark.parametrize("name", SAME)
def test_an_answer_has_the_models_fields(name: str) -> None:
    """Names, types, and whether a field may be missing."""
    found, wanted = described(getattr(ours, name)), described(SAME[name])
    if name == "Info":  # the engine's counters are open: they change with the engine
        assert found.pop("engine")
        assert wanted.pop("engine")
    assert found == wanted


@pytest.mark.parametrize("name", ASKED)
def test_a_question_has_the_models_fields(name: str) -> None:
    """What may be asked is what the server takes."""
    assert get_type_hints(getattr(requests, name)).keys() == ASKED[name].model_fields.keys()
