"""Receipts of deletions: proof that something was deleted, without telling what it said."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select

from kb.catalog.database import Database, new_id, now
from kb.catalog.schema import chunks, contents, counters, receipts, versions
from kb.types import Receipt


class Receipts:
    """Rows of `receipts`; they outlive the knowledge base that they speak of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, kb_id: str | None = None) -> list[Receipt]:
        """Every receipt, oldest first; of one knowledge base where its id is given."""
        query = select(receipts).order_by(receipts.c.id)
        if kb_id is not None:
            query = query.where(receipts.c.kb_id == kb_id)
        with self._database.read() as connection:
            return [
                Receipt(row.id, row.kb_id, row.content_id, row.deleted_at, row.seq, row.chunks, row.sha256)
                for row in connection.execute(query)
            ]


def issue(connection: Connection, kb_id: str, content_ids: Sequence[str] | None = None) -> None:
    """Write receipts for documents about to be deleted, in the same transaction; None means all.

    A receipt's `seq` is the newest change number before the deletion.
    """
    counted = select(func.count()).select_from(chunks).where(chunks.c.content_id == contents.c.id)
    query = (
        select(
            contents.c.id, versions.c.sha256, counted.correlate(contents).scalar_subquery().label("chunks")
        )
        .join(versions, versions.c.id == contents.c.version_id)
        .where(contents.c.kb_id == kb_id)
        .order_by(contents.c.id)
    )
    if content_ids is not None:
        query = query.where(contents.c.id.in_(content_ids))
    seq = connection.scalar(select(counters.c.value).where(counters.c.name == "change"))
    rows = [
        {
            "id": new_id("rcp"),
            "kb_id": kb_id,
            "content_id": row.id,
            "deleted_at": now(),
            "seq": seq,
            "chunks": row.chunks,
            "sha256": row.sha256,
        }
        for row in connection.execute(query)
    ]
    if rows:
        connection.execute(insert(receipts), rows)
