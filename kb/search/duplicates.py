"""Passages that say the same in nearly the same words."""

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate
from unicodedata import normalize

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"[-−]?\d+")
# Of the longer of two passages, what the shorter must be.
_SHARE = 0.9
# Characters in the middle of a passage that others are found by.
_CORE = 8


@dataclass(frozen=True, slots=True)
class Wording:
    """What two passages are compared by: their letters and digits; offsets in these at which words begin and
    end; and their numbers in order."""

    letters: str
    edges: frozenset[int]
    numbers: tuple[str, ...]


def wording(text: str) -> Wording:
    """Of a passage: case, punctuation, hyphenation and white space do not count."""
    folded = normalize("NFKC", text).casefold()
    words = _WORD.findall(folded) or [folded.strip()]
    edges = frozenset(accumulate(map(len, words), initial=0))
    return Wording("".join(words), edges, tuple(_NUMBER.findall(folded)))


def alike(one: Wording, other: Wording) -> bool:
    """Whether one is the other with at most a tenth more words before or after it, and no other number.

    Words in common are no measure: passages that share nine tenths of them may differ in the very name that
    all the rest is about (benchmarks/README.md, "Duplicates").
    """
    short, long = sorted((one, other), key=lambda said: len(said.letters))
    if one.numbers != other.numbers or len(short.letters) < _SHARE * len(long.letters):
        return False
    at = long.letters.find(short.letters)
    return {at, at + len(short.letters)} <= long.edges


class Kept:
    """Wordings that stay, each at its place in a ranking."""

    def __init__(self) -> None:
        self._by_core: defaultdict[str, list[tuple[int, Wording]]] = defaultdict(list)

    def first_like(self, new: Wording) -> int | None:
        """The place of the first added that is alike."""
        core = new.letters[_middle(new) : _middle(new) + _CORE]
        return next((place for place, kept in self._by_core.get(core, ()) if alike(new, kept)), None)

    def add(self, new: Wording, place: int) -> None:
        """Let it stay."""
        # The middle of one is within an eighteenth of the other's: half of what their lengths differ by.
        middle, reach = _middle(new), len(new.letters) // 18 + 1
        for core in {
            new.letters[at : at + _CORE] for at in range(max(0, middle - reach), middle + reach + 1)
        }:
            self._by_core[core].append((place, new))


def _middle(of: Wording) -> int:
    return max(0, (len(of.letters) - _CORE) // 2)
