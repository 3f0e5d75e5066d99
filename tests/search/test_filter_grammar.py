"""The filter grammar: what it takes, and where it says the fault is."""

from typing import Any

import pytest
from hypothesis import given, strategies

from kb.errors import InvalidFilter, InvalidInput
from kb.search.filters import parse_filter
from kb.types import Comparison, Compound

EQ = {"type": "eq", "key": "team", "value": "a"}


def nested(levels: int) -> dict[str, Any]:
    """A filter of so many levels."""
    return EQ if levels == 1 else {"type": "and", "filters": [nested(levels - 1)]}


def test_a_filter_is_read_as_it_is_written() -> None:
    """Comparisons and compounds, nested, with lists as tuples."""
    given_ = {
        "type": "or",
        "filters": [EQ, {"type": "and", "filters": [{"type": "nin", "key": "n", "value": [1, "x", True]}]}],
    }
    assert parse_filter(given_) == Compound(
        "or", (Comparison("eq", "team", "a"), Compound("and", (Comparison("nin", "n", (1, "x", True)),)))
    )


@pytest.mark.parametrize("kind", ["eq", "ne", "gt", "gte", "lt", "lte"])
@pytest.mark.parametrize("value", ["", "x", 0, -1, 1.5, 2**53, -(2**53)])
def test_every_comparison_takes_strings_and_numbers(kind: str, value: Any) -> None:
    """The value is kept as it is, its type too."""
    parsed = parse_filter({"type": kind, "key": "k", "value": value})
    assert parsed == Comparison(kind, "k", value)  # type: ignore[arg-type]
    assert isinstance(parsed, Comparison)
    assert type(parsed.value) is type(value)


@pytest.mark.parametrize(
    ("given_", "param"),
    [
        (None, "filters"),
        ([], "filters"),
        ([EQ], "filters"),
        ("team = a", "filters"),
        (7, "filters"),
        ({}, "filters.type"),
        ({"type": None}, "filters.type"),
        ({"type": "like", "key": "k", "value": "v"}, "filters.type"),
        ({"type": "EQ", "key": "k", "value": "v"}, "filters.type"),
        ({"type": ["eq"], "key": "k", "value": "v"}, "filters.type"),
        ({"type": {"eq": 1}, "key": "k", "value": "v"}, "filters.type"),
        ({"type": "eq", "value": "v"}, "filters.key"),
        ({"type": "eq", "key": "", "value": "v"}, "filters.key"),
        ({"type": "eq", "key": 7, "value": "v"}, "filters.key"),
        ({"type": "eq", "key": "k"}, "filters.value"),
        ({"type": "eq", "key": "k", "value": None}, "filters.value"),
        ({"type": "eq", "key": "k", "value": ["v"]}, "filters.value"),
        ({"type": "eq", "key": "k", "value": {"v": 1}}, "filters.value"),
        ({"type": "eq", "key": "k", "value": float("nan")}, "filters.value"),
        ({"type": "eq", "key": "k", "value": 2**53 + 1}, "filters.value"),
        ({"type": "gt", "key": "k", "value": -(2**70)}, "filters.value"),
        ({"type": "gt", "key": "k", "value": True}, "filters.value"),
        ({"type": "lte", "key": "k", "value": False}, "filters.value"),
        ({"type": "in", "key": "k", "value": "v"}, "filters.value"),
        ({"type": "in", "key": "k", "value": []}, "filters.value"),
        ({"type": "nin", "key": "k", "value": ["v", None]}, "filters.value.1"),
        ({"type": "in", "key": "k", "value": [["v"]]}, "filters.value.0"),
        ({"type": "in", "key": "k", "value": list(range(1001))}, "filters.value"),
        ({**EQ, "values": []}, "filters.values"),
        ({"type": "and", "filters": [EQ], "key": "k"}, "filters.key"),
        ({"type": "and"}, "filters.filters"),
        ({"type": "or", "filters": []}, "filters.filters"),
        ({"type": "or", "filters": EQ}, "filters.filters"),
        ({"type": "or", "filters": [EQ, 7]}, "filters.filters.1"),
        (
            {"type": "or", "filters": [EQ, {"type": "and", "filters": [{"type": "eq", "key": "k"}]}]},
            "filters.filters.1.filters.0.value",
        ),
        (nested(9), "filters" + ".filters.0" * 8),
        ({"type": "or", "filters": [EQ] * 256}, "filters.filters.255"),
        ({"type": "eq", "key": "k", "value": "\ud800"}, "filters.value"),
        ({"type": "eq", "key": "\ud800", "value": "v"}, "filters.key"),
    ],
)
def test_every_malformed_shape_names_its_place(given_: object, param: str) -> None:
    """InvalidFilter, an InvalidInput, whose param is the path of the fault."""
    with pytest.raises(InvalidFilter) as error:
        parse_filter(given_)
    assert error.value.param == param
    assert isinstance(error.value, InvalidInput)


def test_the_path_begins_where_the_caller_says() -> None:
    """An endpoint names its own field."""
    with pytest.raises(InvalidFilter) as error:
        parse_filter({"type": "and", "filters": [7]}, param="where")
    assert error.value.param == "where.filters.0"


def test_the_bounds_themselves_are_allowed() -> None:
    """Eight levels, 256 parts and 1,000 values."""
    assert isinstance(parse_filter(nested(8)), Compound)
    assert isinstance(parse_filter({"type": "or", "filters": [EQ] * 255}), Compound)
    assert isinstance(parse_filter({"type": "in", "key": "k", "value": list(range(1000))}), Comparison)


@given(
    strategies.recursive(
        strategies.none()
        | strategies.booleans()
        | strategies.integers()
        | strategies.floats()
        | strategies.text(max_size=5),
        lambda inner: (
            strategies.lists(inner, max_size=3)
            | strategies.dictionaries(
                strategies.sampled_from(["type", "key", "value", "filters", "x"]), inner, max_size=4
            )
        ),
    )
)
def test_nothing_but_invalid_filter_is_ever_raised(given_: object) -> None:
    """Any JSON value is a filter or an InvalidFilter whose path begins with the field."""
    try:
        parsed: object = parse_filter(given_)
    except InvalidFilter as error:
        parsed = error.param
    assert isinstance(parsed, Comparison | Compound) or str(parsed).startswith("filters")
