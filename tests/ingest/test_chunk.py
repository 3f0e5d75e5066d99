"""Documents into chunks: exact examples, and what holds for every document and policy."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies

from kb.errors import InvalidInput
from kb.ingest.chunk import check_policy, chunk, default_policy
from kb.types import Chunk, ChunkingPolicy, Document, Heading, Page


def starts(text: str) -> list[int]:
    """A tokenizer: words between blanks."""
    return [found.start() for found in re.finditer(r"\S+", text)]


def characters(text: str) -> list[int]:
    """A tokenizer as models have for CJK and noise: every visible character."""
    return [at for at, character in enumerate(text) if not character.isspace()]


def count(text: str) -> int:
    """Words."""
    return len(starts(text))


def markdown(text: str, pages: tuple[Page, ...] = ()) -> Document:
    """A Markdown document with its ATX headings marked, but for those in fences."""
    headings = []
    fence = False
    for line in re.finditer(r"[^\n]*\n?", text):
        fence ^= line[0].startswith("```")
        found = re.match(r"(#{1,6}) +(\S.*)", line[0])
        if found and not fence:
            headings.append(Heading(len(found[1]), found[2].strip(), line.start()))
    return Document(text, "text/markdown", None, "markdown", pages, tuple(headings))


def plain(text: str, pages: tuple[Page, ...] = ()) -> Document:
    """A plain document."""
    return Document(text, "text/plain", pages=pages)


def cut(
    document: Document,
    size: int | None,
    overlap: int = 0,
    *,
    title: str = "",
    max_tokens: int = 1000,
    tokens: Callable[[str], list[int]] = starts,
) -> list[Chunk]:
    """The document's chunks."""
    return chunk(document, ChunkingPolicy(size, overlap), tokens, title=title, max_tokens=max_tokens)


def texts(document: Document, size: int, overlap: int = 0, **more: Any) -> list[str]:
    """The texts of the chunks."""
    return [document.text[one.start : one.end] for one in cut(document, size, overlap, **more)]


def test_paragraphs_are_packed_until_the_size_is_reached() -> None:
    """Whole paragraphs go together while they fit; the next begins a new chunk."""
    document = plain("a b c\n\nd e\n\nf g h i\n\nj")
    assert texts(document, 5) == ["a b c\n\nd e", "f g h i\n\nj"]
    assert texts(document, 4) == ["a b c", "d e", "f g h i", "j"]
    assert texts(document, 100) == ["a b c\n\nd e\n\nf g h i\n\nj"]


def test_a_heading_stays_with_what_it_heads() -> None:
    """A heading that would end a chunk moves to the next one, and its parent headings with it."""
    document = markdown("one two three four five\n\n# A\n\n## B\n\nsix seven eight")
    assert texts(document, 9) == ["one two three four five", "# A\n\n## B\n\nsix seven eight"]


def test_a_chunk_half_full_ends_before_a_heading() -> None:
    """A new section starts a new chunk when the one before it is full enough, not when it is small."""
    assert texts(markdown("a b c d e f\n\n# H\n\ng"), 10) == ["a b c d e f", "# H\n\ng"]
    assert texts(markdown("a b\n\n# H\n\ng"), 10) == ["a b\n\n# H\n\ng"]


def test_the_heading_path_is_kept_and_embedded() -> None:
    """Each chunk knows the headings above it; its context is title and path, without its own heading."""
    document = markdown(
        "# Guide\n\nintro text\n\n## Pump\n\n### Start\n\npress the button now\n\n## Valve\n\nturn"
    )
    made = cut(document, 6, title="Manual")
    assert [(document.text[one.start : one.end], one.heading, one.context) for one in made] == [
        ("# Guide\n\nintro text", "Guide", "Manual\n"),
        ("## Pump", "Guide > Pump", "Manual > Guide\n"),
        ("### Start\n\npress the button now", "Guide > Pump > Start", "Manual > Guide > Pump\n"),
        ("## Valve\n\nturn", "Guide > Valve", "Manual > Guide\n"),
    ]


def test_a_title_that_is_the_first_heading_is_not_said_twice() -> None:
    """Nothing is put before the document's own title; below it the title comes once."""
    document = markdown("# Pump\n\none two three\n\nfour five six")
    assert [one.context for one in cut(document, 5, title="Pump")] == ["", "Pump\n"]


def test_the_context_is_cut_to_the_room_beside_the_text() -> None:
    """What is nearest to the text is kept; without room there is none."""
    document = markdown("# Alpha beta\n\n## Gamma delta\n\n" + "w1 w2 w3 w4 w5 w6\n\n" * 2)
    contexts = [
        cut(document, 8, title="The title", max_tokens=size)[-1].context for size in (8, 9, 11, 13, 40)
    ]
    assert contexts == [
        "",
        "",
        "Gamma delta\n",
        "beta > Gamma delta\n",
        "The title > Alpha beta > Gamma delta\n",
    ]


def test_later_rows_of_a_table_carry_its_header_as_context() -> None:
    """A table longer than a chunk is cut between rows; below the first cut the header row is context."""
    table = "| name | price |\n|---|---|\n" + "\n".join(f"| item{n} | {n} |" for n in range(6))
    document = markdown(f"# Prices\n\n{table}")
    made = cut(document, 16)
    assert [document.text[one.start : one.end] for one in made] == [
        "# Prices\n\n| name | price |\n|---|---|\n| item0 | 0 |",
        "| item1 | 1 |\n| item2 | 2 |\n| item3 | 3 |",
        "| item4 | 4 |\n| item5 | 5 |",
    ]
    assert [one.context for one in made] == ["", "Prices\n| name | price |\n", "Prices\n| name | price |\n"]


def test_pipes_in_plain_text_are_no_table() -> None:
    """Without markup, lines are lines."""
    made = cut(plain("a | b\n---|---\n" + "\n".join("c | d" for _ in range(8))), 16)
    assert [one.context for one in made] == [""] * len(made)


def test_a_fence_is_cut_between_its_lines_and_blank_lines_do_not_end_it() -> None:
    """Code stays together; a `#` in it is no heading and a list mark no item."""
    code = "```python\n# not a heading\nx = 1\n\n- y\n```"
    document = markdown(f"words before it here\n\n{code}\n\nafter")
    assert texts(document, 14) == ["words before it here", f"{code}\n\nafter"]
    assert texts(markdown(code), 16) == [code]
    long = "```\n" + "\n".join(f"line {n} of code" for n in range(8)) + "\n```"
    assert texts(markdown(long), 16) == [
        "```\nline 0 of code\nline 1 of code\nline 2 of code",
        "line 3 of code\nline 4 of code\nline 5 of code\nline 6 of code",
        "line 7 of code\n```",
    ]


def test_an_unclosed_fence_holds_the_rest() -> None:
    """As Markdown has it, and nothing is lost; blank lines at the end are no part of it."""
    assert texts(markdown("a\n\n~~~\ncode\n\nmore\n\n\n"), 20) == ["a\n\n~~~\ncode\n\nmore"]


def test_list_items_are_blocks_of_their_own() -> None:
    """A list is cut between items, and an item's further lines stay with it."""
    document = markdown("- one two three\n  four\n- five six\n- seven eight nine\n1. ten")
    assert texts(document, 8) == ["- one two three\n  four\n- five six", "- seven eight nine\n1. ten"]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    """At the last stop that fits; a stop before a small letter, as in an abbreviation, is none."""
    document = plain("One two three. Four five approx. six seven. Eight nine! Ten eleven? Twelve.")
    assert texts(document, 8) == [
        "One two three. Four five approx. six seven.",
        "Eight nine! Ten eleven? Twelve.",
    ]
    assert texts(document, 5) == [
        "One two three.",
        "Four five approx. six seven.",
        "Eight nine! Ten eleven? Twelve.",
    ]


@pytest.mark.parametrize("blank", [" ", "  ", "\n", " \n  "])
def test_a_small_letter_after_a_stop_goes_on_whatever_the_blanks(blank: str) -> None:
    """Two spaces, or a line break, after an abbreviation's stop make no sentence end either."""
    document = plain(f"Aa bb. One approx.{blank}two three. Four.")
    assert texts(document, 4) == ["Aa bb.", f"One approx.{blank}two three.", "Four."]


def test_a_sentence_longer_than_a_chunk_is_cut_at_blanks() -> None:
    """Full chunks, in order, between words."""
    words = [f"w{n}" for n in range(37)]
    assert texts(plain(" ".join(words)), 16) == [
        " ".join(words[:16]),
        " ".join(words[16:32]),
        " ".join(words[32:]),
    ]


def test_text_without_blanks_is_cut_anywhere() -> None:
    """A base64 blob: as many characters as there are tokens, and none lost."""
    blob = "QUJD" * 100
    made = texts(plain(blob), 64, tokens=characters)
    assert "".join(made) == blob
    assert [len(one) for one in made] == [64] * 6 + [16]


def test_cjk_sentences_end_without_a_blank() -> None:
    """Full-width stops end sentences as they stand."""
    text = "東京は日本の首都です。人口は多いです！本当ですか？はい。"
    assert texts(plain(text), 16, tokens=characters) == [
        "東京は日本の首都です。",
        "人口は多いです！本当ですか？",
        "はい。",
    ]


def test_an_overlap_repeats_whole_pieces() -> None:
    """The last sentences of a chunk, as many as the overlap holds, begin the next one."""
    document = plain("A one two. B one two. C one two. D one two. E one two.")
    assert texts(document, 9, 3) == ["A one two. B one two. C one two.", "C one two. D one two. E one two."]
    assert texts(document, 9, 0) == ["A one two. B one two. C one two.", "D one two. E one two."]


def test_pages_are_those_a_chunk_begins_on() -> None:
    """The number of the page mark at or before the start; None before the first."""
    text = "page one\n\npage two\n\npage three"
    pages = (Page(1, 0), Page(2, 10), Page(5, 20))
    assert [one.page for one in cut(plain(text, pages), 2)] == [1, 2, 5]
    assert [one.page for one in cut(plain("before\n\n" + text, (Page(7, 8),)), 2)][:2] == [None, 7]
    assert [one.page for one in cut(plain("no pages"), 16)] == [None]


def test_a_page_mark_ends_a_paragraph() -> None:
    """Lines of two pages are two blocks even without a blank line between them."""
    document = plain("a b c\nd e f", (Page(1, 0), Page(2, 6)))
    assert [(one.start, one.page) for one in cut(document, 4)] == [(0, 1), (6, 2)]


def test_a_whole_document_is_one_chunk() -> None:
    """Without a size the text is one chunk, its title embedded before it."""
    document = Document("a b\n\nc", "text/plain", pages=(Page(3, 0),))
    assert cut(document, None, title="T") == [Chunk(0, 6, page=3, heading=None, context="T ")]
    assert cut(plain("a"), None) == [Chunk(0, 1)]


@pytest.mark.parametrize("text", ["", " \n\t\n ", "\n"])
def test_blank_text_has_no_chunks(text: str) -> None:
    """Nothing to say, nothing to index."""
    assert cut(plain(text), 16) == []


def test_policies_are_checked_against_the_model() -> None:
    """16 tokens to the model's limit, and an overlap of at most half."""
    assert default_policy(254) == ChunkingPolicy(120, 0)
    assert default_policy(100) == ChunkingPolicy(52, 0)
    for good in (ChunkingPolicy(None), ChunkingPolicy(16), ChunkingPolicy(254, 127)):
        check_policy(good, 254)
    for bad, param in (
        (ChunkingPolicy(15), "chunk_size"),
        (ChunkingPolicy(255), "chunk_size"),
        (ChunkingPolicy(64, 33), "chunk_overlap"),
        (ChunkingPolicy(64, -1), "chunk_overlap"),
    ):
        with pytest.raises(InvalidInput) as error:
            check_policy(bad, 254)
        assert error.value.param == param


WORD = strategies.sampled_from(
    [
        "a",
        "word",
        "Stop.",
        "stop.",
        "e.g.",
        "?!",
        "東京です。",
        "x" * 40,
        "|",
        "-",
        "—",
        "1.",
        "*",
        "`",
        "é",
        "🙂",
        "\u00a0",
        "\u2028",
    ]
)
LINE = strategies.one_of(
    strategies.lists(WORD, max_size=12).map(" ".join),
    strategies.sampled_from(
        [
            "",
            "",
            " ",
            "\t",
            "# H",
            "## Two words",
            "###### six",
            "- item",
            "  - nested item",
            "1. first",
            "```",
            "```py",
            "~~~",
            "| a | b |",
            "|---|---|",
            "a | b",
            "--- | ---",
            "| c | d | e f g",
            "    code",
            "***",
            "# ",
            "- ",
            "\u3000x",
            "\x0bx",
        ]
    ),
)
TEXT = strategies.lists(LINE, max_size=40).map("\n".join) | strategies.text(max_size=80)
POLICY = strategies.integers(16, 40).flatmap(
    lambda size: strategies.builds(
        ChunkingPolicy, strategies.just(size), strategies.just(0) | strategies.integers(0, size // 2)
    )
)


@settings(max_examples=120)
@given(
    text=TEXT,
    policy=POLICY,
    rich=strategies.booleans(),
    marks=strategies.lists(strategies.integers(0, 400), max_size=3),
    title=WORD,
)
@example(text="```\ncode\n\n", policy=ChunkingPolicy(16), rich=True, marks=[], title="t")
@example(text="    indented\ncode", policy=ChunkingPolicy(16), rich=False, marks=[], title="t")
def test_what_holds_for_every_document(
    text: str, policy: ChunkingPolicy, rich: bool, marks: list[int], title: str
) -> None:
    """Exact spans in order, everything covered, nothing too long, overlaps and contexts bounded."""
    pages = tuple(Page(n, at) for n, at in enumerate(sorted({at for at in marks if at < len(text)}), 1))
    document = markdown(text, pages) if rich else plain(text, pages)
    assert policy.size is not None
    made = chunk(document, policy, starts, title=title, max_tokens=policy.size + 12)
    covered = [False] * len(text)
    for one in made:
        assert 0 <= one.start < one.end <= len(text)
        span = text[one.start : one.end]
        assert span == span.rstrip()
        # A first line may be indented, as code is; no blank line stands before it.
        assert span.split("\n")[0].strip()
        assert count(span) <= policy.size
        assert count(one.context) <= 11
        assert one.context == "" or one.context.endswith("\n")
        covered[one.start : one.end] = [True] * (one.end - one.start)
        assert one.page == max((page.number for page in pages if page.start <= one.start), default=None)
    assert all(covered[at] or character.isspace() for at, character in enumerate(text))
    for before, after in pairwise(made):
        assert before.start < after.start
        assert before.end < after.end
        assert count(text[after.start : before.end]) <= policy.overlap if after.start < before.end else True
    assert made == chunk(document, policy, starts, title=title, max_tokens=policy.size + 12)


@dataclass
class Counted:
    """A heading that counts how often its level is looked at."""

    level: int
    title: str
    start: int
    looks: list[int]

    def __getattribute__(self, name: str) -> Any:
        if name == "level":
            object.__getattribute__(self, "looks")[0] += 1
        return object.__getattribute__(self, name)


def test_many_headings_cost_no_more_than_a_few_looks_each() -> None:
    """Finding the path of headings does not walk over all that came before."""
    looks = [0]
    text, headings = "", []
    for number in range(1500):
        headings.append(Counted(2, f"section {number}", len(text), looks))
        text += f"## section {number}\n\n{'word ' * 12}\n\n"
    document = Document(text, "text/markdown", None, "markdown", (), tuple(headings))  # type: ignore[arg-type]
    assert len(cut(document, 16, title="T")) == 1500
    assert looks[0] < 1500 * 40


PATHOLOGICAL = {
    "blanks before a rule": "a|b\n" + " " * 200_000 + "x-\nc|d",
    "blanks after a rule": "a|b\n--" + " " * 200_000 + "x\nc|d",
    "pipes and dashes": "a|b\n" + "-|" * 200_000 + "x\nc|d",
    "pipes and blanks": "a|b\n" + "-| " * 150_000 + "x\nc|d",
    "stops": "." * 200_000,
    "stops and quotes": ".'" * 200_000 + ". " * 100,
    "quotes after a stop": "." + "'" * 200_000 + "x",
    "blanks after a stop": ". " + " " * 200_000 + "a",
    "blanks": " " * 200_000 + "x",
    "fences": "```\n" * 30_000,
    "items": "- a\n" * 30_000,
    "nested blanks in items": "- a\n" + " " * 200_000 + "- b",
    "no blanks": "x" * 200_000,
    "table rows": "a|b\n-|-\n" + "c|d\n" * 30_000,
    "headings": "## h\n\nx\n\n" * 20_000,
}

_CUT = """
import importlib.util, resource, sys
# Far more than anything linear needs, on the slowest of machines; quadratic work takes hours.
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
spec = importlib.util.spec_from_file_location("tests_chunk", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
sys.modules["tests_chunk"] = tests
spec.loader.exec_module(tests)
for name, text in tests.PATHOLOGICAL.items():
    print(name, flush=True)
    assert tests.cut(tests.markdown(text), 200, title="T", tokens=tests.tenths)
print("done")
"""


def tenths(text: str) -> list[int]:
    """A tokenizer that costs nothing: every tenth character."""
    return list(range(0, len(text), 10))


@pytest.mark.skipif(sys.platform == "win32", reason="the CPU limit is POSIX's")
def test_no_text_takes_more_than_linear_time() -> None:
    """Texts made to hurt regular expressions are cut within a limit that only a blow-up reaches."""
    done = subprocess.run([sys.executable, "-c", _CUT, __file__], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [*PATHOLOGICAL, "done"], done.stderr[-300:]


def test_the_real_tokenizer_is_obeyed(models: Any, fakes: ModuleType) -> None:
    """With the default model's own tokens no chunk with its context is longer than the model reads."""
    from tokenizers import Tokenizer

    from kb.embed.folder import DEFAULT_MODEL, exported

    folder = exported(DEFAULT_MODEL, models)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()

    def of_model(text: str) -> list[int]:
        return [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]

    text = (
        "# Über die Pumpe\n\n"
        + "Die Pumpe läuft; 東京 🙂 naïve x=y_z antidisestablishmentarianism. " * 60
        + "A" * 900
    )
    document = markdown(text)
    for policy in (ChunkingPolicy(200), ChunkingPolicy(64, 32), ChunkingPolicy(16)):
        for one in chunk(document, policy, of_model, title="A title " * 30, max_tokens=254):
            assert len(of_model(text[one.start : one.end])) <= (policy.size or 0)
            assert len(of_model(one.context + text[one.start : one.end])) <= 254
