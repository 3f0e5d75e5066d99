"""Where in a passage a quote stands; and, where none was given, which of its sentences says what is cited."""

import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from operator import itemgetter

from kb.content.fence import HIDDEN
from kb.content.peek import Span, sentence_ends

# Of a passage that is longer, only what was found in it is looked at for a sentence.
_LOOKED_AT = 20_000
# A sentence that goes on (a table without full stops, say) is cut.
_LONGEST_SENTENCE = 500

# One character each, so that offsets stay.
_MARKS, _DASHES = '"“”„‟«»‹›‘’‚‛`´″′＂＇', "‐‑‒–—―−﹣－"
# A model sees a hidden character as `kb.content.fence` writes it, and may leave it out, as it does what makes
# words bold or code in Markdown.
_UNSEEN = re.compile(rf"{HIDDEN.pattern}|\\u\{{(?P<shown>[0-9A-F]{{4,6}})\}}|(?P<emphasis>[*`]+)")
# What a model adds at the ends of a quote.
_EDGES = " .,;:…"

# Scripts that write words without blanks between them, or very short ones.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_DENSE_RUN = re.compile(f"[{_DENSE}]+")
_WORD = re.compile(rf"[^\W_{_DENSE}]+")
_SHORTEST_WORD = 3
# What a second sentence must bring to be cited as well. Tried out, as the weights of words were, on 472
# questions whose answers' places in long texts are known: 0.65 are hit, without the weights 0.62.
_PAIR_GAIN = 1.5


def quoted_span(quote: str, text: str, passage: Span, found: Sequence[Span] = ()) -> Span | None:
    """Where a quote stands in a passage of a text; first in what was found of it. None where it does not.

    Blanks, kinds of quotation marks and dashes, hidden characters, emphasis, and the punctuation that it ends
    with may differ; no letter and no digit may, nor where a word or a number begins and ends.
    """
    seen = _Seen(quote, 0, len(quote)).text
    forms = dict.fromkeys(r"\s+".join(map(re.escape, one.split())) for one in (seen, seen.strip(_EDGES)))
    patterns = [re.compile(form) for form in forms if form]
    for start, end in (*found, passage) if patterns else ():
        part = _Seen(text, start, end)
        for pattern in patterns:
            for match in pattern.finditer(part.text):
                if _whole(part.text, *match.span()):
                    return part.span(*match.span())
    return None


class _Seen:
    """A part of a text without what hides in it, its marks and dashes all alike."""

    def __init__(self, text: str, start: int, end: int) -> None:
        pieces, self._from, self._at, length = [], [], [], 0
        for first, last in _gaps(text, start, end):
            pieces.append(text[first:last])
            self._from.append(first)
            self._at.append(length)
            length += last - first
        self.text = _alike("".join(pieces))

    def span(self, start: int, end: int) -> Span:
        """Where a part of it, which is not empty, stands in the text."""
        return self._origin(start), self._origin(end - 1) + 1

    def _origin(self, at: int) -> int:
        piece = bisect_right(self._at, at) - 1
        return self._from[piece] + at - self._at[piece]


def _alike(text: str) -> str:
    # Forty times as fast as str.translate, which looks up every character.
    for mark in _MARKS:
        text = text.replace(mark, "'")
    for dash in _DASHES:
        text = text.replace(dash, "-")
    return text


def _gaps(text: str, start: int, end: int) -> Iterator[Span]:
    """What stands between characters that do not count."""
    for unseen in _UNSEEN.finditer(text, start, end):
        if _counts(unseen):
            continue
        yield start, unseen.start()
        start = unseen.end()
    yield start, end


def _counts(unseen: re.Match[str]) -> bool:
    """Whether it is no hidden character and no emphasis, but a sign between two words or within one."""
    if unseen["shown"]:
        number = int(unseen["shown"], 16)
        return number > sys.maxunicode or not HIDDEN.fullmatch(chr(number))
    if unseen["emphasis"]:
        text, first, last = unseen.string, unseen.start(), unseen.end()
        before, after = text[max(0, first - 1) : first], text[last : last + 1]
        return (before.isalnum() and after.isalnum()) or not (before.strip() or after.strip())
    return False


def _whole(text: str, start: int, end: int) -> bool:
    """Whether no word and no number is cut: `20 s` is not in `120 s`, nor in `3.20 s`."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    cut_before = before != "" and (
        _one_word(before[-1], text[start]) or _one_number(before[:-1], before[-1], text[start])
    )
    cut_after = after != "" and (
        _one_word(text[end - 1], after[0]) or _one_number(text[end - 1], after[0], after[1:])
    )
    return not cut_before and not cut_after


def _one_word(left: str, right: str) -> bool:
    """Of scripts without letters' case, of which some have no blanks between words, none is taken to be."""
    return all(one.isdecimal() or one.lower() != one.upper() for one in (left, right))


def _one_number(left: str, between: str, right: str) -> bool:
    return left.isdecimal() and between in ".," and right.isdecimal()


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text, and the words in it that tell what it is about."""

    start: int
    end: int
    terms: frozenset[str]


def sentences(text: str, passage: Span, found: Sequence[Span] = ()) -> list[list[Sentence]]:
    """Sentences to choose among; those of one list follow each other. Of a long passage, what was found."""
    parts = [passage]
    if passage[1] - passage[0] > _LOOKED_AT:
        parts = [(start, min(end, start + _LOOKED_AT)) for start, end in found or parts]
    runs, room = [], _LOOKED_AT
    for start, end in parts:
        if room <= 0:
            break
        runs.append(
            [Sentence(*span, terms(text[slice(*span)])) for span in _sentence_spans(text, start, end)]
        )
        room -= end - start
    return runs


def nearest(sentence: str, clause: str, runs: Sequence[Sequence[Sentence]]) -> Span | None:
    """The sentence, or two neighbours, that share most words with a sentence; None where none shares any.

    A word counts log(1 + n / how many of the n sentences have it). clause: the end of the sentence, which is
    what is cited; words of it count twice.
    """
    having = Counter(term for run in runs for one in run for term in one.terms)
    wanted, closest, number = terms(sentence), terms(clause), sum(map(len, runs))

    def shared(words: frozenset[str]) -> float:
        return sum(log(1 + number / having[word]) for part in (wanted, closest) for word in words & part)

    scored = ((shared(one.terms), (one.start, one.end)) for run in runs for one in run)
    best, span = max(scored, key=itemgetter(0), default=(0, (0, 0)))
    pairs = (
        (shared(one.terms | other.terms), (one.start, other.end))
        for run in runs
        for one, other in pairwise(run)
    )
    best_of_two, both = max(pairs, key=itemgetter(0), default=(0, span))
    if not best:
        return None
    return both if best_of_two > best * _PAIR_GAIN else span


def terms(text: str) -> frozenset[str]:
    """Words that tell what a text is about, in any language: all but the shortest, and numbers."""
    text = HIDDEN.sub("", text)
    found = {
        word.casefold() for word in _WORD.findall(text) if len(word) >= _SHORTEST_WORD or word[0].isdecimal()
    }
    for run in _DENSE_RUN.findall(text):
        found.update(run[at : at + 2] for at in range(max(1, len(run) - 1)))
    return frozenset(found)


def last_sentence(text: str) -> str:
    """What an answer said last."""
    text = text.rstrip()
    ends = sentence_ends(text, 0, len(text))
    return text[ends[-2] if len(ends) > 1 else 0 :]


def _sentence_spans(text: str, start: int, end: int) -> Iterator[Span]:
    """Without the blanks around them."""
    for stop in sentence_ends(text, start, end):
        while start < stop:
            cut = stop
            if stop - start > _LONGEST_SENTENCE:
                blank = text.rfind(" ", start + 1, start + _LONGEST_SENTENCE)
                cut = blank if blank > 0 else start + _LONGEST_SENTENCE
            part = text[start:cut]
            first = start + len(part) - len(part.lstrip())
            last = start + len(part.rstrip())
            if first < last:
                yield first, last
            start = cut
