"""What of an answer is a marker, however it is cut into deltas."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.agent.markers import LONGEST, Claim, Marker, Markers

KNOWN = frozenset(range(1, 6))


def read(*deltas: str) -> list[str | Marker]:
    """All parts, neighbouring texts joined."""
    markers = Markers(KNOWN)
    parts: list[str | Marker] = []
    for part in [*(part for delta in deltas for part in markers.feed(delta)), *markers.end()]:
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def cited(blank: str, *claims: int | tuple[int, str]) -> Marker:
    """A marker."""
    return Marker(blank, tuple(Claim(*one) if isinstance(one, tuple) else Claim(one) for one in claims))


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("It stops [3].", ["It stops", cited(" ", 3), "."]),
        ("It stops[3].", ["It stops", cited("", 3), "."]),
        ("so[1][99]", ["so", cited("", 1), cited("", 99)]),
        ("[1][4]", [cited("", 1), cited("", 4)]),
        ("a  [1] [4]\n[2]", ["a ", cited(" ", 1), cited(" ", 4), "\n", cited("", 2)]),
        ("x [1, 4]", ["x", cited(" ", 1, 4)]),
        ("x [1,4;2]", ["x", cited(" ", 1, 4, 2)]),
        ("x [2-4]", ["x", cited(" ", 2, 3, 4)]),
        ("x [2–4, 1]", ["x", cited(" ", 2, 3, 4, 1)]),
        ("x [ 3 ]", ["x", cited(" ", 3)]),
        ("停止する【3】。", ["停止する", cited("", 3), "。"]),
        ("停止する[99]。", ["停止する", cited("", 99), "。"]),
        ("((see [3]))", ["((see", cited(" ", 3), "))"]),
        ("[[3]]", ["[", cited("", 3), "]"]),
        ("x [99]", ["x", cited(" ", 99)]),
        ('x [3: "stops after 20 s"].', ["x", cited(" ", (3, "stops after 20 s")), "."]),
        ('x [3:"stops"]', ["x", cited(" ", (3, "stops"))]),
        ("x [3: “stops”]", ["x", cited(" ", (3, "stops"))]),
        ("x [3: „stoppt“]", ["x", cited(" ", (3, "stoppt"))]),
        ("x [3: 'it's hot']", ["x", cited(" ", (3, "it's hot"))]),
        ("x [3: «arrêt»]", ["x", cited(" ", (3, "arrêt"))]),
        ('x [3: ""]', ["x", cited(" ", 3)]),
        ('x [1: "a", 2: "b"]', ["x", cited(" ", (1, "a"), (2, "b"))]),
        ('x [1: "a"; 2]', ["x", cited(" ", (1, "a"), 2)]),
        ('x [3: "a, 2 b"]', ["x", cited(" ", (3, "a, 2 b"))]),
        ('x [3: "the "big" one"]', ["x", cited(" ", (3, 'the "big" one'))]),
        (r'x [3: "the \"big\" one"]', ["x", cited(" ", (3, 'the "big" one'))]),
        ('x [3: "see [4] there"]', ["x", cited(" ", (3, "see [4] there"))]),
        ('x [3: "a["k"] = 1"]!', ["x", cited(" ", (3, 'a["k"] = 1')), "!"]),
        ('x [3: "from [0, 1) on"]!', ["x", cited(" ", (3, "from [0, 1) on")), "!"]),
        ('x [3: "C:\\"]!', ["x", cited(" ", (3, "C:\\")), "!"]),
        ('x [3: "two\nlines"]', ["x", cited(" ", (3, "two\nlines"))]),
        ('x [3: "hidden\\u{202E}one"]', ["x", cited(" ", (3, "hidden\\u{202E}one"))]),
        ('x [3: "open [4].', ['x [3: "open', cited(" ", 4), "."]),
        ("`a` [1] ``b ` [2]`` [3]", ["`a`", cited(" ", 1), " ``b ` [2]``", cited(" ", 3)]),
        ("```py\na [1]\n\nb [2]\n```\n[3]", ["```py\na [1]\n\nb [2]\n```\n", cited("", 3)]),
        ("one stray ` and [1]\n\n then [2]", ["one stray ` and [1]\n\n then", cited(" ", 2)]),
    ],
)
def test_markers(answer: str, parts: list[str | Marker]) -> None:
    """Exactly these parts; also where every character comes by itself."""
    assert read(answer) == parts
    assert read(*answer) == parts


@pytest.mark.parametrize(
    "answer",
    [
        "plain words, no brackets ",
        "[link](http://x) [3](http://x) ![3](a.png) [1, 2](b)",
        "[^3] and [^3]: note",
        "[a] [] [ ] [x: 3] [3: 5] [12:30] [3: bare words] [3 4] [3.1] [-3] [3",
        "[0] [0, 1] [007] [1, 0] [123456]",
        "a[7] b_[8] c[7][8] d[6, 7]",
        "[4-2] [1-99] [2019-2021] [1-3: 'x']",
        '`a[1]` ``[1: "x"]`` ```[1]```',
        r"\[3] \[3\] \[ x \]",
        '[3: "never closed',
        '[3: "a\n\nb"]',
        "【a】 【3] [3】",
        "\n\n  \n text \n",
        "",
    ],
)
def test_what_is_no_marker_stays_as_it_is(answer: str) -> None:
    """Character for character."""
    assert read(answer) == ([answer] if answer else [])
    assert read(*answer) == ([answer] if answer else [])


PIECES = st.sampled_from(
    [
        "[",
        "]",
        "【",
        "】",
        "1",
        "3",
        "99",
        "[3]",
        " ",
        "\n",
        "\n\n",
        '"',
        "”",
        ": ",
        ':"',
        ",",
        "-",
        "\\",
        "(",
        "`",
        "```",
        "word",
        "é",
        "漢",
        '[3: "',
        '"]',
        '[2: "so [4] it"',
        "[1, 4]",
        "\\u{202E}",
        "'",
        "x" * 400,
        "  ",
    ]
)
ANSWERS = st.lists(PIECES, max_size=25).map("".join)


@given(ANSWERS, st.data())
def test_any_cut_gives_the_same(answer: str, data: st.DataObject) -> None:
    """Cut anywhere, as often as one likes."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=20)))
    deltas = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert read(*deltas) == read(answer) == read(*answer)


@given(ANSWERS)
def test_no_more_is_held_back_than_a_marker_and_its_blank(answer: str) -> None:
    """At every moment."""
    markers, given_out = Markers(KNOWN), 0
    for at, character in enumerate(answer, 1):
        for part in markers.feed(character):
            # A marker's own length is not told; whatever was before it is out.
            given_out = at - 1 if isinstance(part, Marker) else given_out + len(part)
        assert at - given_out <= LONGEST + 2


def test_text_is_not_held_back() -> None:
    """Every character goes out with its delta, but for a blank, a line break or ticks at its end."""
    markers = Markers(KNOWN)
    assert [markers.feed(delta) for delta in ("so", " it", " goes ", "on [", "see", "] `", "x`\n", "y")] == [
        ["so"],
        [" it"],
        [" goes"],
        [" on"],
        [" [see"],
        ["] "],
        ["`x`"],
        ["\ny"],
    ]


def test_a_marker_is_decided_by_the_character_behind_it() -> None:
    """It might be the text of a link; with a quote it cannot be one."""
    markers = Markers(KNOWN)
    assert markers.feed("x [3]") == ["x"]
    assert markers.feed(" ") == [cited(" ", 3)]
    assert markers.feed('[3: "y"]') == [cited(" ", (3, "y"))]


@pytest.mark.parametrize(
    "text",
    ['[1: "' + "[x]" * 1000, '[1: "' + "]" * 5000, '[1:"' * 2000, '"]"]' * 2000, "[1, " * 2000, "`\n" * 3000],
)
def test_what_is_made_to_be_slow_is_not(text: str) -> None:
    """Less than a millisecond a character, also where each comes by itself."""
    started = time.process_time()
    read(*text)
    assert time.process_time() - started < 3
