"""What calls of language models came to, added up: exactly, in the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Integer, Select, case, func, literal, select, type_coerce

from kb.catalog.credits import NANO, Credits, from_nano
from kb.catalog.database import Database
from kb.catalog.schema import calls, keys, knowledge_bases

GroupBy = Literal["day", "key", "model", "tier", "knowledge_base"]

# By the tier that answered, or is to; by all the knowledge bases of a call together, so that groups add up to
# all calls.
_GROUPS: dict[GroupBy | None, ColumnElement[str]] = {
    None: literal(""),
    "day": func.substr(calls.c.started_at, 1, 10),
    "key": func.coalesce(calls.c.key_id, ""),
    "model": calls.c.model,
    "tier": func.coalesce(calls.c.tier, calls.c.tier_asked),
    "knowledge_base": calls.c.knowledge_base_ids,
}
_NAMED = {"key": keys, "knowledge_base": knowledge_bases}


@dataclass(frozen=True, slots=True)
class Total:
    """Calls that began in a time, of one group, added up. Tokens and credits are of those that have ended.

    group: a day, an id (several with commas between them) or a tier; "" for calls without one, and for all
    calls together. name: of what the id stands for, where that is still there. failed: calls that failed or
    were abandoned. estimated: those whose tokens the endpoint did not tell. open, reserved: calls at work,
    and the credits that they may cost at the most.
    """

    group: str
    name: str
    calls: int
    failed: int
    input: int
    cached: int
    output: int
    reasoning: int
    estimated: int
    credits: Decimal
    open: int
    reserved: Decimal


def spending_of_calls() -> Select[Any]:
    """What the rows of `spending` are to be."""
    is_open, day = calls.c.status == "open", func.substr(calls.c.started_at, 1, 10).label("day")
    nothing = literal(Decimal(), Credits)
    return (
        select(
            calls.c.key_id,
            day,
            func.sum(case((is_open, nothing), else_=calls.c.credits)).label("credits"),
            func.sum(case((is_open, calls.c.reserved), else_=nothing)).label("reserved"),
        )
        .where(calls.c.key_id.is_not(None))
        .group_by("key_id", "day")
    )


class CallUsage:
    """Rows of `calls` as they are added up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, group_by: GroupBy | None, since: str = "", until: str | None = None) -> list[Total]:
        """Groups in their order, or all calls as one; of those that began at since <= time < until."""
        is_open = calls.c.status == "open"
        group = _GROUPS[group_by].label("group")
        query = select(
            group,
            _count(~is_open).label("calls"),
            _count(calls.c.status.in_(("failed", "abandoned"))).label("failed"),
            *(
                _sum(calls.c[name], ~is_open).label(name)
                for name in ("input", "cached", "output", "reasoning")
            ),
            _count(~is_open & calls.c.estimated).label("estimated"),
            *_credits(calls.c.credits, ~is_open, "credits"),
            _count(is_open).label("open"),
            *_credits(calls.c.reserved, is_open, "reserved"),
        ).where(calls.c.started_at >= since)
        if until is not None:
            query = query.where(calls.c.started_at < until)
        if group_by is not None:
            query = query.group_by("group").order_by("group")
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
            table = _NAMED.get(group_by or "")
            names = {} if table is None else dict(connection.execute(select(table.c.id, table.c.name)).all())
        return [_total(row, names) for row in rows]


def _count(which: ColumnElement[bool]) -> ColumnElement[int]:
    return _sum(literal(1, Integer), which)


def _sum(column: ColumnElement[int], which: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((which, column), else_=0)), 0)


def _credits(
    column: ColumnElement[Any], which: ColumnElement[bool], name: str
) -> Iterable[ColumnElement[int]]:
    """Two sums, of whole credits and of the nano-credits beside them: one alone could pass 64 bits."""
    nano = type_coerce(column, BigInteger)
    yield _sum(nano // NANO, which).label(f"{name}_whole")
    yield _sum(nano % NANO, which).label(f"{name}_nano")


def _total(row: Any, names: dict[str, str]) -> Total:
    values: dict[str, Any] = {name: value if name == "group" else int(value) for name, value in row.items()}
    for name in ("credits", "reserved"):
        values[name] = from_nano(values.pop(f"{name}_whole") * NANO + values.pop(f"{name}_nano"))
    name = ", ".join(names[one] for one in values["group"].split(",") if one in names)
    return Total(**values, name=name)
