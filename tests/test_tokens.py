"""Tokens of o200k_base, counted without the network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb import tokens
from kb.tokens import count_tokens

PIECES = ["word", " ", "\n", "  ", "Über", "12345", "!?", "漢字", " the", "'s", "\t", "/", "🙂", " \n"]


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("hello world", 2), ("<|endoftext|>", 7), ("Die Pumpe läuft im Dauerbetrieb.", 8), ("🚧", 2)],
)
def test_counts_are_those_of_the_published_vocabulary(text: str, count: int) -> None:
    """A special token's name in a text is only text."""
    assert count_tokens(text) == count


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=400))
def test_a_long_text_is_counted_in_portions_as_it_would_be_whole(pieces: list[str]) -> None:
    """Cut where no token can begin before and end behind."""
    text = "".join(pieces)
    portion, tokens._PORTION = tokens._PORTION, 200
    try:
        assert abs(count_tokens(text) - len(tokens._encoding().encode_ordinary(text))) <= 1
    finally:
        tokens._PORTION = portion


@pytest.mark.parametrize("text", [" " * 2_000_000, "a" * 1_000_000, "\n" * 1_000_000, "漢" * 200_000])
def test_a_long_run_of_one_character_is_counted(text: str) -> None:
    """It would take quadratic time, and of blanks end the process."""
    assert 0 < count_tokens(text) <= len(text)
