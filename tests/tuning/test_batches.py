"""The order of examples: fixed by the seed, dense, complete."""

from tuning.batches import Batches

WIDTHS = [n % 37 for n in range(1000)]


def test_every_epoch_sees_every_row_once() -> None:
    """Nothing is left out, and epochs differ."""
    batches = Batches(WIDTHS, 32, seed=1)
    first = [row for step in range(batches.per_epoch) for row in batches[step]]
    second = [row for step in range(batches.per_epoch) for row in batches[step + batches.per_epoch]]
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second


def test_a_step_is_the_same_wherever_a_run_begins() -> None:
    """Resuming at a step sees the batch that the whole run saw there."""
    whole = Batches(WIDTHS, 32, seed=1)
    seen = [whole[step] for step in range(70)]
    assert Batches(WIDTHS, 32, seed=1)[69] == seen[69]
    assert Batches(WIDTHS, 32, seed=2)[69] != seen[69]


def test_neighbours_share_a_width() -> None:
    """Padding costs little: rows of one batch differ by a few ids where the data differ by 36."""
    batches = Batches(WIDTHS, 32, seed=1)
    spans = [
        max(WIDTHS[row] for row in batch) - min(WIDTHS[row] for row in batch)
        for batch in (batches[step] for step in range(batches.per_epoch))
    ]
    assert sum(spans) / len(spans) < 5
