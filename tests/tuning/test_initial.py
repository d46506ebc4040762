"""First rows come from the embedding."""

import pytest
import torch

from tuning import initial
from tuning.base import FrozenBase


def embedded(base: FrozenBase, ids: list[int]) -> torch.Tensor:
    return base.embed(torch.tensor(ids), torch.zeros(0, 64))


def test_vocabulary_rows_are_embeddings_of_frequent_text_ids(base: FrozenBase) -> None:
    """Each a different id of the text, pseudo-tokens never."""
    texts = [[~0, 5, 6, 7, 5]] * 3
    assert set(initial.vocabulary(texts, 3, seed=0)) == {5, 6, 7}
    assert len(initial.vocabulary(texts, 8, seed=0)) == 8
    assert torch.equal(initial.embedded(base, [5, 6, 7]), embedded(base, [5, 6, 7]))


def test_text_rows_repeat_the_text(base: FrozenBase) -> None:
    """The ids of the text in order, again from the start when it is shorter."""
    ids = base.tokenizer.encode("play some jazz", False)
    assert initial.text(base, "play some jazz", len(ids) + 2) == [*ids, *ids[:2]]
    with pytest.raises(ValueError, match="no tokens"):
        initial.text(base, "", 2)


def test_label_rows_are_mean_embeddings_then_the_rest(base: FrozenBase) -> None:
    """One row a label as far as there is room."""
    rest = torch.zeros(3, 64)
    rows = initial.labels(base, ["weather", "music"], " ", rest)
    assert torch.equal(rows[0], embedded(base, base.tokenizer.encode(" weather", False)).mean(0))
    assert torch.equal(rows[2], rest[2])
    assert initial.labels(base, ["a", "b", "c", "d"], " ", rest).shape == (3, 64)
