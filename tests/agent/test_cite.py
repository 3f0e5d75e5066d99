"""Citations: every one holds, the rest is dropped, and the client sees numbers only."""

import random
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.agent.cite import Citation, Citer, Source, holds
from kb.agent.evidence import last_sentence, quoted_span, terms
from kb.content.fence import visible
from kb.errors import NotFound

PUMP = (
    "# Pump\n\nThe pump starts with the green lever. It stops after 20 s, or after 120 s in winter. "
    'Its “cold start” takes 3.5 s – no more.\nSee [4] and a["k"].\n\nThe hidden val\u00adve is\u200b red.'
)
VALVE = "The valve closes at 5 bar. Nobody opens it by hand. Die Kälteanlage hält 20 s."
DENSE = "ポンプは緑のレバーで始動する。ポンプは二十秒後に停止する。バルブは赤い。"
TEXTS = {"ver_pump": PUMP, "ver_valve": VALVE, "ver_dense": DENSE}
SOURCES = (
    Source(1, "ver_pump", "doc_pump", "Pump", "pump.md", 0, len(PUMP)),
    Source(2, "ver_valve", "doc_valve", "Valve", "valve.md", 0, 50),
    Source(3, "ver_dense", "doc_dense", "ポンプ", "dense.txt", 0, len(DENSE)),
)


def text_of(version_id: str) -> str:
    """The text of a version. Raises NotFound."""
    if version_id not in TEXTS:
        raise NotFound(f"no version {version_id!r}")
    return TEXTS[version_id]


def page_at(version_id: str, offset: int) -> int | None:
    """A new page every hundred characters; the valve has none."""
    return None if version_id == "ver_valve" else offset // 100 + 1


def citer(sources: tuple[Source, ...] = SOURCES, text: Callable[[str], str] = text_of) -> Citer:
    """Of one answer."""
    return Citer(sources, text, page_at)


def answered(*deltas: str, made: Citer | None = None) -> tuple[str, list[Citation]]:
    """What the client sees, and its citations; each has come directly behind its marker."""
    made = made or citer()
    shown, citations = "", []
    for piece in [*(piece for delta in deltas for piece in made.feed(delta)), *made.end()]:
        if isinstance(piece, str):
            shown += piece
        else:
            assert shown[piece.index : piece.end_index] == f"[{piece.number}]"
            assert piece.end_index == len(shown)
            citations.append(piece)
    return shown, citations


def test_a_quote_is_cited_where_it_stands() -> None:
    """Exact offsets and page; the client sees the number."""
    shown, (one,) = answered('It stops [1: "stops after 20 s"].')
    assert shown == "It stops [1]."
    start = PUMP.index("stops after 20 s")
    assert one == Citation(
        1, "ver_pump", "doc_pump", "Pump", "pump.md", start, start + 16, "stops after 20 s", 1, 9, 12
    )


def test_what_does_not_hold_vanishes_with_its_blank_and_is_counted() -> None:
    """An unknown number; words of no passage; those of another one; and what was given stays."""
    made = citer()
    shown, citations = answered(
        'It stops [9]. It runs [1: "runs for 20 s"], and closes [1: "closes at 5 bar"][2]. So [8, 1].',
        made=made,
    )
    assert shown == "It stops. It runs, and closes[2]. So [1]."
    assert [(one.number, one.quote) for one in citations] == [
        (2, "The valve closes at 5 bar."),
        (1, "# Pump"),
    ]
    assert (made.verified, made.dropped) == (2, 4)


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("starts with the green lever", "starts with the green lever"),
        ("starts  with\nthe green lever", "starts with the green lever"),
        ('Its "cold start" takes 3.5 s - no more', "Its “cold start” takes 3.5 s – no more"),
        ("no more. See [4]", "no more.\nSee [4]"),
        ("…stops after 20 s...", "stops after 20 s"),
        ("It stops after 20 s.", "It stops after 20 s"),
        ("3.5 s", "3.5 s"),
        ('a["k"]', 'a["k"]'),
        ("hidden valve is red", "hidden val\u00adve is\u200b red"),
        ("hidden val\\u{00AD}ve is\\u{200B} red", "hidden val\u00adve is\u200b red"),
        ("red.", "red."),
        ("Starts with the green lever", None),
        ("starts with a green lever", None),
        ("starts with the … lever", None),
        ("0 s", None),
        ("5 s", None),
        ("3", None),
        ("20", "20"),
        ("tops after 20 s", None),
        ("stops afte", None),
        ("closes at 5 bar", None),
        ("…", None),
    ],
)
def test_quotes(quote: str, stands: str | None) -> None:
    """Letters, digits, and where words and numbers begin and end, must be the same; the rest may differ."""
    span = quoted_span(quote, PUMP, (0, len(PUMP)))
    assert (span and PUMP[slice(*span)]) == stands


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("It stops at once, as `halt` says", "It **stops** at *once*, as `halt` says"),
        ("It stops at once, as halt says.", "It **stops** at *once*, as `halt` says"),
        ("a * b is 2**3", "a * b is 2**3"),
        ("a b", None),
        ("23", None),
    ],
)
def test_emphasis_does_not_count(quote: str, stands: str | None) -> None:
    """What makes words bold, slanted or code in Markdown; signs between two things do."""
    text = "It **stops** at *once*, as `halt` says: a * b is 2**3"
    span = quoted_span(quote, text, (0, len(text)))
    assert (span and text[slice(*span)]) == stands


def test_scripts_without_blanks_are_quoted_anywhere() -> None:
    """They have no ends of words to keep to."""
    span = quoted_span("二十秒後に停止", DENSE, (0, len(DENSE)))
    assert span is not None
    assert DENSE[slice(*span)] == "二十秒後に停止"


def test_a_quote_is_looked_for_within_its_passage() -> None:
    """What stands in the document, but not in what the model was given, is not cited; hits come first."""
    assert answered('x [2: "hält 20 s"]') == ("x", [])
    text = "a pump, a pump"
    assert quoted_span("pump", text, (0, 14)) == (2, 6)
    assert quoted_span("pump", text, (0, 14), [(8, 14)]) == (10, 14)
    assert quoted_span("a pump, a", text, (0, 14), [(8, 14)]) == (0, 9)


@pytest.mark.parametrize(
    ("answer", "quote"),
    [
        ("It is started with a green lever [1].", "The pump starts with the green lever."),
        ("It is started with a green lever. [1]", "The pump starts with the green lever."),
        (
            "A green lever starts it. In winter it stops after 120 s [1]",
            "It stops after 20 s, or after 120 s in winter.",
        ),
        (
            "The green lever starts it, and stops after 20 s in winter, the cold start takes 3.5 s [1].",
            "It stops after 20 s, or after 120 s in winter. Its “cold start” takes 3.5 s – no more.",
        ),
        ("ポンプは二十秒後に停止します[3]。", "ポンプは二十秒後に停止する。"),
        # What stands behind the marker before is cited more than what stands in front of it.
        ("It starts with the green lever of the pump [3] and its hidden valve is red [1].", "The hidden"),
    ],
)
def test_without_a_quote_the_nearest_sentence_is_cited(answer: str, quote: str) -> None:
    """That which shares most words with what was just said; or two that share them together."""
    *_, last = answered(answer)[1]
    assert last.quote.startswith(quote)


def test_where_no_word_is_shared_the_best_hit_is_cited() -> None:
    """Or the first sentence, where there is no hit in the passage."""
    (one,) = answered("Yes [2].")[1]
    assert one.quote == "The valve closes at 5 bar."
    hit = Source(1, "ver_valve", "doc", "t", "u", 0, len(VALVE), ((27, 51), (0, 26)))
    (one,) = answered("Yes [1].", made=citer((hit,)))[1]
    assert one.quote == "Nobody opens it by hand."
    book = "A preface. " * 300
    whole = Source(1, "ver_book", "doc", "t", "u", 0, len(book), ((0, len(book)),))
    (one,) = answered("Yes [1].", made=citer((whole,), lambda version_id: book))[1]
    assert one.quote == "A preface."


def test_a_citation_is_compared_with_its_source_before_it_goes_out() -> None:
    """Where the text is another one by then, or gone, it is dropped and counted."""
    shown = 'It stops [1: "stops after 20 s"], starts [1].'
    for later in ("x" + PUMP, "", None):
        asked: list[str] = []

        def changing(version_id: str, later: str | None = later, asked: list[str] = asked) -> str:
            asked.append(version_id)
            # Found in and cut out of the text as it was; compared with what it has become.
            if len(asked) % 3:
                return PUMP
            if later is None:
                raise NotFound("deleted")
            return later

        made = citer(text=changing)
        assert answered(shown, made=made) == ("It stops, starts.", [])
        assert (made.verified, made.dropped) == (0, 2)


def test_holds() -> None:
    """Character by character, within the text, and never nothing."""
    (one,) = answered('x [1: "stops after 20 s"]')[1]
    assert holds(one, text_of)
    for other in ("", "x" + PUMP, PUMP.upper(), PUMP[: one.end - 1]):
        assert not holds(one, lambda version_id, other=other: other)
    gone = Citation(1, "ver_gone", "d", "t", "u", 0, 1, "x", None, 0, 3)
    assert not holds(gone, text_of)
    nothing = Citation(1, "ver_pump", "d", "t", "u", 5, 5, "", None, 0, 3)
    assert not holds(nothing, text_of)
    behind = Citation(1, "ver_pump", "d", "t", "u", -4, -1, PUMP[-4:-1], None, 0, 3)
    assert not holds(behind, text_of)


def test_a_deleted_document_is_cited_no_more() -> None:
    """Its markers are dropped as those that name nothing."""
    made = citer((Source(1, "ver_gone", "d", "t", "u", 0, 9),))
    assert answered('x [1] y [1: "z"]', made=made) == ("x y", [])
    assert made.dropped == 2


WORDS = st.sampled_from(
    [
        "pump",
        "stops",
        "after",
        "20 s",
        " ",
        " ",
        ". ",
        "\n",
        "[1]",
        "[2]",
        "[9]",
        "[1, 3]",
        '[1: "',
        '"]',
        "ポンプ",
        '[2: "closes at 5 bar"]',
        '[1: "stops after 20 s"]',
        '[1: "never there"]',
        "a[7]",
        "`[1]`",
        "[",
        "]",
        "(",
    ]
)


@given(st.lists(WORDS, max_size=30).map("".join), st.data())
def test_every_citation_holds_however_the_answer_is_cut(answer: str, data: st.DataObject) -> None:
    """Same text, same citations; each quotes its span within its passage; none is lost uncounted."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=12)))
    made, whole = citer(), citer()
    shown, citations = answered(*(answer[a:b] for a, b in pairwise([0, *cuts, len(answer)])), made=made)
    assert (shown, citations) == answered(answer, made=whole)
    assert (made.verified, made.dropped) == (whole.verified, whole.dropped)
    assert made.verified == len(citations)
    for one in citations:
        source = SOURCES[one.number - 1]
        assert one.quote == TEXTS[one.content_version_id][one.start : one.end] != ""
        assert source.start <= one.start < one.end <= source.end


@given(st.lists(WORDS, max_size=30).map("".join))
def test_what_is_cut_from_a_passage_is_found_in_it(junk: str) -> None:
    """Whole words of any text, as the model sees them, stand where they were taken from."""
    text = f"{junk} The \u202egreen\u00ad “lever” {junk}"
    start = text.index("green")
    span = quoted_span(visible(text[start : start + 14]), text, (0, len(text)))
    assert span is not None
    assert text[slice(*span)] in text[start : start + 14]


def test_quotes_of_real_articles(shared_data: Path) -> None:
    """As a model may write them they are found, and with one word of another place they are not."""
    chance = random.Random(7)
    articles = sorted((shared_data / "squad-articles").rglob("*.txt"))
    texts = [path.read_text(encoding="utf-8") for path in chance.sample(articles, 20)]
    typed = str.maketrans("“”’–—", '""\'--')
    for text in texts:
        words = [found.span() for found in re.finditer(r"\S+", text)]
        for _ in range(20):
            first = chance.randrange(len(words) - 20)
            start, end = words[first][0], words[first + chance.randint(3, 19)][1]
            quote = " ".join(text[start:end].split()).translate(typed)
            span = quoted_span(quote, text, (0, len(text)), [(start, end)])
            assert span == (start, end), quote
            found = quoted_span(quote, text, (0, len(text)))
            assert found is not None
            assert text[slice(*found)].split() == text[start:end].split()
            part = quote.split()
            part[chance.randrange(1, len(part) - 1)] = "Zanzibar"
            assert quoted_span(" ".join(part), text, (0, len(text))) is None


def test_words_that_tell() -> None:
    """All but the shortest, and numbers; pairs of characters where there are no blanks."""
    assert terms("A USB port of Gerät is on, 3 v2 x") == {"usb", "port", "gerät", "3"}
    assert terms("停止する。秒") == {"停止", "止す", "する", "秒"}


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("One. Two", "Two"),
        ("One. Two. ", "Two."),
        ("One.\n- Two", "- Two"),
        ("", ""),
    ],
)
def test_the_last_sentence(text: str, last: str) -> None:
    """Also where its full stop is there already."""
    assert last_sentence(text) == last


def test_a_long_passage_takes_milliseconds() -> None:
    """A megabyte: only its hits are looked at, and a sentence without end is cut."""
    text = "endless words " * 70_000 + "The pump stops after 20 s."
    place = len(text) - 26
    found = Source(1, "v", "d", "t", "u", 0, len(text), ((place, len(text)),))
    bare = Source(2, "v", "d", "t", "u", 0, len(text))
    made = citer((found, bare), lambda version_id: text)
    started = time.process_time()
    (one, two, three) = answered('The pump stops [1]. [2] [2: "pump stops after 20 s"]', made=made)[1]
    assert time.process_time() - started < 1
    assert (one.quote, three.quote) == ("The pump stops after 20 s.", "pump stops after 20 s")
    assert len(two.quote) <= 500


@given(
    st.lists(
        st.one_of(
            st.sampled_from(['[1: "valve first"]', " [9]", " [2, 9]", '[3: "nothing"]', " [1][2]"]),
            st.text("ab \U0001f6a7é", min_size=1, max_size=6).map(lambda text: f"x{text}x"),
        ),
        max_size=12,
    ),
    st.integers(1, 9),
)
def test_places_in_what_the_model_wrote_are_found_again(parts: list[str], size: int) -> None:
    """Whatever markers stand between: the words there are the same words."""
    raw = "".join(parts)
    made = citer()
    shown, _ = answered(*(raw[at : at + size] for at in range(0, len(raw), size)), made=made)
    at = 0
    for part in parts:
        if part[0] == "x":
            assert shown[made.moved(at) : made.moved(at + len(part))] == part
        at += len(part)
    assert made.moved(len(raw)) == len(shown)
