"""Packing: never over its budget, nearly full where there is enough, the best first, and exact spans."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.content.fence import visible
from kb.context.outline import Outline, section_starts
from kb.context.pack import LEAST_BUDGET, Packed, Place, named_by, pack
from kb.errors import InvalidInput
from kb.tokens import count_tokens

WORDS = [
    "pump",
    "Kälteanlage",
    "насос",
    "漢字",
    "a",
    "12345",
    "valve\u202e",
    "🚧🚧",
    "supercalifragilistic",
    "—",
]


class Corpus:
    """Documents of paragraphs, each paragraph a chunk."""

    def __init__(self, documents: list[list[str]]) -> None:
        self.texts: dict[str, str] = {}
        self.outlines: dict[str, Outline] = {}
        for number, paragraphs in enumerate(documents):
            name = f"ver_{number:032x}"
            starts = [sum(len(one) + 2 for one in paragraphs[:at]) for at in range(len(paragraphs))]
            ends = [start + len(one) for start, one in zip(starts, paragraphs, strict=True)]
            sections = [f"section {at // 3}" for at in range(len(paragraphs))]
            text = "\n\n".join(paragraphs)
            stops = [*starts[1:], len(text)]
            tokens = [count_tokens(visible(text[start : stops[at]])) for at, start in enumerate(starts)]
            pages = [at // 4 + 1 for at in range(len(paragraphs))]
            self.texts[name] = text
            places = (name, f"Title {number}", f"folder/{number}.md", starts, ends, tokens, pages, sections)
            bare = Outline(*places, section_starts(sections), reference=0)
            self.outlines[name] = replace(bare, reference=count_tokens(named_by(bare)))

    def chunk(self, document: int, at: int) -> Place:
        """One of its chunks, as a hit."""
        name = f"ver_{document:032x}"
        return Place(name, self.outlines[name].starts[at], self.outlines[name].ends[at])

    def pack(self, found: list[Place], budget: int, **options: Any) -> Packed:
        """What `pack` makes of it."""
        return pack(found, self.outlines, self.texts.__getitem__, budget, **options)


paragraphs = st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join)
corpora = st.lists(st.lists(paragraphs, min_size=1, max_size=25), min_size=1, max_size=8).map(Corpus)


@given(corpus=corpora, data=st.data(), budget=st.integers(LEAST_BUDGET, 4000))
def test_a_packed_text_is_never_over_its_budget(corpus: Corpus, data: Any, budget: int) -> None:
    """Whatever is found, in whatever order; and every passage is the text at its span."""
    places = [
        corpus.chunk(document, at)
        for document, outline in enumerate(corpus.outlines.values())
        for at in range(len(outline))
    ]
    found = data.draw(st.lists(st.sampled_from(places), unique=True, max_size=30))
    packed = corpus.pack(found, budget)
    assert count_tokens(packed.text) == packed.tokens <= budget
    for passage in packed.passages:
        place = passage.place
        text = corpus.texts[place.version_id][place.start : place.end]
        assert visible(text) in packed.text
        assert f"[{passage.number}] " in packed.text
    covered = [passage.place for passage in packed.passages]
    for one in found:
        inside = any(
            place.version_id == one.version_id and place.start <= one.start and one.end <= place.end
            for place in covered
        )
        assert inside != (one in packed.left_out)
    ordered = sorted(covered, key=lambda place: (place.version_id, place.start))
    for left, right in itertools.pairwise(ordered):
        assert left.version_id != right.version_id or left.end <= right.start


@pytest.mark.parametrize("budget", [500, 700, 1000, 3000, 10_000, 50_000])
def test_a_budget_is_used_where_there_is_enough_text(budget: int) -> None:
    """At least 97 %, by an exact count."""
    corpus = Corpus(
        [
            [
                f"Paragraph {at} of document {number}. " + "The pump is started slowly. " * 12
                for at in range(60)
            ]
            for number in range(20)
        ]
    )
    found = [corpus.chunk(number, 7 * number % 60) for number in range(20)]
    packed = corpus.pack(found, budget)
    assert 0.97 * budget <= count_tokens(packed.text) <= budget


def test_the_best_go_in_first_and_stand_at_both_ends() -> None:
    """What does not fit is what was ranked last, and is told."""
    corpus = Corpus([[f"Only passage of document {number}. " + "word " * 60] for number in range(6)])
    found = [corpus.chunk(number, 0) for number in range(6)]
    packed = corpus.pack(found, 700)
    names = [int(passage.place.version_id[4:], 16) for passage in packed.passages]
    assert names == [0, 2, 4, 3, 1]
    # For the last there was no room.
    assert packed.left_out == (found[5],)
    assert corpus.pack(found, 100_000).left_out == ()


def test_hits_are_widened_to_their_neighbours_section_and_document() -> None:
    """As far as there is room; what comes to touch becomes one passage."""
    corpus = Corpus([[f"Chunk {at}. " + "word " * 50 for at in range(12)]])
    (text,) = corpus.texts.values()
    everything = corpus.pack([corpus.chunk(0, 4)], 5000)
    assert [(one.place.start, one.place.end) for one in everything.passages] == [(0, len(text))]
    one = corpus.pack([corpus.chunk(0, 4), corpus.chunk(0, 6)], 420)
    assert [(passage.place.start, passage.place.end) for passage in one.passages] != []
    assert "Chunk 4." in one.text
    assert "Chunk 5." in one.text
    assert "Chunk 6." in one.text
    assert len(one.passages) == 1


def test_what_was_packed_before_stays_the_beginning() -> None:
    """Byte for byte, though another question finds other passages."""
    corpus = Corpus([[f"Chunk {at} of {number}. " + "word " * 40 for at in range(8)] for number in range(4)])
    first = corpus.pack([corpus.chunk(0, 1), corpus.chunk(1, 3)], 400)
    before = [passage.place for passage in first.passages]
    second = corpus.pack([corpus.chunk(2, 2), corpus.chunk(0, 1)], 1500, before=before)
    assert second.text.startswith(first.text)
    assert second.prefix == first.tokens
    assert [passage.place for passage in second.passages[: len(before)]] == before
    assert "Chunk 2 of 2" in second.text
    assert second.text.count("Chunk 1 of 0") == 1


def test_chunks_that_take_more_together_than_was_counted_stay_within_the_budget() -> None:
    """Whatever the tokens of chunks are said to be, what is written is counted."""
    corpus = Corpus([[f"Chunk {at} of {number}. " + "word " * 40 for at in range(8)] for number in range(9)])
    for name, outline in corpus.outlines.items():
        corpus.outlines[name] = replace(outline, tokens=[tokens // 2 for tokens in outline.tokens])
    packed = corpus.pack([corpus.chunk(number, 3) for number in range(9)], 1000)
    assert 0 < count_tokens(packed.text) == packed.tokens <= 1000


def test_a_budget_for_nothing_is_refused() -> None:
    """And nothing found is an empty text."""
    with pytest.raises(InvalidInput, match="give at least 200"):
        Corpus([["text"]]).pack([], LEAST_BUDGET - 1)
    assert Corpus([["text"]]).pack([], LEAST_BUDGET) == Packed("", (), (), 0, 0)
