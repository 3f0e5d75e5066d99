"""Text: encodings, Markdown headings, delimited values, JSON, notebooks, XML, RTF."""

import json

import pytest

from kb.errors import BrokenDocument
from kb.ingest.formats.data import set_out
from kb.ingest.formats.markdown import headings_of
from kb.ingest.parse import parse
from kb.types import Heading


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "naïve 𝄞 日本語"),
        ("utf-8-sig", "with a mark"),
        ("utf-16", "mark and 日本語"),
        ("utf-16-le", "no mark, English"),
        ("utf-16-be", "Без метки\nпо-русски"),
        ("utf-32", "mark 𝄞"),
        ("utf-32-be", "no mark"),
        ("cp1252", "Größe"),
        ("cp1252", "L’été à Noël, où est le cœur… “oui”"),
        ("latin-1", "El niño comió piñas; ¿qué más?"),
        ("iso8859_15", "Prix : 5 € à payer, déjà réglé"),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
        ("iso8859_2", "Zażółć gęślą jaźń, i co dalej?"),
        ("iso8859_9", "İstanbul güzel bir şehir, ığdır"),
        ("cp1257", "Rīgas pašvaldība šodien paziņoja ļoti"),
        ("mac_roman", "Größe über alles schön für"),
        ("cp1251", "Съешь же ещё этих мягких французских булок"),
        ("koi8_r", "Съешь же ещё этих мягких французских булок, да выпей чаю"),
        ("cp1253", "Ά αυτό είναι ένα κείμενο δοκιμής"),
        ("shift_jis", "日本語のテキストです。これはテストです。"),
        ("gb18030", "这是一个测试文件，用来检查编码。这是第二句话。"),
        ("big5", "這是一個測試文件，用來檢查編碼。"),
        ("euc_kr", "한국어 텍스트입니다. 시험입니다."),
    ],
)
def test_text_in_any_common_encoding_is_read(encoding: str, text: str) -> None:
    """The letters come out as they were written."""
    assert parse(text.encode(encoding), "a.txt").text == text


def test_a_few_broken_bytes_do_not_turn_utf8_into_another_encoding() -> None:
    """One flaw is marked; the rest stays right."""
    data = ("Füße und Öfen. " * 50).encode() + b"\xff" + " übrig".encode()
    assert parse(data, "a.txt").text == "Füße und Öfen. " * 50 + "\ufffd übrig"


def test_plain_text_stays_as_it_is() -> None:
    """No markup is seen in text that has none."""
    document = parse(b"# not a heading\n\n  two\tspaces  \n", "a.txt")
    assert document.text == "# not a heading\n\n  two\tspaces  \n"
    assert (document.markup, document.headings, document.media_type) == ("plain", (), "text/plain")


def test_headings_are_found_where_markdown_has_them() -> None:
    """ATX and setext; not in fences, lists, tables, quotations, indented code or front matter."""
    text = (
        "---\ntitle: x\n# comment: y\n---\n"
        "# One #\n"
        "```\n# code\n```\n"
        "~~~~ py\n~~~\n# code\n~~~~\n"
        "Two\n===\n"
        "Three *and* `more`\n---\n"
        "- item\n---\n"
        "> quote\n---\n"
        "| a |\n---\n"
        "    # indented\n"
        "#hashtag\n"
        "line one\nline two\n---\n\n"
        "   ###### [Six](http://x) ##\n"
        "#\n"
        "# C#\n"
    )
    found = headings_of(text)
    assert [(h.level, h.title) for h in found] == [
        (1, "One"),
        (1, "Two"),
        (2, "Three and more"),
        (6, "Six"),
        (1, "C#"),
    ]
    assert [text[h.start :].split("\n")[0] for h in found] == [
        "# One #", "Two", "Three *and* `more`", "   ###### [Six](http://x) ##", "# C#",
    ]  # fmt: skip


def test_an_unclosed_fence_runs_to_the_end() -> None:
    """As CommonMark has it."""
    assert headings_of("# a\n```\n# b\n") == (Heading(1, "a", 0),)


def test_front_matter_gives_the_title() -> None:
    """And stays in the text."""
    document = parse(b'---\ntags: a\ntitle: "A title"\n---\n# Heading\n', "a.md")
    assert document.title == "A title"
    assert document.text.startswith("---\ntags")


def test_headings_of_hostile_lines_take_no_time() -> None:
    """Lines on which a careless pattern would look ahead from every mark."""
    for line in ("# " + " " * 200_000 + "x", "# " + "*a " * 200_000, "# " + "[" * 200_000, "#" * 200_000):
        assert len(headings_of(line)) <= 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimited_values_become_a_table(delimiter: str) -> None:
    """The delimiter is found; quotes, pipes and line ends in cells are dealt with."""
    rows = [["name", "note", "n"], ["Ann", f'"a{delimiter} b|c\nd"', "1"], ["Bob", "", "2"], ["Eve"]]
    data = "\r\n".join(delimiter.join(row) for row in rows).encode()
    document = parse(data, "a.csv")
    cell = f"a{delimiter} b|c d".replace("\t", "").replace("|", "\\|")
    assert (
        document.text
        == f"| name | note | n |\n| --- | --- | --- |\n| Ann | {cell} | 1 |\n| Bob |  | 2 |\n| Eve |"
    )
    assert document.markup == "markdown"


def test_a_wider_row_widens_the_header() -> None:
    """No cell is lost to a short header."""
    assert parse(b"a,b\n1,2,3\n", "a.csv").text == "| a | b |  |\n| --- | --- | --- |\n| 1 | 2 | 3 |"


def test_one_line_of_json_is_set_out_and_other_json_left() -> None:
    """Digits and keys stay as they are; letters replace escapes."""
    text = (
        '{"a": [1.10, {}, []], "a": "\\u00e9 \\ud834\\udd1e, {x}", "n": 12345678901234567890123'
        + " " * 200
        + "}"
    )
    assert parse(text.encode(), "a.json").text == (
        '{\n  "a": [\n    1.10,\n    {},\n    []\n  ],\n  "a": "é 𝄞, {x}",\n  "n": 12345678901234567890123\n}'
    )
    assert parse(b'{"a":\n1}\n', "a.json").text == '{"a":\n1}'
    assert json.loads(set_out('[[1,[2,"]"]],{"k":[true,null]}]')) == [[1, [2, "]"]], {"k": [True, None]}]


def test_a_notebook_shows_cells_and_what_they_printed() -> None:
    """Code in fences with its language, output in fences without."""
    notebook = {
        "nbformat": 4,
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "words"]},
            {"cell_type": "code", "source": "print('```')", "outputs": [
                {"output_type": "stream", "text": ["one\n", "two\n"]},
                {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": ["<Figure>"]}},
                {"output_type": "error", "traceback": ["\x1b[31mBoom\x1b[0m"]},
            ]},
        ],
    }  # fmt: skip
    document = parse(json.dumps(notebook).encode(), "a.ipynb")
    assert document.text == (
        "# Title\nwords\n\n````python\nprint('```')\n````\n\n"
        "```\none\ntwo\n```\n\n```\n<Figure>\n```\n\n```\nBoom\n```"
    )
    assert document.title == "Title"


@pytest.mark.parametrize("data", [b"not json", b"[]", b'{"cells": [1]}', b'{"cells": ' + b"[" * 100_000])
def test_a_broken_notebook_is_refused(data: bytes) -> None:
    """JSON of another shape is no notebook."""
    with pytest.raises(BrokenDocument, match=r"^a\.ipynb: is not a Jupyter notebook"):
        parse(data, "a.ipynb")


def test_xml_gives_a_paragraph_for_each_element_with_text() -> None:
    """Inline elements stay in their sentence, the fields of a record together."""
    long = "A long paragraph that says more than a field of a record would. " * 2
    data = f"<r><m>A <b>bold</b> word</m><n>two</n><p>{long}</p><c><!-- no --><d>three</d></c></r>".encode()
    assert parse(data, "a.xml").text == f"A bold word\ntwo\n\n{long.strip()}\n\nthree"


def test_xml_without_text_is_shown_as_it_is() -> None:
    """Everything may stand in attributes."""
    assert parse(b'<a><b c="d"/></a>', "a.xml").text == '<a><b c="d"/></a>'


def test_broken_xml_is_refused() -> None:
    """With the place of the flaw."""
    with pytest.raises(BrokenDocument, match=r"^a\.xml: is not well-formed XML \(mismatched tag: line 1"):
        parse(b"<a><b></a>", "a.xml")


def test_rtf_gives_its_words() -> None:
    """Escapes of both kinds are letters."""
    document = parse(rb"{\rtf1\ansi\ansicpg1252 Caf\'e9 \b bold\b0\par \u8364? done}", "a.rtf")
    assert document.text == "Café bold\n€ done"
