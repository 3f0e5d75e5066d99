"""Attributes and what filters keep, judged by plain Python."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from kb.catalog.attributes import checked
from kb.errors import InvalidInput
from kb.search.columns import AttributeColumns
from kb.search.filters import parse_filter
from kb.types import Comparison, Compound, Filter

KEYS = ["a", "b", "c", "d"]
VALUES = (
    strategies.sampled_from(
        ["", "a", "A", "b", "ab", "é", "z", "Z", "10", "9", "2024-01-31", "2024-02-01", "𝄞", "\uffee"]
    )
    | strategies.booleans()
    | strategies.integers(-3, 3)
    | strategies.sampled_from([0.5, -0.0, 1.0, 2.5, 2**53, -(2**53), 0.1 + 0.2, 1e300])
)
ATTRIBUTES = strategies.dictionaries(strategies.sampled_from(KEYS), VALUES, max_size=3)
COMPARISONS = (
    strategies.builds(
        lambda kind, key, value: {"type": kind, "key": key, "value": value},
        strategies.sampled_from(["eq", "ne"]),
        strategies.sampled_from(KEYS),
        VALUES,
    )
    | strategies.builds(
        lambda kind, key, value: {"type": kind, "key": key, "value": value},
        strategies.sampled_from(["gt", "gte", "lt", "lte"]),
        strategies.sampled_from(KEYS),
        VALUES.filter(lambda value: not isinstance(value, bool)),
    )
    | strategies.builds(
        lambda kind, key, value: {"type": kind, "key": key, "value": value},
        strategies.sampled_from(["in", "nin"]),
        strategies.sampled_from(KEYS),
        strategies.lists(VALUES, min_size=1, max_size=3),
    )
)
FILTERS = strategies.recursive(
    COMPARISONS,
    lambda inner: strategies.builds(
        lambda kind, filters: {"type": kind, "filters": filters},
        strategies.sampled_from(["and", "or"]),
        strategies.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def kind(value: object) -> str:
    """Booleans are no numbers here, and numbers no strings."""
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def equal(left: object, right: object) -> bool:
    """Of one kind and equal."""
    return kind(left) == kind(right) and left == right


def keeps(where: Filter, attributes: dict[str, Any]) -> bool:
    """What a filter means."""
    if isinstance(where, Compound):
        parts = [keeps(part, attributes) for part in where.filters]
        return all(parts) if where.type == "and" else any(parts)
    assert isinstance(where, Comparison)
    if where.type in ("ne", "nin"):
        positive = Comparison("eq" if where.type == "ne" else "in", where.key, where.value)
        return not keeps(positive, attributes)
    if where.key not in attributes:
        return False
    value, given = attributes[where.key], where.value
    if where.type == "in":
        assert isinstance(given, tuple)
        return any(equal(value, one) for one in given)
    if where.type == "eq":
        return equal(value, given)
    assert not isinstance(given, tuple)
    if kind(value) != kind(given):
        return False
    # Python compares strings by code point.
    return {"gt": value > given, "gte": value >= given, "lt": value < given, "lte": value <= given}[
        where.type
    ]  # type: ignore[operator]


@settings(max_examples=20)
@given(
    documents=strategies.lists(ATTRIBUTES, min_size=1, max_size=6),
    filters=strategies.lists(FILTERS, min_size=1, max_size=8),
)
def test_matching_agrees_with_plain_python(
    documents: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    make_shelf: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any filter over any attributes keeps the chunks of exactly the documents it should, ascending."""
    shelf = make_shelf(tmp_path_factory.mktemp("filters"))
    other = shelf.make("other")
    there = shelf.catalog.store.source(other.id, "upload")
    for number, attributes in enumerate(documents):
        shelf.put(shelf.version(f"{number}", "one\ntwo", attributes))
        shelf.put(shelf.version(f"{number}", "elsewhere", attributes), kb=other, source=there)
    for given_ in filters:
        where = parse_filter(given_)
        expected = [
            3 * number + at for number, kept in enumerate(documents) if keeps(where, kept) for at in (1, 2)
        ]
        assert AttributeColumns(shelf.kb.id, shelf.catalog.feed).allowed(where).ids().tolist() == expected, (
            given_
        )
    shelf.catalog.close()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"type": "eq", "key": "n", "value": 1}, ["one"]),
        ({"type": "eq", "key": "n", "value": 1.0}, ["one"]),
        ({"type": "eq", "key": "n", "value": True}, ["true"]),
        ({"type": "eq", "key": "n", "value": "1"}, ["text"]),
        ({"type": "ne", "key": "n", "value": 1}, ["true", "text", "none"]),
        ({"type": "in", "key": "n", "value": [1, True]}, ["one", "true"]),
        ({"type": "nin", "key": "n", "value": ["1", 1]}, ["true", "none"]),
        ({"type": "gt", "key": "n", "value": 0}, ["one"]),
        ({"type": "gte", "key": "n", "value": "0"}, ["text"]),
        ({"type": "lt", "key": "missing", "value": 9}, []),
        ({"type": "ne", "key": "missing", "value": 9}, ["one", "true", "text", "none"]),
    ],
)
def test_numbers_booleans_strings_and_missing_keys_are_told_apart(
    shelf: Any, where: dict[str, Any], expected: list[str]
) -> None:
    """1 is not True and not "1"; a document without the key satisfies only the negations."""
    for uri, attributes in (("one", {"n": 1}), ("true", {"n": True}), ("text", {"n": "1"}), ("none", {})):
        shelf.put(shelf.version(uri, "text", attributes))
    ids = AttributeColumns(shelf.kb.id, shelf.catalog.feed).allowed(parse_filter(where)).ids().tolist()
    assert [shelf.hits(ids)[number].uri for number in ids] == expected


@pytest.mark.parametrize(
    ("given_", "param"),
    [
        ({str(n): n for n in range(17)}, "attributes"),
        ({"": 1}, "attributes."),
        ({"k" * 65: 1}, "attributes." + "k" * 65),
        ({"k": None}, "attributes.k"),
        ({"k": [1]}, "attributes.k"),
        ({"k": float("nan")}, "attributes.k"),
        ({"k": "x" * 513}, "attributes.k"),
        ({"k": 2**53 + 1}, "attributes.k"),
        ({"k": -(2**70)}, "attributes.k"),
        ({"k": float("inf")}, "attributes.k"),
        ({"k": "\ud800"}, "attributes.k"),
        ({"\udfff": 1}, "attributes.\udfff"),
    ],
)
def test_attributes_outside_the_limits_are_refused(given_: dict[str, Any], param: str) -> None:
    """InvalidInput names the attribute: what is let in can be stored, returned and compared exactly."""
    with pytest.raises(InvalidInput) as error:
        checked(given_)
    assert error.value.param == param


def test_attributes_at_the_limits_come_back_as_they_went_in(shelf: Any) -> None:
    """Sixteen keys, long values, and every kind of value."""
    given_ = {"k" * 64: "x" * 512, "n": -(2**53), "f": 0.1, "b": False, "é": "𝄞"} | {
        str(n): n for n in range(11)
    }
    shelf.put(shelf.version("a", "text", dict(checked(given_))))
    assert shelf.content("a").attributes == given_
    assert shelf.content("a").attributes["b"] is False


def test_columns_follow_what_changes(make_shelf: Callable[..., Any], tmp_path: Any) -> None:
    """After any commit, removal or change of attributes the same columns answer as new ones would."""
    shelf = make_shelf(tmp_path)
    columns = AttributeColumns(shelf.kb.id, shelf.catalog.feed)
    red = parse_filter({"type": "eq", "key": "colour", "value": "red"})
    late = parse_filter({"type": "gte", "key": "day", "value": "2024-02-01"})

    def kept(where: Filter) -> list[str]:
        found = columns.allowed(where)
        fresh = AttributeColumns(shelf.kb.id, shelf.catalog.feed).allowed(where)
        assert found.chunks.tolist() == fresh.chunks.tolist()
        assert found.mask.tolist() == fresh.mask.tolist()
        return sorted({hit.uri for hit in shelf.hits(found.ids().tolist()).values()})

    assert kept(red) == []
    shelf.put(shelf.version("a", "one\ntwo", {"colour": "red", "day": "2024-01-31"}))
    shelf.put(shelf.version("b", "three", {"day": "2024-02-01"}))
    assert (kept(red), kept(late)) == (["a"], ["b"])
    shelf.put(shelf.version("a", "one\ntwo\nfour", {"colour": "blue"}))
    assert (kept(red), kept(late)) == ([], ["b"])
    shelf.catalog.store.set_attributes(shelf.kb.id, {shelf.content("b").id: {"colour": "red", "size": 3}})
    assert (kept(red), kept(late)) == (["b"], [])
    shelf.put(shelf.version("c", "five", {"colour": "red", "day": "2025-01-01"}))
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("b").id])
    assert (kept(red), kept(late)) == (["c"], ["c"])
    shelf.catalog.close()
