"""Passages are packed into a budget of tokens: as many of the best as fit, then what stands around them.

What was found goes in by rank. While room is left each passage is widened, to its neighbours, its section,
and chunk by chunk to its document; what then remains is filled by a part of the next chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from kb.content.fence import named, quoted, visible
from kb.content.peek import sentence_ends
from kb.context.outline import Outline, Range
from kb.errors import InvalidInput
from kb.tokens import count_tokens

LEAST_BUDGET = 200
"""Tokens: what one short passage with its reference needs."""

# The first chunk of a passage was counted with the blanks before it, and may take more without them.
_JOINT = 3
# Of a reference at the most: its number, page and span, the two lines of the fence, and the line between.
_AROUND = 36
# Below this a part of a chunk says nothing.
_LEAST_PART = 6
# For budgets up to this the text is counted when it is written; a million tokens would take 0.6 s.
_COUNTED = 100_000
# How often what is free after filling is filled again.
_REFILLS = 3
# A chunk is cut behind a sentence, unless that leaves more of the budget empty than this share or many.
_WASTE, _MOST_WASTE = 0.01, 100


@dataclass(frozen=True, slots=True)
class Place:
    """A span of a version: as a search found it, or as it was packed."""

    version_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PackedPassage:
    """A span as it was packed. tokens: with its reference, at the most."""

    number: int
    place: Place
    tokens: int


@dataclass(frozen=True, slots=True)
class Packed:
    """The text for the model, and what it is made of, in its order.

    left_out: what was found and did not fit. tokens: of the text, never more than the budget; at the most,
    where that is above 100,000. prefix: those of its beginning that is as in the call before.
    """

    text: str
    passages: tuple[PackedPassage, ...]
    left_out: tuple[Place, ...]
    tokens: int
    prefix: int


@dataclass(slots=True)
class _Run:
    """A part of a document that goes in. most: tokens, at the most. rank: of its document's best hit."""

    outline: Outline
    rank: int
    start: int
    end: int
    most: int = 0


@dataclass(slots=True)
class _Document:
    """What of a document is in, by chunk."""

    outline: Outline
    rank: int
    inside: bytearray = field(default_factory=bytearray)

    def cost(self, missing: Sequence[int], near: Range) -> int:
        touches = any(self.inside[max(0, near[0] - 1) : near[1] + 1])
        text = sum(self.outline.tokens[at] for at in missing)
        return text + (0 if touches else _JOINT + _reference_tokens(self.outline, near[0]))

    def runs(self) -> list[Range]:
        found, at = [], 0
        while (first := self.inside.find(1, at)) >= 0:
            at = self.inside.find(0, first)
            at = len(self.inside) if at < 0 else at
            found.append((first, at))
        return found


def pack(
    found: Sequence[Place],
    outlines: Mapping[str, Outline],
    text_of: Callable[[str], str],
    budget: int,
    *,
    before: Sequence[Place] = (),
    numbered_from: int = 1,
) -> Packed:
    """Pack what was found, best first, into a budget of tokens (`kb.tokens`).

    outlines: of every version that is named. text_of: the text of one. before: what the call before packed;
    it stays first and as it was, so that a provider finds its prefix again. The best documents stand at both
    ends of the rest, where models look most, each in its own order. numbered_from: the first's number. Raises
    InvalidInput below LEAST_BUDGET.
    """
    if budget < LEAST_BUDGET:
        raise InvalidInput(f"a budget of {budget} tokens is too small; give at least {LEAST_BUDGET}")
    kept = _kept(before, outlines, text_of, budget)
    prefix = sum(run.most for run in kept)
    # Where it is not counted afterwards, a thousandth is kept for texts that take more together than apart.
    room = budget - prefix - (budget // 1000 if budget > _COUNTED else 0)
    documents = _documents(found, outlines)
    for run in kept:
        if document := documents.get(run.outline.version_id):
            first, last = run.outline.covering(run.start, run.end)
            document.inside[first:last] = b"\1" * (last - first)
    was = {name: bytes(document.inside) for name, document in documents.items()}
    _fill(found, documents, room)
    runs = _runs(documents, was)
    waste = min(int(budget * _WASTE), _MOST_WASTE)
    for _ in range(_REFILLS):
        # Passages that came to touch are one, and what named the other is free.
        left = room - sum(run.most for run in runs)
        if left <= waste:
            break
        _fill(found, documents, left)
        runs = _runs(documents, was)
    while (used := sum(run.most for run in runs)) > room:
        # The cost of a reference was that of the first chunk's heading.
        runs.remove(max(runs, key=lambda run: (run.rank, run.start)))
    _top_up(found, documents, runs, text_of, room - used, waste)
    packed = _written(kept, runs, found, text_of, budget, numbered_from)
    while packed.tokens > budget and runs:
        # Chunks were counted one by one, and a cut inside a word can make their sum too small.
        runs.remove(max(runs, key=lambda run: (run.rank, run.start)))
        packed = _written(kept, runs, found, text_of, budget, numbered_from)
    while budget <= _COUNTED and budget - packed.tokens > waste:
        # What passages take at the most is a little more than what they take.
        _top_up(found, documents, runs, text_of, budget - packed.tokens, waste)
        fuller = _written(kept, runs, found, text_of, budget, numbered_from)
        if not packed.tokens < fuller.tokens <= budget:
            break
        packed = fuller
    return packed


def _documents(found: Sequence[Place], outlines: Mapping[str, Outline]) -> dict[str, _Document]:
    documents: dict[str, _Document] = {}
    for rank, one in enumerate(found):
        if one.version_id not in documents:
            outline = outlines[one.version_id]
            documents[one.version_id] = _Document(outline, rank, bytearray(len(outline)))
    return documents


def _fill(found: Sequence[Place], documents: Mapping[str, _Document], room: int) -> None:
    """Take in whole chunks: of every hit before any is widened."""
    hits = [
        (documents[one.version_id], documents[one.version_id].outline.covering(one.start, one.end))
        for one in found
    ]

    def take(document: _Document, chunks: Range) -> bool:
        nonlocal room
        if document.inside.find(0, *chunks) < 0:
            return True
        missing = [at for at in range(*chunks) if not document.inside[at]]
        cost = document.cost(missing, chunks)
        if cost > room:
            return False
        room -= cost
        for at in missing:
            document.inside[at] = 1
        return True

    for document, chunks in hits:
        take(document, chunks)
    for document, chunks in hits:
        take(document, document.outline.around(chunks))
    for document, chunks in hits:
        take(document, document.outline.section(chunks))
    for document in sorted(documents.values(), key=lambda one: one.rank):
        # Outwards from what is in, on both sides by turns.
        growing = True
        while growing and 0 in document.inside:
            growing = False
            for first, last in document.runs():
                for chunk in ((last, last + 1), (first - 1, first)):
                    if 0 <= chunk[0] < len(document.inside) and not document.inside[chunk[0]]:
                        growing = take(document, chunk) or growing
            if not any(document.inside):
                break


def _runs(documents: Mapping[str, _Document], was: Mapping[str, bytes]) -> list[_Run]:
    """What is in and was not before."""
    runs = []
    for name, document in documents.items():
        outline = document.outline
        new = bytearray(now & ~old & 1 for now, old in zip(document.inside, was[name], strict=True))
        for first, last in _Document(outline, document.rank, new).runs():
            run = _Run(outline, document.rank, outline.starts[first], outline.ends[last - 1])
            run.most = sum(outline.tokens[first:last]) + _JOINT + _reference_tokens(outline, first)
            runs.append(run)
    return runs


def _measure(run: _Run, text: str) -> None:
    """Set what a run takes that is a part of a text."""
    run.most = count_tokens(visible(text)) + _reference_tokens(run.outline, run.outline.at(run.start))


def _reference_tokens(outline: Outline, chunk: int) -> int:
    """Tokens of what stands around a passage that begins with a chunk, at the most."""
    section = outline.sections[chunk]
    return outline.reference + _AROUND + (_heading_tokens(section) if section else 0)


@lru_cache(10_000)
def _heading_tokens(heading: str) -> int:
    return count_tokens(f", under {named(heading)}")


def _top_up(
    found: Sequence[Place],
    documents: Mapping[str, _Document],
    runs: list[_Run],
    text_of: Callable[[str], str],
    room: int,
    waste: int,
) -> None:
    """Fill what room is left with a part of the next chunk: behind a passage, or of what was left out."""
    for run in sorted(runs, key=lambda run: (run.rank, run.start)):
        inside, at = documents[run.outline.version_id].inside, run.outline.at(run.end - 1) + 1
        if at < len(run.outline) and not inside[at]:
            text = text_of(run.outline.version_id)
            end = _cut(text, run.end, run.outline.ends[at], room - _JOINT, waste)
            if end > run.end:
                added = count_tokens(visible(text[run.end : end])) + _JOINT
                run.end, run.most, room = end, run.most + added, room - added
        if room <= waste:
            return
    for one in found:
        document = documents[one.version_id]
        at = document.outline.covering(one.start, one.end)[0]
        if at >= len(document.inside) or document.inside[at]:
            continue
        start = document.outline.starts[at]
        run = _Run(document.outline, document.rank, start, start)
        _measure(run, "")
        text = text_of(one.version_id)
        end = _cut(text, start, document.outline.ends[at], room - run.most - _JOINT, waste)
        if end > start:
            run.end = end
            _measure(run, text[start:end])
            if run.most <= room:
                document.inside[at] = 1
                runs.append(run)
                room -= run.most
        if room <= waste:
            return


def _cut(text: str, start: int, end: int, room: int, waste: int) -> int:
    """How far a part of a text goes in so many tokens: to the end of a sentence, of a word, or anywhere."""

    def last(ends: Sequence[int]) -> int:
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            if count_tokens(visible(text[start : ends[middle]])) <= room:
                low = middle + 1
            else:
                high = middle
        return ends[low - 1] if low else start

    if room < _LEAST_PART:
        return start
    stop = last(sentence_ends(text, start, end))
    if stop < end and room - count_tokens(visible(text[start:stop])) > waste:
        words = [at for at in range(stop + 1, end) if text[at].isspace()]
        stop = max(stop, last(words))
    if stop == start:
        stop = last(range(start + 1, end + 1))
    return stop


def _at_both_ends(runs: Sequence[_Run]) -> list[_Run]:
    """The best document first, the second last, and so on inwards."""
    ranks = sorted({run.rank for run in runs})
    places = [*ranks[::2], *reversed(ranks[1::2])]
    return sorted(runs, key=lambda run: (places.index(run.rank), run.start))


def _kept(
    before: Sequence[Place], outlines: Mapping[str, Outline], text_of: Callable[[str], str], budget: int
) -> list[_Run]:
    """As many passages of the call before as fit, from its beginning."""
    kept: list[_Run] = []
    for place in before:
        run = _Run(outlines[place.version_id], -1, place.start, place.end)
        _measure(run, text_of(place.version_id)[place.start : place.end])
        budget -= run.most
        if budget < 0:
            break
        kept.append(run)
    return kept


def _written(
    kept: Sequence[_Run],
    runs: Sequence[_Run],
    found: Sequence[Place],
    text_of: Callable[[str], str],
    budget: int,
    numbered_from: int,
) -> Packed:
    pieces, passages = [], []
    spans: dict[str, list[Range]] = {}
    for number, run in enumerate([*kept, *_at_both_ends(runs)], numbered_from):
        name = run.outline.version_id
        pieces.append(_reference(number, run) + quoted(text_of(name)[run.start : run.end]))
        passages.append(PackedPassage(number, Place(name, run.start, run.end), run.most))
        spans.setdefault(name, []).append((run.start, run.end))
    left_out = [
        one
        for one in found
        if not any(start <= one.start and one.end <= end for start, end in spans.get(one.version_id, []))
    ]
    text = "\n\n".join(pieces)
    counted = budget <= _COUNTED
    tokens = count_tokens(text) if counted else sum(run.most for run in (*kept, *runs))
    beginning = "\n\n".join(pieces[: len(kept)])
    prefix = count_tokens(beginning) if counted else sum(run.most for run in kept)
    return Packed(text, tuple(passages), tuple(left_out), tokens, prefix)


def _reference(number: int, run: _Run) -> str:
    """The line above a passage, by which it is cited."""
    outline, at = run.outline, run.outline.at(run.start)
    page, section = outline.pages[at], outline.sections[at]
    on = f", page {page}" if page is not None else ""
    under = f", under {named(section)}" if section else ""
    return f"[{number}] {named_by(outline)}{on}{under} start={run.start} end={run.end}\n"


def named_by(outline: Outline) -> str:
    """What every reference to a document begins with."""
    return f"{named(outline.title)} in {named(outline.uri)} {outline.version_id}"
