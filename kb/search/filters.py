"""The filter grammar: JSON -> Filter; and what of a filter a document does not meet.

{"type": "eq|ne|gt|gte|lt|lte", "key": "year", "value": 2024}
{"type": "in|nin", "key": "team", "value": ["a", "b"]}
{"type": "and|or", "filters": [ … ]}
"""

import operator
from collections.abc import Callable
from math import isfinite
from typing import Any, cast

from kb.errors import InvalidFilter
from kb.types import Attributes, AttributeValue, Comparison, Compound, Filter, is_unicode

_ONE = ("eq", "ne", "gt", "gte", "lt", "lte")
_SEVERAL = ("in", "nin")
_COMPOUND = ("and", "or")
# Bounds on what one request may cost; far beyond what a person or a model writes.
_MAX_DEPTH = 8
_MAX_PARTS = 256
_MAX_VALUES = 1000

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def parse_filter(given: object, *, param: str = "filters") -> Filter:
    """The filter that a JSON value describes. Raises InvalidFilter whose `param` is the path of the fault."""
    return _parse(given, param, 1, [0])


def json_schema(itself: str) -> dict[str, Any]:
    """The grammar as JSON Schema, but for its bounds on depth and parts. itself: refers to this schema."""
    text, number, flag = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
    key = {"type": "string", "minLength": 1}
    several = {
        "type": "array",
        "minItems": 1,
        "maxItems": _MAX_VALUES,
        "items": {"anyOf": [text, number, flag]},
    }
    inner = {"type": "array", "minItems": 1, "maxItems": _MAX_PARTS - 1, "items": {"$ref": itself}}
    return {
        "anyOf": [
            _object(("eq", "ne"), key=key, value={"anyOf": [text, number, flag]}),
            _object(tuple(_ORDER), key=key, value={"anyOf": [text, number]}),
            _object(_SEVERAL, key=key, value=several),
            _object(_COMPOUND, filters=inner),
        ]
    }


def unmet(where: Filter, attributes: Attributes) -> tuple[Comparison, ...]:
    """The comparisons for want of which a filter does not keep a document; none where it does."""
    if isinstance(where, Comparison):
        return () if _holds(where, attributes) else (where,)
    parts = [unmet(part, attributes) for part in where.filters]
    if where.type == "or" and not all(parts):
        return ()
    return tuple(one for part in parts for one in part)


def _object(kinds: tuple[str, ...], **fields: dict[str, Any]) -> dict[str, Any]:
    properties = {"type": {"enum": list(kinds)}, **fields}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _holds(where: Comparison, attributes: Attributes) -> bool:
    """As kb/search/columns.py decides it: values of two kinds are never equal and have no order."""
    value = attributes.get(where.key)
    given = where.value if isinstance(where.value, tuple) else (where.value,)
    same = [one for one in given if value is not None and _kind(one) is _kind(value)]
    if where.type in _ORDER:
        return any(_ORDER[where.type](value, one) for one in same)
    return (value in same) == (where.type in ("eq", "in"))


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)


def _parse(given: object, at: str, depth: int, parts: list[int]) -> Filter:
    parts[0] += 1
    if parts[0] > _MAX_PARTS or depth > _MAX_DEPTH:
        raise InvalidFilter(f"a filter has at most {_MAX_PARTS} parts and {_MAX_DEPTH} levels", param=at)
    if not isinstance(given, dict):
        raise InvalidFilter(
            f'{at} must be an object such as {{"type":"eq","key":"team","value":"a"}}', param=at
        )
    kind = given.get("type")
    if kind in _COMPOUND:
        _only(given, {"type", "filters"}, at)
        inner = given.get("filters")
        if not isinstance(inner, list) or not inner:
            raise InvalidFilter(f"{at}.filters must be a list of one or more filters", param=f"{at}.filters")
        return Compound(
            kind, tuple(_parse(part, f"{at}.filters.{i}", depth + 1, parts) for i, part in enumerate(inner))
        )
    if kind not in _ONE + _SEVERAL:
        allowed = ", ".join(_ONE + _SEVERAL + _COMPOUND)
        raise InvalidFilter(f"{at}.type must be one of {allowed}", param=f"{at}.type")
    _only(given, {"type", "key", "value"}, at)
    key = given.get("key")
    if not isinstance(key, str) or not key or not is_unicode(key):
        raise InvalidFilter(f"{at}.key must name an attribute", param=f"{at}.key")
    return Comparison(cast(Any, kind), key, _value(kind, given.get("value"), f"{at}.value"))


def _value(kind: str, value: object, at: str) -> AttributeValue | tuple[AttributeValue, ...]:
    if kind in _SEVERAL:
        if not isinstance(value, list) or not 1 <= len(value) <= _MAX_VALUES:
            raise InvalidFilter(f"{at} must be a list of 1 to {_MAX_VALUES} values for {kind!r}", param=at)
        return tuple(_scalar(item, f"{at}.{i}") for i, item in enumerate(value))
    scalar = _scalar(value, at)
    if kind not in ("eq", "ne") and isinstance(scalar, bool):
        raise InvalidFilter(f"{at}: {kind!r} compares numbers or strings, not booleans", param=at)
    return scalar


def _scalar(value: object, at: str) -> AttributeValue:
    if not isinstance(value, str | int | float | bool) or (isinstance(value, float) and not isfinite(value)):
        raise InvalidFilter(f"{at} must be a string, a number or a boolean", param=at)
    if isinstance(value, str) and not is_unicode(value):
        raise InvalidFilter(f"{at} must be valid Unicode", param=at)
    if isinstance(value, int) and abs(value) > 2**53:
        raise InvalidFilter(f"{at} must be within ±2^53, where numbers are exact", param=at)
    return value


def _only(given: dict[Any, Any], allowed: set[str], at: str) -> None:
    unknown = sorted(str(name) for name in given.keys() - allowed)
    if unknown:
        raise InvalidFilter(f"{at} has unknown fields: {', '.join(unknown)}", param=f"{at}.{unknown[0]}")
