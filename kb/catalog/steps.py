"""Tool calls of runs: a row before the call and its end after it, so that none is ever made twice."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from kb.catalog.database import Database, now
from kb.catalog.schema import steps

Status = Literal["started", "done", "failed", "cancelled"]
"""started: at work, or of a process that was killed. cancelled: its run was stopped, and the tool told so. Of
both nobody knows whether the call was made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a tool. call_id: of its approval where it needed one, else of the item that shows it.

    label: of its server. arguments: JSON as the model wrote it. output: as the model reads it; None until it
    is there.
    """

    response_id: str
    call_id: str
    label: str
    name: str
    arguments: str
    status: Status
    output: str | None
    started_at: str
    finished_at: str | None


class Steps:
    """Rows of `steps`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self, response_id: str, call_id: str, label: str, name: str, arguments: str, *, synced: bool = True
    ) -> Step | None:
        """Write down that a call is about to be made. Returns None; or, where any response has begun it
        before, what is known of that: then it must not be made again.

        synced: False for a call that changes nothing, whose row may be lost with the machine's power.
        """
        row = {
            "response_id": response_id,
            "call_id": call_id,
            "label": label,
            "name": name,
            "arguments": arguments,
            "status": "started",
            "started_at": now(),
        }
        with suppress(IntegrityError), self._database.write(synced=synced) as connection:
            connection.execute(insert(steps).values(row))
            return None
        with self._database.read() as connection:
            return _step(connection.execute(select(steps).where(steps.c.call_id == call_id)).one())

    def finish(self, call_id: str, status: Status, output: str) -> None:
        """Write down what came of it."""
        # Where the power takes this away the call has begun, and is not made again.
        with self._database.write(synced=False) as connection:
            this = update(steps).where(steps.c.call_id == call_id)
            connection.execute(this.values(status=status, output=output, finished_at=now()))

    def of(self, response_id: str) -> list[Step]:
        """Those that one response has begun, in order."""
        query = select(steps).where(steps.c.response_id == response_id)
        with self._database.read() as connection:
            return [
                _step(row) for row in connection.execute(query.order_by(steps.c.started_at, steps.c.call_id))
            ]


def _step(row: Row[tuple[object, ...]]) -> Step:
    return Step(**row._mapping)
