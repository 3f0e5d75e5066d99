"""Responses that are kept: to be read again, gone on from, and followed by any process while they are made.

Whoever makes one tells now and then that it is alive (`touch`). One that no longer is belongs to a process
that was killed, and fails (`expire`); whoever reads responses calls that first.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, literal, select, update

from kb.catalog.approvals import claim
from kb.catalog.database import Database
from kb.catalog.schema import response_events, responses
from kb.errors import InvalidInput, NotFound

LONGEST_CHAIN = 1000
"""Responses that go on from each other."""

Event = Mapping[str, Any]
"""As it was streamed; `sequence_number` ascends."""

Place = tuple[str, int, int]
"""text[start:end] of a version, that was packed."""

_RUNNING = ("queued", "in_progress")
_DESCRIBED = select(*(column for column in responses.c if column is not responses.c.events))
_EXPIRED = "the process that made this response ended before it was done; ask again"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response. body: as it is answered. input: the items given to it, without those it goes on from.

    key_id: whose it is; None for one that was made without a key, which everybody may see. expires_at: until
    when one that is running is believed to be alive; None for always.
    """

    id: str
    key_id: str | None
    previous_id: str | None
    created_at: str
    body: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]]
    places: Sequence[Place] = ()
    cancel_requested: bool = False
    expires_at: str | None = None

    @property
    def running(self) -> bool:
        """Whether more is to come."""
        return self.body["status"] in _RUNNING


class Responses:
    """Rows of `responses`. Times are those of `kb.catalog.database.written`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, response: StoredResponse, after: Sequence[str] = ()) -> None:
        """Keep one that is to be made, or is made already.

        after: approvals that it goes on from, claimed together with its row. Raises AlreadyExists where
        another response goes on from one of them: then nothing is kept.
        """
        values = {name: getattr(response, name) for name in StoredResponse.__slots__}
        with self._database.write() as connection:
            if after:
                claim(connection, after, response.id)
            connection.execute(insert(responses).values(**values, status=response.body["status"]))

    def touch(self, response_id: str, until: str) -> bool:
        """Tell that one is being made, and will be believed to until a time. Returns whether to stop: it is
        to be cancelled, or was deleted or has ended meanwhile."""
        alive = {"status": "in_progress", "expires_at": until}
        query = (
            update(responses)
            .where(*_running(response_id))
            .values(alive)
            .returning(responses.c.cancel_requested)
        )
        with self._database.write() as connection:
            return connection.scalar(query) is not False

    def append_events(self, response_id: str, events: Sequence[Event]) -> None:
        """Keep what one that is running has streamed since, so that others can follow it."""
        if not events:
            return
        row = {
            "response_id": response_id,
            "first_seq": events[0]["sequence_number"],
            "last_seq": events[-1]["sequence_number"],
            "data": _packed(events),
        }
        with self._database.write() as connection:
            # The end of one that was deleted, or has failed, interests nobody.
            if connection.scalar(select(responses.c.id).where(*_running(response_id))):
                connection.execute(insert(response_events).values(row))

    def finish(
        self,
        response_id: str,
        body: Mapping[str, Any],
        events: Iterable[Event],
        places: Sequence[Place] = (),
    ) -> bool:
        """Keep how one ended, with all that was streamed. Returns whether it was running still; one that
        has ended stays as it is."""
        packed = _packed(events)
        with self._database.write() as connection:
            return _end(connection, response_id, body, packed, places=[list(place) for place in places])

    def request_cancel(self, response_id: str) -> None:
        """Ask whoever makes it to stop, at its next `touch`. One that has ended stays as it is."""
        with self._database.write() as connection:
            running = update(responses).where(*_running(response_id))
            connection.execute(running.values(cancel_requested=True))

    def expire(self, at: str) -> list[str]:
        """Those that are running and believed to be alive no more fail, and end with an event that says so.

        Returns their ids.
        """
        expired = _DESCRIBED.where(responses.c.status.in_(_RUNNING), responses.c.expires_at <= at)
        with self._database.read() as connection:
            # To write would wait for others, and mostly there is nothing to write.
            if connection.execute(expired.limit(1)).first() is None:
                return []
        with self._database.write() as connection:
            rows = connection.execute(expired.order_by(responses.c.id)).all()
            for row in rows:
                events = _streamed(connection, row.id)
                error = {"code": "server_error", "message": _EXPIRED}
                done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
                body = {**row.body, "status": "failed", "error": error, "output": done}
                number = events[-1]["sequence_number"] + 1 if events else 0
                last = {"type": "response.failed", "sequence_number": number, "response": body}
                _end(connection, row.id, body, _packed([*events, last]))
        return [row.id for row in rows]

    def get(self, response_id: str, key_id: str | None) -> StoredResponse:
        """One that a key may see. Raises NotFound: another key's is as one that is not there."""
        with self._database.read() as connection:
            row = connection.execute(_DESCRIBED.where(responses.c.id == response_id)).one_or_none()
        if row is None or not _visible(row.key_id, key_id):
            raise _missing(response_id)
        return _response(row)

    def delete(self, response_id: str, key_id: str | None) -> None:
        """Forget one that a key may see. Raises NotFound."""
        with self._database.write() as connection:
            query = select(responses.c.id, responses.c.key_id).where(responses.c.id == response_id)
            owned = connection.execute(query).one_or_none()
            if owned is None or not _visible(owned.key_id, key_id):
                raise _missing(response_id)
            connection.execute(delete(responses).where(responses.c.id == response_id))

    def forget(self, before: str) -> int:
        """Delete those made before a time that are not running; returns how many there were."""
        old = (responses.c.created_at < before, responses.c.status.not_in(_RUNNING))
        with self._database.read() as connection:
            if connection.scalar(select(responses.c.id).where(*old).limit(1)) is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(delete(responses).where(*old)).rowcount

    def chain(self, response_id: str, key_id: str | None) -> list[StoredResponse]:
        """One and all that it goes on from, oldest first.

        Raises NotFound for the first that is not there or that the key may not see, InvalidInput where there
        are more than LONGEST_CHAIN.
        """
        newer = (
            select(responses.c.id, responses.c.previous_id, literal(0).label("depth"))
            .where(responses.c.id == response_id)
            .cte("newer", recursive=True)
        )
        older = (
            select(responses.c.id, responses.c.previous_id, newer.c.depth + 1)
            .join(newer, responses.c.id == newer.c.previous_id)
            .where(newer.c.depth < LONGEST_CHAIN)
        )
        chain = newer.union_all(older)
        query = _DESCRIBED.join(chain, responses.c.id == chain.c.id).order_by(chain.c.depth)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        wanted: str | None = response_id
        for row in rows:
            if not _visible(row.key_id, key_id):
                break
            wanted = row.previous_id
        if len(rows) > LONGEST_CHAIN:
            raise InvalidInput(
                f"more than {LONGEST_CHAIN} responses go on from each other; begin anew with what matters",
                param="previous_response_id",
            )
        if wanted is not None:
            raise _missing(wanted, "previous_response_id")
        return [_response(row) for row in reversed(rows)]

    def events(self, response_id: str, after: int = -1) -> list[dict[str, Any]]:
        """What was streamed behind a sequence number, so far. Raises NotFound.

        Once a response has ended all of it is there: whoever follows one first looks whether it is running.
        """
        with self._database.read() as connection:
            query = select(responses.c.events).where(responses.c.id == response_id)
            row = connection.execute(query).one_or_none()
            if row is None:
                raise _missing(response_id)
            events = _unpacked(row.events) if row.events else _streamed(connection, response_id, after)
        return [event for event in events if event["sequence_number"] > after]


def _running(response_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return responses.c.id == response_id, responses.c.status.in_(_RUNNING)


def _end(
    connection: Connection, response_id: str, body: Mapping[str, Any], events: bytes, **more: object
) -> bool:
    """Whether it was running until now; then its events, which came piece by piece, are one."""
    values = {"status": body["status"], "body": body, "events": events, **more}
    if not connection.execute(update(responses).where(*_running(response_id)).values(values)).rowcount:
        return False
    connection.execute(delete(response_events).where(response_events.c.response_id == response_id))
    return True


def _streamed(connection: Connection, response_id: str, after: int = -1) -> list[dict[str, Any]]:
    """What one that is running has streamed, from the piece on that goes beyond a sequence number."""
    query = (
        select(response_events.c.data)
        .where(response_events.c.response_id == response_id, response_events.c.last_seq > after)
        .order_by(response_events.c.first_seq)
    )
    return [event for data in connection.scalars(query) for event in _unpacked(data)]


def _packed(events: Iterable[Event]) -> bytes:
    """JSON lines, compressed."""
    return zlib.compress("\n".join(map(json.dumps, events)).encode())


def _unpacked(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in zlib.decompress(data).splitlines()]


def _visible(owner: str | None, key_id: str | None) -> bool:
    return owner is None or owner == key_id


def _response(row: Row[Any]) -> StoredResponse:
    return StoredResponse(
        row.id,
        row.key_id,
        row.previous_id,
        row.created_at,
        # `touch` and the like know nothing of the body.
        {**row.body, "status": row.status},
        row.input,
        tuple((name, start, end) for name, start, end in row.places),
        row.cancel_requested,
        row.expires_at,
    )


def _missing(response_id: str, param: str = "response_id") -> NotFound:
    return NotFound(f"no response {response_id!r}", param=param)
