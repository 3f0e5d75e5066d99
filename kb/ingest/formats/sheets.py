"""Tables: XLSX workbooks, one page a sheet, and delimited text."""

import csv
import datetime
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kb.errors import TooLarge
from kb.ingest.formats.archive import checked_package
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.markdown import paragraphs, table, trim
from kb.ingest.formats.text import decoded
from kb.ingest.formats.titles import core_title

MAX_CELLS = 20_000_000
"""Cells of a workbook, gaps included: a lone cell in the last corner stands for 17 thousand million."""

DELIMITERS = ",;\t|"
DELIMITER_LINES = 50
"""Lines that decide on the delimiter."""


def parse_xlsx(data: bytes) -> Draft:
    """Each sheet as a heading and its tables; formulas give the value that was last calculated."""
    import openpyxl

    package = checked_package(data)
    book = openpyxl.load_workbook(package, read_only=True, data_only=True, keep_links=False)
    left = MAX_CELLS
    pages: list[tuple[int, str]] = []
    for number, sheet in enumerate(book.worksheets, start=1):
        # The dimension a file states is often wrong, and then hides rows or invents a million.
        sheet.reset_dimensions()
        rows: list[list[str]] = []
        for cells in sheet.iter_rows():
            left -= len(cells) + 1
            if left < 0:
                raise TooLarge(f"has more than {MAX_CELLS:,} cells; split it")
            row = trim([cell_text(cell) for cell in cells])
            if row or (rows and rows[-1]):
                rows.append(row)
        pages.append((number, sheet_text(sheet.title, rows)))
    return Draft(title=core_title(package), pages=pages)


def sheet_text(name: str, rows: Iterable[Sequence[str]]) -> str:
    """A sheet as Markdown: its name, then each run of rows without a gap as a table, a lone cell as a line.

    Nothing for a sheet without a cell.
    """
    blocks: list[str] = []
    run: list[Sequence[str]] = []
    for row in [*rows, []]:
        if any(map(str.strip, row)):
            run.append(row)
        elif run:
            blocks.extend(run_blocks(run))
            run = []
    # Second level: the name of the first sheet is no title for the workbook.
    return paragraphs([f"## {' '.join(name.split())}", *blocks]) if blocks else ""


def run_blocks(rows: list[Sequence[str]]) -> list[str]:
    """Rows in sequence: lone cells at the top as lines (they are captions), the rest as a table."""
    left = min(next(i for i, value in enumerate(row) if value.strip()) for row in rows)
    rows = [trim(row[left:]) for row in rows]
    blocks: list[str] = []
    # A single column is a table only if it is long; the lines above a wider table are its captions.
    while rows and sum(map(bool, rows[0])) == 1 and (len(rows) == 1 or any(len(row) > 1 for row in rows)):
        blocks.append(next(filter(None, rows.pop(0))).strip())
    return [*blocks, table(rows)] if rows else blocks


def cell_text(cell: Any) -> str:
    """A cell's value as one reads it: dates in ISO form, percentages as such, no binary noise in decimals."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat("seconds")
    if isinstance(value, float):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.12g}%"
        return f"{value:.15g}"
    return str(value)


def parse_csv(data: bytes) -> Draft:
    """Comma-, semicolon-, tab- or pipe-separated values as a table; the first row is the header."""
    text = decoded(data)
    return delimited(text, delimiter_of(text))


def parse_tsv(data: bytes) -> Draft:
    """Tab-separated values as a table, or what they are separated by if there is no tab."""
    text = decoded(data)
    return delimited(text, "\t" if "\t" in text else delimiter_of(text))


def delimited(text: str, delimiter: str) -> Draft:
    """A table of the delimited text. An unclosed quote takes the rest of the text into its cell."""
    # The default of 131,072 characters a field is met by real exports; the document's limit rules here.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = [
        row
        for row in csv.reader(io.StringIO(text.replace("\0", ""), newline=""), delimiter=delimiter)
        if any(row)
    ]
    return Draft(table(rows))


def delimiter_of(text: str) -> str:
    """The delimiter that gives most lines the same number of fields, two at least; else a comma."""
    # Quoted fields may hold any of them.
    lines = re.sub(r'"[^"]*"', '""', text[:100_000]).splitlines()[:DELIMITER_LINES]
    lines = [line for line in lines if line.strip()]
    best = (0.0, 0, ",")
    for delimiter in DELIMITERS:
        counts = Counter(line.count(delimiter) for line in lines)
        counts.pop(0, None)
        if counts:
            fields, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
            best = max(best, (agreeing / len(lines), fields, delimiter), key=lambda item: item[:2])
    return best[2]
