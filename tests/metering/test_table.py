"""Usage as it is shown, and points in time as they are written."""

import csv
import io
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from kb.catalog.calls import Call
from kb.catalog.usage import Total
from kb.errors import InvalidInput
from kb.metering.periods import instant
from kb.metering.table import as_csv, shown

TOTAL = Total("day", "", 2, 1, 1000, 200, 30, 4, 1, Decimal("0.000000001"), 0, Decimal("100.000000000"))


def test_credits_are_shown_in_digits() -> None:
    """Neither an exponent nor zeros at the end, and no number that a reader might round."""
    assert shown(TOTAL) == {
        "group": "day",
        "name": "",
        "calls": 2,
        "failed": 1,
        "input_tokens": 1000,
        "cached_tokens": 200,
        "output_tokens": 30,
        "reasoning_tokens": 4,
        "estimated": 1,
        "credits": "0.000000001",
        "open": 0,
        "reserved": "100",
    }
    assert shown(replace(TOTAL, credits=Decimal(0)))["credits"] == "0"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing(name: str) -> None:
    """What would be a formula is text there, and is quoted as CSV asks."""
    text = as_csv(Total, [replace(TOTAL, name=name), replace(TOTAL, name='a "b", c\nd=1')])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[1] for row in rows] == ["name", f"'{name}", 'a "b", c\nd=1']
    assert text.startswith(
        "group,name,calls,failed,input_tokens,cached_tokens,output_tokens,reasoning_tokens,"
    )


def test_a_row_of_csv_has_every_field_of_a_call() -> None:
    """None is empty, several knowledge bases are one cell, and without rows there are the columns."""
    known = {
        "id": "call_1",
        "knowledge_base_ids": ("kb_1", "kb_2"),
        "credits": Decimal("5.320"),
        "estimated": True,
    }
    call = Call(**{**dict.fromkeys(Call.__slots__), "input": 7, **known})  # type: ignore[arg-type]
    columns, row = csv.reader(io.StringIO(as_csv(Call, [call])))
    assert len(columns) == len(row) == len(fields(Call))
    made = dict(zip(columns, row, strict=True))
    assert (made["knowledge_base_ids"], made["credits"], made["estimated"]) == ("kb_1,kb_2", "5.32", "true")
    assert (made["input_tokens"], made["key_id"], made["error"]) == ("7", "", "")
    assert as_csv(Call, []).strip() == ",".join(columns)


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T09:30:00Z", datetime(2026, 11, 24, 9, 30, tzinfo=UTC)),
        ("2026-11-24T01:30:00.5+02:00", datetime(2026, 11, 23, 23, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-11-24T09:30", datetime(2026, 11, 24, 9, 30, tzinfo=UTC)),
    ],
)
def test_days_and_instants_are_read(given: str, at: datetime) -> None:
    """In UTC, unless they tell a zone."""
    assert instant(given, param="since") == at
    assert instant(given, param="since").tzinfo is UTC


@pytest.mark.parametrize("given", ["", "yesterday", "2026-02-29", "0001-01-01T00:00:00+23:00", "1700000000"])
def test_what_is_no_point_in_time_is_refused(given: str) -> None:
    """Naming the field."""
    with pytest.raises(InvalidInput, match="until is a day like") as refused:
        instant(given, param="until")
    assert refused.value.param == "until"
