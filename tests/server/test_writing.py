"""What an answer holds when it ends."""

from server.engine.request import TokenEvent
from server.stopping import Stopping
from server.tokenizer import Tokenizer
from server.writing import Ending, Writer
from tests.models import tokenizer


def test_an_end_that_reads_as_text_is_no_text() -> None:
    """An end-of-sequence id need not be a special token: a full stop may be one."""
    found = Tokenizer(tokenizer(), 0, frozenset({0, 1, 2}))
    *body, end = found.encode("so it is.", parse_special=False)
    writer = Writer(found, [], Stopping(" ", ()), Ending(frozenset({end}), 100))
    pieces = [writer.write(TokenEvent(index, token, None, ())) for index, token in enumerate([*body, end])]
    assert writer.text == "so it is"
    assert (pieces[-1].special, pieces[-1].text, writer.over) == (True, "", True)
    assert not any(piece.special for piece in pieces[:-1])
