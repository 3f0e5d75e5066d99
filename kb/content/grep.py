"""Looks for a pattern in texts, in linear time whatever the pattern. The only file that imports RE2."""

from collections.abc import Callable, Iterator
from typing import Any

from kb.content.texts import OpenText
from kb.errors import InvalidInput

MAX_PATTERN = 1000
"""Characters."""

Find = Callable[[OpenText, int], Iterator[tuple[int, int]]]
"""A text and an offset to begin at, to the spans that match behind it, in order. An empty one is no match: it
tells how far the search has come, so that whoever has waited long enough can leave."""

# Instructions of a compiled expression. RE2 takes time in proportion to them and the text where they are
# many: half a second for each hundred thousand bytes at five times as many.
_MAX_PROGRAM = 5000
_MAX_MEMORY = 8_000_000
# Looked through between two looks at the clock; a longer line is cut there.
_PORTION = 100_000


def compiled(pattern: str, *, regex: bool, case: bool) -> Find:
    """How to look for a pattern: literally, or as an RE2 expression within one line; empty matches are none.

    case: whether capital and small letters differ. Raises InvalidInput, with what is wrong in an expression.
    """
    if not 1 <= len(pattern) <= MAX_PATTERN:
        message = f"a pattern is 1 to {MAX_PATTERN} characters, not {len(pattern)}"
        raise InvalidInput(message, param="pattern")
    if not regex and case:
        return _literally(pattern)
    return _by_expression(_expression(pattern, regex=regex, case=case), in_lines=regex)


def _literally(pattern: str) -> Find:
    def find(opened: OpenText, at: int) -> Iterator[tuple[int, int]]:
        while (at := opened.text.find(pattern, at)) >= 0:
            yield at, at + len(pattern)
            at += len(pattern)

    return find


def _by_expression(expression: Any, *, in_lines: bool) -> Find:
    def find(opened: OpenText, at: int) -> Iterator[tuple[int, int]]:
        # RE2 counts bytes, we code points: what lies between two matches is decoded to count it.
        data = opened.text[at:].encode()
        before = b"" if at == 0 else opened.text[at - 1].encode()
        data, counted, seen = before + data, at, len(before)
        begin = seen
        while begin < len(data):
            end = _line_end(data, begin) if in_lines else len(data)
            for match in expression.finditer(data, begin, end):
                first, last = match.span()
                if first == last:
                    continue
                start = counted + len(data[seen:first].decode())
                counted, seen = start + len(data[first:last].decode()), last
                yield start, counted
            begin, counted, seen = end, counted + len(data[seen:end].decode()), end
            yield counted, counted

    return find


def _line_end(data: bytes, begin: int) -> int:
    """The end of the last line that ends within a portion, else that of a character."""
    end = min(begin + _PORTION, len(data))
    if end == len(data):
        return end
    if (line := data.rfind(b"\n", begin, end)) > begin:
        return line + 1
    while data[end] & 0b1100_0000 == 0b1000_0000:
        end -= 1
    return end


def _expression(pattern: str, *, regex: bool, case: bool) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    options.case_sensitive = case
    options.never_nl = regex
    source = f"(?m){pattern}" if regex else re2.escape(pattern)
    try:
        expression = re2.compile(source, options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise InvalidInput(
            f"the pattern is no RE2 expression ({reason}); look-around and back-references are not known; "
            "leave regex out to look for it literally",
            param="pattern",
        ) from None
    if expression.programsize > _MAX_PROGRAM:
        raise InvalidInput(
            "the pattern is too complex; repeat less, or look for a part of it", param="pattern"
        )
    return expression
