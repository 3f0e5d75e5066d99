"""The attributes of a knowledge base's documents in memory, a column each: a filter becomes a mask.

SQL would answer a filter too, in tens of milliseconds where half of 100,000 chunks are kept; a comparison
of columns takes tens of microseconds (benchmarks/README.md, "Filters").
"""

import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb.catalog.feed import Feed
from kb.types import Allowed, AttributeValue, Comparison, Compound, Filter, Ids, positions

Mask = NDArray[np.bool_]

# Values of an attribute that are named as examples, and how long they may be.
_EXAMPLES, _EXAMPLE_LENGTH = 10, 64

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One attribute of every document: nan, -1 and -1 where it is no number, flag or text."""

    numbers: NDArray[np.float64]
    flags: NDArray[np.int8]
    texts: NDArray[np.int32]

    @classmethod
    def of(cls, values: Sequence[AttributeValue | None], codes: "_Codes") -> "_Column":
        column = cls.empty(len(values))
        for at, value in enumerate(values):
            if isinstance(value, bool):
                column.flags[at] = value
            elif isinstance(value, str):
                column.texts[at] = codes.of(value)
            elif value is not None:
                column.numbers[at] = value
        return column

    @classmethod
    def empty(cls, count: int) -> "_Column":
        return cls(np.full(count, np.nan), np.full(count, -1, np.int8), np.full(count, -1, np.int32))

    def taken(self, rows: NDArray[np.int64]) -> "_Column":
        return _Column(self.numbers[rows], self.flags[rows], self.texts[rows])

    def followed_by(self, other: "_Column") -> "_Column":
        return _Column(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.flags, other.flags]),
            np.concatenate([self.texts, other.texts]),
        )


@dataclass(frozen=True, slots=True)
class FilterKey:
    """An attribute of a knowledge base's documents. documents: how many have it. types: of string, number
    and boolean. values: of strings some, most frequent first. least, most: of numbers."""

    key: str
    types: tuple[str, ...]
    documents: int
    values: tuple[str, ...]
    least: float | None
    most: float | None

    @classmethod
    def of(cls, key: str, column: _Column, texts: Sequence[str]) -> "FilterKey":
        """Read off a column; `texts` by their codes."""
        codes, counts = np.unique(column.texts[column.texts >= 0], return_counts=True)
        numbers = column.numbers[~np.isnan(column.numbers)]
        flags = int(np.count_nonzero(column.flags >= 0))
        frequent = (texts[codes[at]] for at in np.argsort(-counts, kind="stable"))
        kinds = {"string": len(codes), "number": len(numbers), "boolean": flags}
        return cls(
            key,
            tuple(kind for kind, count in kinds.items() if count),
            int(counts.sum()) + len(numbers) + flags,
            tuple(islice((text for text in frequent if len(text) <= _EXAMPLE_LENGTH), _EXAMPLES)),
            float(numbers.min()) if len(numbers) else None,
            float(numbers.max()) if len(numbers) else None,
        )


@dataclass(slots=True)
class _Codes:
    """Numbers for texts. Only ever added to, so that older tables stay valid beside newer ones."""

    known: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def of(self, text: str) -> int:
        code = self.known.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Documents by their first chunk, and their attributes, as of one change number."""

    seq: int
    first: Ids
    count: Ids
    columns: dict[str, _Column]
    chunks: Ids
    owner: NDArray[np.int64]
    """The document of each chunk."""


class AttributeColumns:
    """Answers filters on one knowledge base. Thread-safe.

    Built at first use, then follows the feed.
    """

    def __init__(self, kb_id: str, feed: Feed) -> None:
        self._kb_id = kb_id
        self._feed = feed
        self._codes = _Codes()
        self._following = threading.Lock()
        none = np.empty(0, np.int64)
        self._table = _Table(0, none, none, {}, none, none)

    def allowed(self, where: Filter) -> Allowed:
        """The chunks of the documents that a filter keeps, by every change acknowledged so far."""
        self.follow()
        table = self._table
        kept = self._mask(table, where)
        # Where each document is one chunk, what holds for documents holds for chunks.
        return Allowed(table.chunks, kept if len(kept) == len(table.chunks) else kept[table.owner])

    def keys(self) -> list[FilterKey]:
        """What documents can be filtered by, in order of the keys."""
        self.follow()
        table = self._table
        made = (FilterKey.of(key, column, self._codes.texts) for key, column in sorted(table.columns.items()))
        return [one for one in made if one.documents]

    def documents(self, ids: Ids) -> Ids:
        """A number for the document of each chunk, the same for chunks of one; shape (len(ids),)."""
        self.follow()
        table = self._table
        at = positions(ids, table.chunks)
        # What this does not know yet, or knows no more, counts as a document of its own.
        return np.where(at >= 0, table.first[table.owner[at]], ids) if len(table.chunks) else ids

    def follow(self) -> None:
        """Apply the changes that were not seen yet; the first time reads every document's attributes."""
        if self._feed.head(self._kb_id) == self._table.seq:
            return
        with self._following:
            old = self._table
            step = self._feed.documents_after(self._kb_id, old.seq)
            if step.seq == old.seq:
                return
            stays = np.flatnonzero(~np.isin(old.first, np.concatenate([step.gone, step.first])))
            first = np.concatenate([old.first[stays], step.first])
            order = np.argsort(first, kind="stable")
            columns = {}
            for key in old.columns.keys() | {key for given in step.attributes for key in given}:
                before = old.columns.get(key) or _Column.empty(len(old.first))
                new = _Column.of([given.get(key) for given in step.attributes], self._codes)
                columns[key] = before.taken(stays).followed_by(new).taken(order)
            count = np.concatenate([old.count[stays], step.count])[order]
            owner = np.repeat(np.arange(len(first)), count)
            begins = np.cumsum(count) - count
            chunks = np.arange(int(count.sum())) - begins[owner] + first[order][owner]
            self._table = _Table(step.seq, first[order], count, columns, chunks, owner)

    def _mask(self, table: _Table, where: Filter) -> Mask:
        if isinstance(where, Compound):
            parts = [self._mask(table, part) for part in where.filters]
            return np.asarray((np.logical_and if where.type == "and" else np.logical_or).reduce(parts))
        if where.type in ("ne", "nin"):
            return ~self._holding(table, where)
        return self._holding(table, where)

    def _holding(self, table: _Table, where: Comparison) -> Mask:
        column = table.columns.get(where.key)
        if column is None:
            return np.zeros(len(table.first), bool)
        if where.type in _ORDER:
            assert not isinstance(where.value, tuple)
            return self._ordered(column, _ORDER[where.type], where.value)
        values = where.value if isinstance(where.value, tuple) else (where.value,)
        return np.asarray(np.logical_or.reduce([self._equal(column, value) for value in values]))

    def _equal(self, column: _Column, value: AttributeValue) -> Mask:
        if isinstance(value, bool):
            return np.asarray(column.flags == value)
        if isinstance(value, str):
            return np.asarray(column.texts == self._codes.known.get(value, -2))
        return np.asarray(column.numbers == value)

    def _ordered(self, column: _Column, compare: Callable[[Any, Any], Any], value: AttributeValue) -> Mask:
        if not isinstance(value, str):
            return np.asarray(compare(column.numbers, value))
        # By code point, as ISO dates sort. The last place answers for -1, no text.
        texts = self._codes.texts[: int(column.texts.max(initial=-1)) + 1]
        holds = np.array([*(compare(text, value) for text in texts), False])
        return holds[column.texts]
