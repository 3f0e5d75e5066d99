"""Attributes of documents: checked, and stored one row each."""

import math
from collections.abc import Mapping
from typing import Any

from kb.errors import InvalidInput
from kb.types import Attributes, AttributeValue, is_unicode

# The limits of the OpenAI file-attribute contract.
_MAX_KEYS, _MAX_KEY, _MAX_TEXT = 16, 64, 512


def checked(given: Mapping[str, object], *, at: str = "attributes") -> Attributes:
    """The attributes, or InvalidInput whose `param` is `at` and the key that breaks a limit."""
    if len(given) > _MAX_KEYS:
        raise InvalidInput(f"at most {_MAX_KEYS} attributes a document, not {len(given)}", param=at)
    good: dict[str, AttributeValue] = {}
    for key, value in given.items():
        where = f"{at}.{key}"
        if not 1 <= len(key) <= _MAX_KEY:
            raise InvalidInput(f"an attribute's key is 1 to {_MAX_KEY} characters", param=where)
        if not isinstance(value, str | int | float | bool):
            raise InvalidInput("an attribute is a string, a number or a boolean", param=where)
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput("an attribute's number must be finite", param=where)
        if isinstance(value, int) and abs(value) > 2**53:
            raise InvalidInput("an attribute's integer is within ±2^53, where numbers are exact", param=where)
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise InvalidInput(f"an attribute's text is at most {_MAX_TEXT} characters", param=where)
        if not is_unicode(f"{key}{value}"):
            raise InvalidInput("an attribute must be valid Unicode", param=where)
        good[key] = value
    return good


def attribute_rows(kb_id: str, content_id: str, given: Attributes) -> list[dict[str, Any]]:
    """Rows of the attribute table."""
    rows = []
    for key, value in given.items():
        row: dict[str, Any] = {"content_id": content_id, "key": key, "kb_id": kb_id}
        rows.append({**row, "text": None, "number": None, "flag": None, _column(value): value})
    return rows


def _column(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"
