"""Results that fit their reader."""

from collections.abc import Callable
from typing import TypeVar

from pydantic_core import to_json

from kb.errors import InvalidInput
from kb.tokens import count_tokens
from kb.tools.results import Result

# No text has more characters for a token but by blanks; what is longer is not even counted.
CHARACTERS_PER_TOKEN = 8

R = TypeVar("R", bound=Result)


def fitted(units: int, make: Callable[[int], R], budget: int, *, least: int = 1) -> R:
    """The result made of as many units as a budget of tokens has room for, nearly.

    make: called with how many units (hits, headings, sentences) to put in. least: how many there must be,
    where there are so many. Raises InvalidInput where those do not fit.
    """
    count, least = units, min(least, units)
    while (used := size(made := make(count), budget)) > budget:
        if count == least:
            raise InvalidInput(f"the shortest answer has {used} tokens, and {budget} are allowed")
        count = max(least, min(count - 1, int(count * budget / used)))
    return made


def size(result: Result, budget: int) -> int:
    """Tokens of a result, as text or as JSON, whichever is more; not counted where its bytes are within the
    budget, and no token is less than a byte."""
    most = 0
    for form in (result.shown(), to_json(result).decode()):
        length = len(form.encode())
        most = max(most, length if length <= budget else count_tokens(form))
    return most
