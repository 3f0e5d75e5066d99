"""Document -> chunks with exact spans, cut where the text itself is cut.

Blocks (headings, paragraphs, list items, fences, tables) are packed in order until the policy's size
is reached. A block that is too long is cut into sentences, lines or table rows, and only then anywhere.
Every non-blank character of the text lies in at least one chunk.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kb.errors import InvalidInput
from kb.types import Chunk, ChunkingPolicy, Document, Heading

TokenStarts = Callable[[str], Sequence[int]]

# Tokens kept free for title and headings when a size would otherwise fill the model's whole window.
CONTEXT_TOKENS = 48
# A chunk at least this full ends before a heading, and before a block that would have to be cut.
_FULL_ENOUGH = 0.5

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s")
# A full stop ends a sentence unless a small letter follows; CJK stops need no space after them.
_SENTENCE_END = re.compile(r"(?:[.!?…]['\"”’»)\]]*+\s++(?![a-zäöüß])|[。！？]\s*)")


@dataclass(frozen=True, slots=True)
class _Block:
    """A block, or a piece of one. header: a table's header row, context for the rows below it.

    block_end: on the first piece of a block that was cut, where that block ends.
    """

    start: int
    end: int
    kind: str
    header: str = ""
    block_end: int | None = None


def default_policy(max_tokens: int) -> ChunkingPolicy:
    """The measured best (benchmarks/README.md, "Chunk size"), within what the model can read."""
    return ChunkingPolicy(size=min(120, max(16, max_tokens - CONTEXT_TOKENS)), overlap=0)


def check_policy(policy: ChunkingPolicy, max_tokens: int) -> None:
    """Raises InvalidInput unless chunks of this policy fit the model and overlap by less than half."""
    if policy.size is None:
        return
    if not 16 <= policy.size <= max_tokens:
        raise InvalidInput(
            f"chunk size must be 16 to {max_tokens} tokens, the model's limit", param="chunk_size"
        )
    if not 0 <= policy.overlap <= policy.size // 2:
        raise InvalidInput(
            f"overlap must be 0 to {policy.size // 2} tokens, half the size", param="chunk_overlap"
        )


def fitting(policy: ChunkingPolicy | None, max_tokens: int) -> ChunkingPolicy | None:
    """The policy with its size brought down to what the model can read, and its overlap to half of that."""
    if policy is None or policy.size is None:
        return policy
    size = min(policy.size, max_tokens)
    return ChunkingPolicy(size, min(policy.overlap, size // 2))


def chunk(
    document: Document, policy: ChunkingPolicy, token_starts: TokenStarts, *, title: str, max_tokens: int
) -> list[Chunk]:
    """Cut a document.

    token_starts: the embedder's own tokens (kb.protocols.Embedder.token_starts). title: of the document,
    put before each chunk's text in what is embedded, with the headings above it. max_tokens: what the
    model reads of one text; the context is shortened to fit beside `policy.size`.
    """
    if policy.size is None:
        first_page = document.pages[0].number if document.pages else None
        return [Chunk(0, len(document.text), page=first_page, context=f"{title} " if title else "")]
    page_starts = [page.start for page in document.pages]
    tokens = _Tokens(document.text, token_starts)
    context = _Context(document, title, token_starts, max(0, max_tokens - policy.size))
    chunks = []
    for pieces in _pack(_pieces(document, tokens, policy), tokens, policy):
        start, end = pieces[0].start, pieces[-1].end
        heading, before = context.of(pieces[0])
        page = bisect_right(page_starts, start)
        number = document.pages[page - 1].number if page else None
        chunks.append(Chunk(start, end, page=number, heading=heading, context=before))
    return chunks


class _Tokens:
    """Counts tokens between two offsets of one text."""

    def __init__(self, text: str, token_starts: TokenStarts) -> None:
        self.starts = token_starts(text)

    def count(self, start: int, end: int) -> int:
        return bisect_left(self.starts, end) - bisect_left(self.starts, start)

    def after(self, start: int, tokens: int) -> int | None:
        """Offset of the token that follows `tokens` tokens from `start`; None past the last one."""
        position = bisect_left(self.starts, start) + tokens
        return self.starts[position] if position < len(self.starts) else None


class _Context:
    """What stands above a piece: title, headings and a table's header row, cut to a token budget."""

    def __init__(self, document: Document, title: str, token_starts: TokenStarts, budget: int) -> None:
        self.starts = [heading.start for heading in document.headings]
        self.paths = list(_paths(document.headings))
        self.title = title
        self.token_starts = token_starts
        self.budget = budget
        self.fitted: dict[str, str] = {}

    def of(self, piece: _Block) -> tuple[str | None, str]:
        """The heading path of a piece, and the text to embed before it."""
        at = bisect_right(self.starts, piece.start)
        above = self.paths[at - 1] if at else ()
        shown = " > ".join(heading.title for heading in above) or None
        names = [heading.title for heading in above if heading.start != piece.start]
        if self.title and self.title not in names[:1] and shown != self.title:
            names.insert(0, self.title)
        before = " > ".join(names)
        if piece.header:
            before = f"{before}\n{piece.header}" if before else piece.header
        return shown, self._fit(before)

    def _fit(self, before: str) -> str:
        # One token for the line break that joins it to the text.
        room = self.budget - 1
        if not before or room < 1:
            return ""
        if before not in self.fitted:
            starts = self.token_starts(before)
            # The end is the nearest to the text: the deepest heading, the table's header.
            self.fitted[before] = (before if len(starts) <= room else before[starts[-room] :]) + "\n"
        return self.fitted[before]


def _paths(headings: Sequence[Heading]) -> Iterator[tuple[Heading, ...]]:
    """For each heading the ones that enclose it, outermost first, and itself."""
    path: tuple[Heading, ...] = ()
    for heading in headings:
        while path and path[-1].level >= heading.level:
            path = path[:-1]
        path = (*path, heading)
        yield path


def _pieces(document: Document, tokens: _Tokens, policy: ChunkingPolicy) -> Iterator[_Block]:
    """Blocks in order, those over the policy's size cut; with an overlap, those longer than it too."""
    assert policy.size is not None
    size = policy.size
    for block in _blocks(document):
        if tokens.count(block.start, block.end) <= (policy.overlap or size):
            yield block
            continue
        block_end: int | None = block.end
        for part in _parts(document.text, block):
            small = tokens.count(part.start, part.end) <= size
            for piece in [part] if small else _anywhere(document.text, part, tokens, size):
                yield replace(piece, block_end=block_end)
                block_end = None


def _blocks(document: Document) -> Iterator[_Block]:
    """Runs of lines that belong together. Blank lines separate and belong to none."""
    text, rich = document.text, document.markup == "markdown"
    headings = {heading.start for heading in document.headings}
    pages = {page.start for page in document.pages}
    run: list[tuple[int, int]] = []
    fence = ""

    def close(kind: str = "paragraph") -> Iterator[_Block]:
        while run and run[-1][0] == run[-1][1]:
            run.pop()
        if run:
            start, end = run[0][0], run[-1][1]
            header = ""
            if len(run) > 2 and rich and "|" in text[start : run[0][1]]:
                rule = text[run[1][0] : run[1][1]]
                if "-" in rule and not rule.strip("|:- \t"):
                    kind, header = "table", text[start : run[0][1]].strip()
            yield _Block(start, end, kind, header)
            run.clear()

    for start, end in _lines(text):
        line = text[start:end]
        if fence:
            run.append((start, end))
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
                yield from close("fence")
            continue
        if not line.strip():
            yield from close()
            continue
        if start in pages or (rich and _ITEM.match(line)):
            yield from close()
        if start in headings:
            yield from close()
            yield _Block(start, end, "heading")
            continue
        if rich and (opened := _FENCE.match(line)):
            yield from close()
            fence = opened[1]
        run.append((start, end))
    yield from close("fence" if fence else "paragraph")


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the lines, their line breaks and trailing blanks left out."""
    start = 0
    while start < len(text):
        stop = text.find("\n", start)
        stop = len(text) if stop < 0 else stop
        yield start, start + len(text[start:stop].rstrip())
        start = stop + 1


def _parts(text: str, block: _Block) -> Iterator[_Block]:
    """A block cut into rows, lines or sentences; sentences that hold no stop, into lines."""
    if block.kind in ("table", "fence"):
        for position, (start, end) in enumerate(_lines(text[block.start : block.end])):
            if start < end:
                # The header row and its rule need no header of their own.
                header = block.header if position > 1 else ""
                yield _Block(block.start + start, block.start + end, block.kind, header)
        return
    start = block.start
    for stop in [*_SENTENCE_END.finditer(text, block.start, block.end), None]:
        end = stop.end() if stop else block.end
        trimmed = _trim(text, start, end)
        if trimmed:
            yield _Block(*trimmed, block.kind)
        start = end


def _anywhere(text: str, block: _Block, tokens: _Tokens, size: int) -> Iterator[_Block]:
    """Cuts of at most `size` tokens: at the last line break in each, else the last blank, else mid-word."""
    start = block.start
    while start < block.end:
        stop = tokens.after(start, size)
        if stop is None or stop >= block.end:
            stop = block.end
        else:
            for mark in ("\n", " "):
                found = text.rfind(mark, start + 1, stop)
                if found > start and tokens.count(start, found) * 2 >= size:
                    stop = found
                    break
        trimmed = _trim(text, start, stop)
        if trimmed:
            yield _Block(*trimmed, block.kind, block.header)
        start = stop


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return None if left == len(piece) else (start + left, start + len(piece.rstrip()))


def _pack(pieces: Iterable[_Block], tokens: _Tokens, policy: ChunkingPolicy) -> Iterator[list[_Block]]:
    """Neighbouring pieces, at most `policy.size` tokens together, the overlap counted in."""
    assert policy.size is not None

    def fits(first: _Block, end: int, room: int) -> bool:
        return tokens.count(first.start, end) <= room

    current: list[_Block] = []
    for piece in pieces:
        if current:
            new_section = piece.kind == "heading" and current[-1].kind != "heading"
            would_be_cut = piece.block_end is not None and not fits(current[0], piece.block_end, policy.size)
            full_enough = not fits(current[0], current[-1].end, int(policy.size * _FULL_ENOUGH))
            if not fits(current[0], piece.end, policy.size) or (
                full_enough and (new_section or would_be_cut)
            ):
                kept = len(current)
                # A heading stays with what it heads.
                while (
                    kept > 1
                    and current[kept - 1].kind == "heading"
                    and fits(current[kept - 1], piece.end, policy.size)
                ):
                    kept -= 1
                yield current[:kept]
                if kept < len(current):
                    current = current[kept:]
                elif new_section:
                    current = []
                else:
                    end = current[-1].end
                    current = [
                        last
                        for last in current[1:]
                        if fits(last, end, policy.overlap) and fits(last, piece.end, policy.size)
                    ]
        current.append(piece)
    if current:
        yield current
