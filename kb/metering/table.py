"""Calls, and what they came to, as they are shown: in JSON, or in CSV that a spreadsheet does not run."""

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from decimal import Decimal
from typing import Any

from kb.catalog.calls import Call
from kb.catalog.usage import Total
from kb.metering.rates import plain

_TOKENS = ("input", "cached", "output", "reasoning")
# What a spreadsheet takes for a formula; or for white space, behind which it looks for one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def shown(row: Call | Total) -> dict[str, Any]:
    """Its fields, in their order; credits are strings of digits."""
    return {_name(field.name): _value(getattr(row, field.name)) for field in fields(row)}


def as_csv(kind: type[Call] | type[Total], rows: Iterable[Call] | Iterable[Total]) -> str:
    """RFC 4180, the names of the columns first. None is empty, a list has commas between its parts, and text
    that would be a formula stands behind a quotation mark.
    """
    made = io.StringIO()
    written = csv.writer(made)
    written.writerow([_name(field.name) for field in fields(kind)])
    for row in rows:
        written.writerow([_cell(value) for value in shown(row).values()])
    return made.getvalue()


def _name(field: str) -> str:
    return f"{field}_tokens" if field in _TOKENS else field


def _value(value: object) -> object:
    if isinstance(value, Decimal):
        return plain(value)
    return list(value) if isinstance(value, tuple) else value


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = ",".join(value) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
