"""Tool calls of runs: a row before the call and its end after it, so that none is ever made twice."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from kb.catalog.database import Database, now
from kb.catalog.schema import steps

Status = Literal["started", "done", "failed"]
"""started: at work, or of a process that was killed: then nobody knows whether it was made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a tool. label: of its server. arguments: JSON as the model wrote it. output: as the model
    reads it; None until it is there."""

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

    def begin(self, response_id: str, call_id: str, label: str, name: str, arguments: str) -> bool:
        """Write down that a call is about to be made; False where it was already, and must not be again."""
        row = {
            "response_id": response_id,
            "call_id": call_id,
            "label": label,
            "name": name,
            "arguments": arguments,
            "status": "started",
            "started_at": now(),
        }
        with suppress(IntegrityError), self._database.write() as connection:
            connection.execute(insert(steps).values(row))
            return True
        return False

    def finish(self, response_id: str, call_id: str, status: Status, output: str) -> None:
        """Write down what came of it."""
        mine = (steps.c.response_id == response_id, steps.c.call_id == call_id)
        with self._database.write() as connection:
            connection.execute(
                update(steps).where(*mine).values(status=status, output=output, finished_at=now())
            )

    def of(self, response_id: str) -> list[Step]:
        """Those of one response, in the order in which they began."""
        query = select(steps).where(steps.c.response_id == response_id).order_by(steps.c.started_at)
        with self._database.read() as connection:
            return [Step(**row._mapping) for row in connection.execute(query)]
