"""Calls of language models: a row for each, written before it and settled once after it.

Whatever changes a row of `calls` changes that of its key and day in `spending`, in the same transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from kb.catalog.credits import Credits
from kb.catalog.database import Database
from kb.catalog.keys import Limits, limits_in
from kb.catalog.paging import Listed, Page, listed, paged
from kb.catalog.schema import calls, keys, spending
from kb.errors import NotAllowed, NotFound

Ending = Literal["completed", "incomplete", "cancelled", "failed"]
"""How a call ends for whoever made it."""

Status = Ending | Literal["open", "abandoned"]
"""open: at work, or of a process that was killed. abandoned: it was, and its time is over."""

PREFIX = "call_"

_NOTHING = Decimal()

# Built once: others wait while a statement is run.
_OPEN = insert(calls)
_CLOSE = update(calls).where(calls.c.id == bindparam("call_id"))
_ONE = select(calls).where(calls.c.id == bindparam("id"))
# Where several may write at once, those of one key wait there for each other.
_KEY = select(keys).where(keys.c.id == bindparam("id")).with_for_update()
_DAYS = select(spending).where(spending.c.key_id == bindparam("id"), spending.c.day >= bindparam("since"))
_SPEND = (
    update(spending)
    .where(spending.c.key_id == bindparam("more_key_id"), spending.c.day == bindparam("more_day"))
    .values(
        {
            name: spending.c[name] + bindparam(f"more_{name}", type_=Credits)
            for name in ("credits", "reserved")
        }
    )
)
_EXPIRED = (
    select(calls.c.id)
    .where(calls.c.status == "open", calls.c.expires_at <= bindparam("at"))
    .order_by(calls.c.id)
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that went to an endpoint. Tokens and credits while it is open: what it is taken to have been,
    should nobody settle it. reserved: credits that it might have cost at the most.

    tier: the one that answered, None while open. error: a short code. Times are UTC; expires_at: when it was
    made by a process that is no more, if it is open still.
    """

    id: str
    run_id: str | None
    key_id: str | None
    knowledge_base_ids: tuple[str, ...]
    endpoint: str
    model: str
    tier_asked: str
    tier: str | None
    status: Status
    error: str | None
    input: int
    cached: int
    output: int
    reasoning: int
    estimated: bool
    credits: Decimal
    reserved: Decimal
    started_at: str
    finished_at: str | None
    expires_at: str


@dataclass(frozen=True, slots=True)
class Account:
    """What a key may, and what it has spent in the period that is running. reserved: by calls at work."""

    limits: Limits
    since: str
    spent: Decimal
    reserved: Decimal

    @property
    def left(self) -> Decimal | None:
        """Credits that no call has spent or reserved, at least 0; None without a hard budget."""
        hard = self.limits.hard
        return None if hard is None else max(_NOTHING, hard - self.spent - self.reserved)


class Calls:
    """Rows of `calls` as they are written, and the accounts of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one = database.prepare(_ONE)
        self._expired = database.prepare(_EXPIRED)

    def open(self, call: Call, admit: Callable[[Account], None]) -> Account | None:
        """Write a call down that is about to be made, if `admit` does not raise for the account of its key.

        No other call comes between the two. Returns that account as it was before, None without a key.
        Raises NotAllowed for a key that was revoked.
        """
        # A call that is under way when the power fails has told nobody anything; its settlement is synced.
        with self._database.write(synced=False) as connection:
            _abandon(connection, call.started_at)
            account = None
            if call.key_id is not None:
                account = _account(connection, call.key_id, call.started_at)
                admit(account)
                _spend(connection, call.key_id, call.started_at, reserved=call.reserved)
            connection.execute(_OPEN, _values(call))
        return account

    def settle(self, call: Call) -> Call:
        """Write down how a call went, if it is open or was abandoned. Returns it as it then is."""
        with self._database.write() as connection:
            known = _read(connection, call.id)
            if known.status not in ("open", "abandoned"):
                return known
            _close(connection, known, call)
        return call

    def abandon(self, at: str) -> None:
        """Settle what is open although its time is over: it is taken to have been as it was expected."""
        # A read, mostly: to write would wait for others.
        if self._expired(at=at):
            with self._database.write() as connection:
                _abandon(connection, at)

    def get(self, call_id: str) -> Call:
        """Raises NotFound."""
        rows = self._one(id=call_id)
        if not rows:
            raise _missing(call_id)
        return _call(rows[0])

    def account(self, key_id: str, at: str) -> Account:
        """The account of a key. Raises NotAllowed for one that was revoked."""
        with self._database.read() as connection:
            return _account(connection, key_id, at)

    def page(self, page: Page, since: str = "", until: str | None = None) -> Listed:
        """Calls that began in a time, since <= start < until, in order of their ids, and so of time."""
        query = select(calls).where(calls.c.started_at >= since)
        if until is not None:
            query = query.where(calls.c.started_at < until)
        with self._database.read() as connection:
            rows = connection.execute(paged(query, calls.c.id, page, PREFIX)).all()
        return listed([_call(row) for row in rows], page)


def _abandon(connection: Connection, at: str) -> None:
    for call_id in connection.scalars(_EXPIRED, {"at": at}).all():
        known = _read(connection, call_id)
        changed = {
            "status": "abandoned",
            "tier": known.tier_asked,
            "estimated": True,
            "finished_at": known.expires_at,
        }
        connection.execute(update(calls).where(calls.c.id == call_id).values(changed))
        if known.key_id is not None:
            _spend(
                connection, known.key_id, known.started_at, credits=known.credits, reserved=-known.reserved
            )


def _close(connection: Connection, known: Call, call: Call) -> None:
    connection.execute(_CLOSE, {**_values(call), "call_id": call.id})
    if known.key_id is not None:
        was_open = known.status == "open"
        credits = call.credits - (_NOTHING if was_open else known.credits)
        reserved = -known.reserved if was_open else _NOTHING
        _spend(connection, known.key_id, known.started_at, credits=credits, reserved=reserved)


def _account(connection: Connection, key_id: str, at: str) -> Account:
    row = connection.execute(_KEY, {"id": key_id}).one_or_none()
    if row is None:
        raise NotAllowed("this key was revoked")
    limits = limits_in(row)
    since = limits.since(at[:10])
    days = connection.execute(_DAYS, {"id": key_id, "since": since}).all()
    spent = sum((day.credits for day in days), _NOTHING)
    return Account(limits, since, spent, sum((day.reserved for day in days), _NOTHING))


def _spend(
    connection: Connection,
    key_id: str,
    began_at: str,
    *,
    credits: Decimal = _NOTHING,
    reserved: Decimal = _NOTHING,
) -> None:
    """Add to what a key has spent and reserved on the day on which a call began."""
    more = {"key_id": key_id, "day": began_at[:10], "credits": credits, "reserved": reserved}
    if not connection.execute(_SPEND, {f"more_{name}": value for name, value in more.items()}).rowcount:
        connection.execute(insert(spending), more)


def _read(connection: Connection, call_id: str) -> Call:
    row = connection.execute(_ONE.with_for_update(), {"id": call_id}).one_or_none()
    if row is None:
        raise _missing(call_id)
    return _call(row)


def _values(call: Call) -> dict[str, Any]:
    values = {name: getattr(call, name) for name in Call.__slots__}
    return {**values, "knowledge_base_ids": ",".join(call.knowledge_base_ids)}


def _call(row: Row[Any] | Any) -> Call:
    values = row._asdict()
    ids = values.pop("knowledge_base_ids")
    return Call(**values, knowledge_base_ids=tuple(ids.split(",")) if ids else ())


def _missing(call_id: str) -> NotFound:
    return NotFound(f"no call {call_id!r}", param="call")
