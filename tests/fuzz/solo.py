"""What a version answers when nobody else asks: a second, quiet server on the same base; and how two answers compare.

Where rounding may have decided, transformers alone says whether it may have. Knows bodies and answers of one request.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from transformers import PreTrainedModel

from server.engine.request import Sampling
from tests.fuzz.makings import Made
from tests.server.engine import oracle
from tests.server.engine.judge import distance_of
from tests.server.engine.matrix import RELATIVE, TOLERANCE

SCORES = 5e-3
"""In a sum of natural logs, between two orders of adding up."""
OF_SAMPLING = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
Json = dict[str, Any]


class Solo:
    """`exact`: both servers are deterministic, and every bit counts."""

    def __init__(self, http: httpx.Client, model: PreTrainedModel, *, exact: bool) -> None:
        self._http = http
        self._model = model
        self._exact = exact
        self._there: set[str] = set()

    def ask(self, route: str, body: Mapping[str, Any], made: Made | None) -> httpx.Response:
        """The same of the same version, whatever it is called here."""
        field = "model" if route.startswith("/v1") else "task"
        asked = {**body, field: "base" if made is None else self._published(made)}
        asked.pop("version", None)
        if "parameters" in asked:
            asked["parameters"] = {name: value for name, value in asked["parameters"].items() if name != "timeout_ms"}
        return self._http.post(route, json=asked)

    def _published(self, made: Made) -> str:
        name = f"d{made.file.digest[:24]}"
        if name not in self._there:
            self._http.put(f"/tasks/{name}", content=made.file.data).raise_for_status()
            self._there.add(name)
        return name

    def faults(self, body: Mapping[str, Any], made: Made | None, got: Json, wanted: Json) -> Iterator[str]:
        """Of /generate. Yields "tie" for what rounding alone tells apart."""
        for name in ("usage", "seed"):
            if name == "usage" or "seed" in body["parameters"]:
                one, other = (_uncached(answer[name]) for answer in (got, wanted))
                if one != other and name == "seed":
                    yield f"seed {one}, not {other}"
        ours, alone = (_choices(answer) for answer in (got, wanted))
        if len(ours) != len(alone):
            yield f"{len(ours)} choices, not {len(alone)}"
            return
        for index, (one, other) in enumerate(zip(ours, alone, strict=True)):
            if not self._alike(one, other):
                away = math.inf if self._exact else self._distance(body, made, index, one)
                yield "tie" if away == 0 else f"choice {index} is {_short(one)}, alone {_short(other)}, {away:.2g} away"
        counts = [_uncached(answer["usage"]) for answer in (got, wanted)]
        if counts[0] != counts[1] and [_ids(one) for one in ours] == [_ids(one) for one in alone]:
            yield f"usage {counts[0]}, alone {counts[1]}"

    def score_faults(self, got: Json, wanted: Json) -> Iterator[str]:
        """Of /classify."""
        one, other = ({score["label"]: score["logprob"] for score in answer["scores"]} for answer in (got, wanted))
        most = 0.0 if self._exact else SCORES
        if one.keys() != other.keys() or any(abs(one[label] - other[label]) > most for label in one):
            yield f"scores {one}, alone {other}"

    def _alike(self, one: Json, other: Json) -> bool:
        if any(one[name] != other[name] for name in ("generated_text", "finish_reason")) or _ids(one) != _ids(other):
            return False
        logs = [[token["logprob"] for token in choice["logprobs"]] for choice in (one, other)]
        most = 0.0 if self._exact else 20 * TOLERANCE
        return all(abs(a - b) <= most for a, b in zip(*logs, strict=True))

    def _distance(self, body: Mapping[str, Any], made: Made | None, index: int, one: Json) -> float:
        """0 where every id that was drawn may have been, but for rounding."""
        asked = {name: body[name] for name in ("inputs", "truncate") if name in body}
        told = self.ask("/render", asked, made).json()
        ids, new = _sequence(told), _ids(one)
        given = {name: value for name, value in body["parameters"].items() if name in OF_SAMPLING}
        sampling = Sampling(**given, choice=index)
        rows = oracle.logits_after(self._model, None if made is None else made.prompt, (*ids, *new[:-1]), len(new))
        most = 2 * max(TOLERANCE, RELATIVE * float(rows.abs().max()))
        away = [
            distance_of(rows[at].double().numpy(), sampling, (*ids, *new[:at]), at, token)
            for at, token in enumerate(new)
        ]
        worst = max(away, default=0.0)
        return 0.0 if worst <= most else worst


def _uncached(value: Any) -> Any:
    return {name: n for name, n in value.items() if name != "cached_tokens"} if isinstance(value, dict) else value


def _choices(answer: Json) -> list[Json]:
    return answer.get("choices") or [answer]


def _ids(choice: Json) -> list[int]:
    return [token["id"] for token in choice["logprobs"]]


def _short(choice: Json) -> str:
    return f"{choice['generated_text'][:60]!r} {choice['finish_reason']} {_ids(choice)[:12]}"


def _sequence(rendered: Json) -> tuple[int, ...]:
    """Ids as the engine has them: row i is ~i."""
    found = list(rendered["ids"])
    for slot in rendered["slots"]:
        found[slot["position"] : slot["position"]] = [~(slot["row"] + at) for at in range(slot["length"])]
    return tuple(found)
