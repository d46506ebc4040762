"""How the page says sizes, times, tokens and cosines."""

import pytest

from server.page import views


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * 2**20, "5.0 MiB"), (2**41, "2048.0 GiB")],
)
def test_a_size_is_told_in_its_unit(count: int, told: str) -> None:
    """The largest unit of which there is one."""
    assert views.size(count) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "∅"), (" the", "␣the"), ("\n", "⏎"), ("a\tb", "a⇥b"), ("\x0b", "‹B›"), ("\u200b", "‹200B›"), ("é", "é")],
)
def test_what_cannot_be_seen_is_made_visible(text: str, told: str) -> None:
    """Spaces, breaks, control and zero-width characters; letters stay."""
    assert views.visible(text) == told


def test_the_picture_is_as_strong_as_the_cosine() -> None:
    """The largest cosine has the full colour, a negative one none, and every token its own place."""
    found = views.picture([[("a", 0.5), ("b", 0.25)], [("c", 0.1), ("d", -0.2)]])
    assert [[cell.strength for cell in row] for row in found.rows] == [[1.0, 0.5], [0.2, 0.0]]
    assert len({(cell.x, cell.y) for row in found.rows for cell in row}) == 4
    assert all(cell.x + views.CELL_WIDTH <= found.width for row in found.rows for cell in row)
    assert all(cell.y + views.CELL_HEIGHT <= found.height for row in found.rows for cell in row)


def test_an_empty_picture_has_no_height() -> None:
    """No pseudo-tokens, no rows."""
    assert views.picture([]).height == 0
