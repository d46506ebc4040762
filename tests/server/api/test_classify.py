"""/classify and /render over a real socket, against the real engine."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from server.api.answers import Classified, Rendered
from tests.models import save
from tests.server.site import Site
from tests.server.site import site as running


def test_labels_are_ranked_by_their_likelihood(site: Site) -> None:
    """Sums of log probabilities, softmax over the labels, best first; a batch says the same."""
    labels = ["jazz", "rock music", "x"]
    site.publish("labelled", "play {text}:", labels=labels, soft=2)
    answer = site.http.post("/classify", json={"task": "labelled", "inputs": "some"}).json()
    Classified.model_validate(answer)
    scores = answer["scores"]
    assert {score["label"] for score in scores} == set(labels)
    assert answer["label"] == scores[0]["label"]
    assert [score["logprob"] for score in scores] == sorted((s["logprob"] for s in scores), reverse=True)
    assert sum(score["probability"] for score in scores) == pytest.approx(1)
    many = site.http.post(
        "/classify", json={"requests": [{"task": "labelled", "inputs": "some"}, {"task": "none", "inputs": "some"}]}
    ).json()["responses"]
    assert many[0]["label"] == answer["label"]
    assert many[1]["error"]["code"] == "task_not_found"


def test_a_label_scores_what_generating_it_would(site: Site) -> None:
    """The label that is the greedy continuation scores the sum of its generated log probabilities."""
    site.publish("scored", "play {text}", target_delimiter="")
    tokenizer = site.desk.room.tokenizer
    for text in ("some", "a song", "jazz", "who", "more"):
        tokens = site.generate(text, "scored", max_new_tokens=3, logprobs=0)
        label = tokens["generated_text"]
        if tokenizer.encode(label, parse_special=False) == [token["id"] for token in tokens["logprobs"]]:
            break
    else:
        pytest.fail("none of this random base's greedy answers is tokenised the way it was generated")
    answer = site.http.post("/classify", json={"task": "scored", "inputs": text, "labels": [label]}).json()
    assert answer["scores"][0]["logprob"] == pytest.approx(sum(t["logprob"] for t in tokens["logprobs"]), abs=1e-4)


def test_a_label_that_the_tokenizer_drops_is_refused(tmp_path: Path) -> None:
    """Some tokenizers normalise characters away; scoring nothing would end the whole forward pass."""
    folder = save(tmp_path / "base")
    tokenizer = Backend.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()])
    tokenizer.save(str(folder / "tokenizer.json"))
    with running(folder, "memory://") as site:
        for _ in range(4):
            answer = site.http.post("/classify", json={"inputs": "the cat", "labels": ["dog", "\u0301"]})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "labels")
        assert site.http.get("/readyz").status_code == 200


def test_labels_come_from_somewhere(site: Site) -> None:
    """A task without labels, the bare base too, needs them in the request."""
    site.publish("unlabelled", "play {text}")
    for body in ({"task": "unlabelled", "inputs": "x"}, {"inputs": "x"}):
        assert site.http.post("/classify", json=body).status_code == 400
    assert site.http.post("/classify", json={"inputs": "x", "labels": ["a", "b"]}).status_code == 200
    assert site.http.post("/classify", json={"inputs": "x", "labels": ["a", "a"]}).status_code == 400


def test_render_shows_what_would_be_sent(site: Site) -> None:
    """Text, ids and where the rows stand; nothing is generated."""
    site.publish("shown", "{soft:2}play {text}{soft:1} now", soft=3)
    generated = site.snapshot().counters.generated
    answer = site.http.post("/render", json={"task": "shown", "inputs": "jazz"}).json()
    Rendered.model_validate(answer)
    tokenizer = site.desk.room.tokenizer
    first = tokenizer.encode("play jazz", parse_special=False)
    assert answer["text"] == "play jazz now"
    assert answer["ids"] == [tokenizer.bos, *first, *tokenizer.encode(" now", parse_special=False)]
    assert answer["slots"] == [
        {"position": 0, "row": 0, "length": 2},
        {"position": 3 + len(first), "row": 2, "length": 1},
    ]
    assert answer["counts"]["total_tokens"] == len(answer["ids"]) + 3
    assert site.snapshot().counters.generated == generated


def test_special_tokens_of_a_user_are_text(site: Site) -> None:
    """</s> in an input is four characters."""
    answer = site.http.post("/render", json={"inputs": "</s>"}).json()
    assert 1 not in answer["ids"]
    assert answer["text"] == "</s>"
