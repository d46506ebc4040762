"""Stop strings and the leading delimiter over any way of cutting a text into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from server.stopping import Stopping

LETTERS = st.text(alphabet="ab\n", max_size=30)


def expected(text: str, delimiter: str, stops: tuple[str, ...]) -> str:
    text = text.removeprefix(delimiter)
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(found)] if found else text


@given(
    pieces=st.lists(LETTERS, max_size=8),
    delimiter=st.text(alphabet="ab\n", max_size=3),
    stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3),
)
def test_the_text_is_the_same_however_it_arrives(pieces: list[str], delimiter: str, stops: list[str]) -> None:
    """What comes out joined is the whole text up to the first stop string, whatever the pieces are."""
    stopping = Stopping(delimiter, tuple(stops))
    written = ""
    arrived = ""
    for piece in pieces:
        arrived += piece
        written += stopping.push(piece)
        assert expected(arrived, delimiter, tuple(stops)).startswith(written)
        if stopping.matched:
            break
    written += stopping.finish()
    assert written == expected(arrived, delimiter, tuple(stops))


def test_what_may_become_a_stop_string_is_held_back() -> None:
    """Nothing that a client has read is ever taken back."""
    stopping = Stopping("", ("END",))
    assert stopping.push("an E") == "an "
    assert stopping.push("N") == ""
    assert stopping.push("d") == "ENd"


def test_the_earliest_stop_string_wins() -> None:
    """Two stop strings in one piece: the text ends at the first."""
    stopping = Stopping("", ("b", "a"))
    assert stopping.push("xxab") == "xx"
    assert stopping.matched
    assert stopping.finish() == ""


def test_only_one_leading_delimiter_is_removed() -> None:
    """The second space of the answer is the answer's."""
    stopping = Stopping(" ", ())
    assert stopping.push("  jazz") == " jazz"


def test_a_text_that_ends_inside_the_delimiter_is_looked_through_for_stop_strings() -> None:
    """Half a delimiter is text like any other."""
    stopping = Stopping("aa", ("a",))
    assert stopping.push("a") == ""
    assert stopping.finish() == ""
    assert stopping.matched
