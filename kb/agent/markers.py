"""What of an answer cites a passage: `[3]`, `[1][4]`, `[1, 4]`, `[2-4]`, or `[3: "the words relied on"]`.

Read while the answer streams: text goes on at once, and only what may still become a marker is held back.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum

LONGEST = 700
"""Characters of a marker at the most. What has not ended by then, or by a blank line, is text."""

# Passages are numbered from 1, without leading zeros; `[0, 1]` is an interval.
_NUMBER = r"[1-9][0-9]{0,4}"
# Models open and close with whatever quotation marks they are used to.
_MARK = "[\"'“”„‟‘’‚«»‹›「」『』＂]"
# One of those between the brackets, and the comma behind it. Brackets within a quote come in pairs here.
_CLAIM = re.compile(
    rf"\s*(?P<first>{_NUMBER})"
    rf"(?:\s*[-–]\s*(?P<last>{_NUMBER})"
    rf"|\s*:\s*{_MARK}(?P<quote>(?:\\.|\[[^\[\]]*\]|[^\\\[\]])*?){_MARK}(?=\s*(?:\Z|[,;]\s*{_NUMBER})))?"
    r"\s*(?:[,;]|\Z)",
    re.DOTALL,
)
# Looked for where a marker would otherwise be text: its quote has a bracket without its pair.
_LOOSE_CLAIM = re.compile(rf"\s*(?P<first>{_NUMBER})\s*:\s*{_MARK}(?P<quote>.*){_MARK}\s*", re.DOTALL)
# How all of them begin.
_BEGINNING = re.compile(
    rf"[\[【]\s*(?:{_NUMBER}(?:\s*[-–]\s*{_NUMBER})?\s*[,;]\s*)*"
    rf"(?:{_NUMBER}\s*(?:[-–]\s*(?:{_NUMBER}\s*)?|:\s*(?:{_MARK}.*)?)?)?",
    re.DOTALL,
)
# Behind these a bracket may be an index. Of ASCII only: not all scripts have a blank between word and marker.
_NAME_END = re.compile(r"[A-Za-z0-9_\]]")
_ESCAPED_MARK = re.compile(rf"\\(?={_MARK})")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
# Where something begins or ends that counts. Runs are cut at LONGEST, wherever the stream was cut.
_TURN = re.compile(rf"`{{1,{LONGEST}}}|\n\s{{0,{LONGEST}}}|[\[【]")
# Code that begins with fewer of them ends with its paragraph, so that one stray backtick ends no citing.
_FENCE = 3
# `[2-900]` cites nothing.
_LONGEST_RANGE = 20


@dataclass(frozen=True, slots=True)
class Claim:
    """That a passage says it. quote: the words in it that are relied on; None where none were given."""

    number: int
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """What stood between two brackets. blank: what stood before them, "" or " ". length: of all of it."""

    blank: str
    claims: tuple[Claim, ...]
    length: int = field(default=0, compare=False)


class _Undecided(Enum):
    MORE = "the rest of it is needed"


class Markers:
    """Parts an answer into text and markers. How it is cut into deltas makes no difference.

    known: numbers of passages. Within code (`a[1]`), behind a backslash and as the text of a link all is
    text, and so is directly behind a word what names no passage, `a[7]`.
    """

    def __init__(self, known: Container[int]) -> None:
        self._known = known
        self._held = ""
        # What was given out last: a character of text, or "" at the beginning and behind a marker.
        self._last = ""
        # How many backticks began the code that is open.
        self._code = 0

    def feed(self, text: str) -> list[str | Marker]:
        """What the answer goes on with."""
        self._held += text
        return self._read(final=False)

    def end(self) -> list[str | Marker]:
        """What was held back."""
        return self._read(final=True)

    def _read(self, *, final: bool) -> list[str | Marker]:
        parts: list[str | Marker] = []
        text, given, at = self._held, 0, 0

        def give(until: int) -> None:
            nonlocal given
            if until > given:
                parts.append(text[given:until])
                self._last = text[until - 1]
            given = until

        while turn := _TURN.search(text, at):
            begin, at = turn.span()
            if turn[0] not in "[【":
                if at == len(text) and not final and at - begin < LONGEST:
                    break
                self._turn(turn[0])
                continue
            before = text[begin - 1] if begin > given else self._last
            if self._code or before == "\\":
                continue
            read = self._marker(text, begin, before, final=final)
            if read is None:
                continue
            blank = " " if begin > given and before == " " else ""
            if read is _Undecided.MORE:
                begin -= len(blank)
                break
            claims, at = read
            give(begin - len(blank))
            parts.append(Marker(blank, claims, at - begin + len(blank)))
            self._last, given = "", at
        else:
            # A marker that is dropped takes the blank before it along.
            begin = len(text) - 1 if text.endswith(" ") and not final else len(text)
        give(begin)
        self._held = text[begin:]
        return parts

    def _turn(self, run: str) -> None:
        """Code begins or ends."""
        if run[0] == "\n":
            if self._code < _FENCE and run.count("\n") > 1:
                self._code = 0
        elif not self._code:
            self._code = len(run)
        elif len(run) == self._code or self._code >= _FENCE <= len(run):
            self._code = 0

    def _marker(
        self, text: str, begin: int, before: str, *, final: bool
    ) -> tuple[tuple[Claim, ...], int] | _Undecided | None:
        """What a marker that begins here says and where it ends; None where it is none."""
        window = text[begin : begin + LONGEST]
        paragraph_end = _BLANK_LINE.search(window)
        if paragraph_end:
            window = window[: paragraph_end.start()]
        closing = "]" if window[0] == "[" else "】"
        ends = [at for at, character in enumerate(window) if character == closing]
        for end in ends:
            claims = self._claims(window[1:end])
            if not claims:
                continue
            if any(claim.quote is not None for claim in claims):
                return claims, begin + end + 1
            behind = text[begin + end + 1 : begin + end + 2]
            if not behind and not final:
                return _Undecided.MORE
            known = all(claim.number in self._known for claim in claims)
            is_text = behind == "(" or (not known and _NAME_END.match(before))
            return None if is_text else (claims, begin + end + 1)
        if not (final or paragraph_end or len(window) == LONGEST):
            return _Undecided.MORE if _BEGINNING.fullmatch(window) else None
        for end in ends:
            if found := _LOOSE_CLAIM.fullmatch(window, 1, end):
                return (_claim(found),), begin + end + 1
        return None

    def _claims(self, inside: str) -> tuple[Claim, ...]:
        """What stands between two brackets; () where that cites nothing."""
        claims: list[Claim] = []
        at = 0
        while at < len(inside):
            found = _CLAIM.match(inside, at)
            if not found:
                return ()
            at = found.end()
            if found["last"]:
                first, last = int(found["first"]), int(found["last"])
                known = first in self._known and last in self._known
                if not known or not first < last <= first + _LONGEST_RANGE:
                    return ()
                claims.extend(Claim(number) for number in range(first, last + 1))
            else:
                claims.append(_claim(found))
        return tuple(claims)


def _claim(found: re.Match[str]) -> Claim:
    quote = found["quote"]
    # An empty quote tells nothing, and its number still does.
    return Claim(int(found["first"]), _ESCAPED_MARK.sub("", quote) if quote else None)
