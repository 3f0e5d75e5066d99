"""What may be cited, by numbers that go on from turn to turn."""

import json
from concurrent.futures import ThreadPoolExecutor

from kb.agent.cite import Source
from kb.agent.numbers import Numbers, after, read
from kb.types import Document, Page
from kb.web.page import WebPage
from kb.web.research import WebPassage

TEXT = "The shop opens at nine. It closes at five."
PAGE = WebPage("web_1", "https://a.example/x", "Shop", "", Document(TEXT, "text/html"), 0)


def source(number: int) -> Source:
    """One of a document."""
    return Source(number, "ver_1", "doc_1", "Pump", "pump.md", 0, 9)


def test_they_begin_behind_all_that_was_shown() -> None:
    """Of the turns before and of this one, whatever their order."""
    assert (after([]), after([source(7), source(3)])) == (1, 8)
    numbers = Numbers([source(9)], [source(2), source(3)])
    assert numbers.add_pages([WebPassage(PAGE, 0, 23, None), WebPassage(PAGE, 24, 42, None)]) == [10, 11]
    assert numbers.add_pages([]) == []
    assert [one.number for one in numbers.sources] == [2, 3, 9, 10, 11]


def test_what_was_added_is_read_again_as_it_was() -> None:
    """Through JSON, as a response is kept; what was packed or shown before is not told again."""
    numbers = Numbers([source(1)], [source(2)])
    numbers.add_pages([WebPassage(PAGE, 24, 42, None)])
    kept = json.loads(json.dumps(numbers.added))
    assert [one["number"] for one in kept] == [3]
    assert read(kept) == numbers.sources[2:]
    assert Numbers(earlier=read(kept)).added == []


def test_a_page_is_known_where_it_was_shown() -> None:
    """At its own offsets; nothing stands between, and what overlaps stands once."""
    numbers = Numbers()
    numbers.add_pages([WebPassage(PAGE, 24, 42, None), WebPassage(PAGE, 30, 36, None)])
    assert numbers.page_text("web_1") == " " * 24 + TEXT[24:]
    numbers.add_pages([WebPassage(PAGE, 4, 8, None)])
    assert numbers.page_text("web_1") == "    shop" + " " * 16 + TEXT[24:]
    assert numbers.page_text("web_2") == ""


def test_pages_of_a_pdf_are_kept_with_what_was_shown() -> None:
    """From the one that a passage begins on to that it ends on, through JSON as well."""
    leaves = (Page(1, 0), Page(2, 10), Page(3, 20), Page(4, 40))
    document = Document(TEXT, "application/pdf", pages=leaves)
    pdf = WebPage("web_2", "https://a.example/y", "Y", "", document, 0)
    numbers = Numbers()
    numbers.add_pages([WebPassage(pdf, 12, 30, None)])
    (kept,) = json.loads(json.dumps(numbers.added))
    assert kept["pages"] == [[10, 2], [20, 3]]
    again = Numbers(earlier=read([kept]))
    assert [again.page_at("web_2", at) for at in (12, 19, 20, 29)] == [2, 2, 3, 3]
    assert again.sources == numbers.sources
    assert Numbers().page_at("web_1", 3) is None


def test_calls_side_by_side_get_numbers_of_their_own() -> None:
    """Each of them once, and each stands for what it was given for."""
    numbers = Numbers()
    with ThreadPoolExecutor(8) as threads:
        found = list(
            threads.map(lambda at: numbers.add_pages([WebPassage(PAGE, at, at + 1, None)] * 3), range(40))
        )
    assert sorted(number for one in found for number in one) == list(range(1, 121))
    by_number = {one.number: one for one in numbers.sources}
    assert all(by_number[number].start == at for at, given in enumerate(found) for number in given)
