"""Tool calls that wait for a person's yes, and are decided once, whoever is asked and however often."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, insert, select, update

from kb.catalog.database import Database, now
from kb.catalog.schema import approvals
from kb.errors import AlreadyExists, NotFound

Status = Literal["pending", "approved", "denied"]


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that a model wants to make. digest: what a yes is bound to: the server, the tool as it was
    described, and the arguments. reason: of whoever decided."""

    id: str
    response_id: str
    key_id: str | None
    call_id: str
    label: str
    name: str
    arguments: str
    digest: str
    status: Status
    reason: str | None
    created_at: str
    decided_at: str | None


class Approvals:
    """Rows of `approvals`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, waiting: Sequence[Approval]) -> None:
        """Keep calls until somebody decides."""
        rows = [{name: getattr(one, name) for name in Approval.__slots__} for one in waiting]
        with self._database.write() as connection:
            connection.execute(insert(approvals), rows)

    def get(self, approval_id: str, key_id: str | None) -> Approval:
        """One that a key may see. Raises NotFound: another key's is as one that is not there."""
        with self._database.read() as connection:
            row = connection.execute(select(approvals).where(approvals.c.id == approval_id)).one_or_none()
        if row is None or row.key_id not in (None, key_id):
            raise NotFound(f"no approval {approval_id!r} is asked for", param="approval_request_id")
        return Approval(**row._mapping)

    def decide(
        self, approval_id: str, key_id: str | None, *, approve: bool, reason: str | None
    ) -> tuple[Approval, int]:
        """Say yes or no, once: of two who decide at the same moment one is told that it was decided.

        Also returns how many of the same response wait still: exactly one decision is the last.
        Raises NotFound, or AlreadyExists.
        """
        asked = self.get(approval_id, key_id)
        decided = {"status": "approved" if approve else "denied", "reason": reason, "decided_at": now()}
        mine = (approvals.c.id == approval_id, approvals.c.status == "pending")
        with self._database.write() as connection:
            if not connection.execute(update(approvals).where(*mine).values(decided)).rowcount:
                message = f"approval {approval_id} was decided already, and is not decided again"
                raise AlreadyExists(message, param="approval_request_id")
            others = select(func.count()).where(
                approvals.c.response_id == asked.response_id, approvals.c.status == "pending"
            )
            waiting = int(connection.scalar(others) or 0)
        return self.get(asked.id, key_id), waiting

    def of(self, response_id: str) -> list[Approval]:
        """Those that a response asks for, in order."""
        query = select(approvals).where(approvals.c.response_id == response_id).order_by(approvals.c.id)
        with self._database.read() as connection:
            return [Approval(**row._mapping) for row in connection.execute(query)]
