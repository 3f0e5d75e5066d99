"""Tool calls that wait for a person's yes: decided once, and gone on from once, however many click.

    pending -> approved | denied -> continued by a response

A word is an update that only one can win; the other word is refused from then on. The response that goes on
claims the approvals in the transaction that creates its row (`Responses.create`), so no process can die in
between and leave a word that is used up. Until something goes on, and again once that has failed (its process
was killed, its client left, its model could not be reached), the same word is taken once more, and another
response may claim it. None of them makes the call twice: it is one step, under the id of the approval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, insert, or_, select, update

from kb.catalog.database import Database, now
from kb.catalog.schema import approvals, responses
from kb.errors import AlreadyExists, NotFound

Status = Literal["pending", "approved", "denied"]

# One whose process was killed has failed as soon as `Responses.expire` was called.
_FREE = or_(
    approvals.c.continued_by.is_(None),
    approvals.c.continued_by.in_(select(responses.c.id).where(responses.c.status == "failed")),
)


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that a model wants to make. digest: what a yes is bound to: the server, the tool as it was
    described, and the arguments. reason: of whoever decided. continued_by: the response that goes on."""

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
    continued_by: str | None = None


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
        """Say yes or no. The same word again, while nothing goes on after it, changes nothing.

        Also returns how many of the same response wait still; with the last word there are none.
        Raises NotFound, or AlreadyExists: the other word was said, or a response goes on.
        """
        asked = self.get(approval_id, key_id)
        word = "approved" if approve else "denied"
        decided = {"status": word, "reason": reason, "decided_at": now()}
        this = approvals.c.id == approval_id
        first = update(approvals).where(this, approvals.c.status == "pending").values(decided)
        again = select(approvals.c.id).where(this, approvals.c.status == word, _FREE)
        others = select(func.count()).where(
            approvals.c.response_id == asked.response_id, approvals.c.status == "pending"
        )
        with self._database.write() as connection:
            if not connection.execute(first).rowcount and connection.scalar(again) is None:
                raise _taken(connection, approval_id)
            waiting = int(connection.scalar(others) or 0)
        return self.get(asked.id, key_id), waiting

    def of(self, response_id: str) -> list[Approval]:
        """Those that a response asks for, in order."""
        query = select(approvals).where(approvals.c.response_id == response_id).order_by(approvals.c.id)
        with self._database.read() as connection:
            return [Approval(**row._mapping) for row in connection.execute(query)]

    def decided(self, response_id: str) -> list[Approval]:
        """Those of them that were decided, and after which nothing goes on."""
        query = select(approvals).where(
            approvals.c.response_id == response_id, approvals.c.status != "pending", _FREE
        )
        with self._database.read() as connection:
            return [Approval(**row._mapping) for row in connection.execute(query.order_by(approvals.c.id))]


def claim(connection: Connection, approval_ids: Sequence[str], response_id: str) -> None:
    """Take decided approvals for a response that is created in this transaction.

    Raises AlreadyExists where another one goes on from any of them: then none is taken.
    """
    mine = (approvals.c.id.in_(approval_ids), approvals.c.status != "pending", _FREE)
    claimed = update(approvals).where(*mine).values(continued_by=response_id).returning(approvals.c.id)
    taken = set(connection.scalars(claimed))
    for approval_id in approval_ids:
        if approval_id not in taken:
            raise _taken(connection, approval_id)


def _taken(connection: Connection, approval_id: str) -> AlreadyExists:
    one = connection.execute(select(approvals).where(approvals.c.id == approval_id)).one()
    after = f", and {one.continued_by} went on from there" if one.continued_by else ""
    return AlreadyExists(
        f"approval {approval_id} was decided already: it is {one.status}{after}", param="approval_request_id"
    )
