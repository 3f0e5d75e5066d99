"""Which language a text is in. The only file that imports CLD3."""

import functools
import re
import threading
from collections import Counter
from typing import Any

# Of a longer text this much is read of its beginning, its middle and its end.
_PIECE = 1500
# Digits, symbols and single letters (formulas, code, hexadecimal) say nothing, and mislead the detector.
_WORD = re.compile(r"\b[^\W\d_]{2,}\b")

_turn = threading.Lock()


def language_of(text: str) -> str:
    """A BCP 47 code such as "en" or "zh-Latn"; "" where the detector is not sure.

    By CLD3, the network over character n-grams that Chrome used: 0.3 us a character. A text in several
    languages is given the one that most of its beginning, middle and end are in.
    """
    pieces = [text]
    if len(text) > 3 * _PIECE:
        middle = (len(text) - _PIECE) // 2
        pieces = [text[:_PIECE], text[middle : middle + _PIECE], text[-_PIECE:]]
    votes = Counter(filter(None, map(_detected, pieces)))
    return votes.most_common(1)[0][0] if votes else ""


def _detected(text: str) -> str:
    words = " ".join(_WORD.findall(text))
    if not words:
        return ""
    with _turn:
        found = _detector().FindLanguage(text=words)
    return str(found.language) if found.is_reliable else ""


@functools.cache
def _detector() -> Any:
    from gcld3 import NNetLanguageIdentifier

    # More bytes than three pieces have, however long their characters.
    return NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=12 * _PIECE)
