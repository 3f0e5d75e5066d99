"""The numbered change feed: what an index that stands at one number needs to reach the newest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, bindparam, func, select

from kb.catalog.database import Database
from kb.catalog.schema import changes, chunks, contents, knowledge_bases, vectors, versions
from kb.catalog.store import stored_rows
from kb.errors import ModelChanged
from kb.types import Attributes, Ids, IndexedText, StoredVectors

# Chunks read at once while an index follows: 12 MB of vectors, a few thousand texts.
_STEP = 8192

_HEAD = select(func.max(changes.c.seq).label("seq")).where(changes.c.kb_id == bindparam("kb_id"))
_NEWEST = select(func.max(changes.c.seq)).where(changes.c.kb_id == knowledge_bases.c.id)
_HEADS = select(
    knowledge_bases.c.id,
    knowledge_bases.c.name,
    _NEWEST.correlate(knowledge_bases).scalar_subquery().label("seq"),
).order_by(knowledge_bases.c.id)


@dataclass(frozen=True, slots=True)
class Step:
    """Changes up to and including `seq`: chunks to add, vectors and passages by row, and ids to remove."""

    seq: int
    add: Ids
    vectors: StoredVectors
    passages: list[IndexedText]
    remove: Ids

    @property
    def texts(self) -> list[str]:
        """What was embedded, by row."""
        return [passage.context + passage.text for passage in self.passages]


@dataclass(frozen=True, slots=True)
class DocumentStep:
    """Documents that are new or whose attributes changed, up to and including `seq`, and those gone.

    A document is known by the first of its chunks, whose numbers follow each other. attributes: by row.
    """

    seq: int
    first: Ids
    count: Ids
    attributes: list[Attributes]
    gone: Ids


class Feed:
    """Reads the feed; it is written by `Store` inside each commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._head = database.remember(_HEAD)
        self._heads = database.remember(_HEADS)

    def head(self, kb_id: str) -> int:
        """The newest change number of a knowledge base; 0 where nothing happened yet."""
        return int(self._head(kb_id=kb_id)[0].seq or 0)

    def heads(self) -> list[tuple[str, str, int]]:
        """Of each knowledge base id, name and newest change number; read anew when somebody committed."""
        return [(row.id, row.name, int(row.seq or 0)) for row in self._heads()]

    def after(
        self, kb_id: str, seq: int, fingerprint: str, dim: int, *, until: int | None = None
    ) -> Iterator[Step]:
        """The changes behind `seq`, in order, a bounded number of chunks at a time.

        A chunk that was added and removed again within one step is only removed. Only under the live model
        has every chunk its vector: for another one this raises ModelChanged, unless `until` names a change
        number at which none lacked one; the changes behind it are left out.
        """
        live = select(knowledge_bases.c.fingerprint).where(knowledge_bases.c.id == kb_id)
        behind = select(changes).where(changes.c.kb_id == kb_id).order_by(changes.c.seq).limit(_STEP)
        if until is not None:
            behind = behind.where(changes.c.seq <= until)
        while True:
            with self._database.read() as connection:
                found = connection.execute(behind.where(changes.c.seq > seq)).all()
                if found and until is None and connection.scalar(live) != fingerprint:
                    raise ModelChanged("the knowledge base was switched to another model meanwhile")
                taken, size = 0, 0
                while taken < len(found) and (not taken or size < _STEP):
                    size += found[taken].last_chunk - found[taken].first_chunk + 1
                    taken += 1
                if not taken:
                    return
                seq = found[taken - 1].seq
                added = [row for row in found[:taken] if row.added]
                gone = [
                    np.arange(row.first_chunk, row.last_chunk + 1) for row in found[:taken] if not row.added
                ]
                # What was added earlier and comes again for its attributes is nothing new.
                rows = (
                    connection.execute(
                        select(
                            *(chunks.c[name] for name in ("id", "context", "text")),
                            versions.c.language,
                            vectors.c.vector,
                        )
                        .select_from(changes)
                        .join(chunks, chunks.c.id.between(changes.c.first_chunk, changes.c.last_chunk))
                        .join(vectors, (vectors.c.text_hash == chunks.c.text_hash))
                        .join(versions, versions.c.id == chunks.c.version_id)
                        .where(
                            vectors.c.fingerprint == fingerprint,
                            chunks.c.kb_id == kb_id,
                            *_among_changes(kb_id, found[0].seq, seq),
                        )
                        .order_by(chunks.c.id)
                    ).all()
                    if added
                    else []
                )
            # A chunk comes twice where it is new and its attributes changed since.
            rows = [row for at, row in enumerate(rows) if not at or row.id != rows[at - 1].id]
            yield Step(
                seq=seq,
                add=np.array([row.id for row in rows], np.int64),
                vectors=stored_rows([row.vector for row in rows], dim),
                passages=[IndexedText(row.text, row.context, row.language or "") for row in rows],
                remove=np.concatenate([np.empty(0, np.int64), *gone]),
            )

    def documents_after(self, kb_id: str, seq: int) -> DocumentStep:
        """What became of the documents behind `seq`, in one step."""
        first, last = func.min(chunks.c.id).label("first"), func.max(chunks.c.id).label("last")
        spans = select(chunks.c.content_id, first, last).group_by(chunks.c.content_id)
        with self._database.read() as connection:
            head = connection.scalar(_HEAD, {"kb_id": kb_id}) or 0
            gone: list[int] = []
            if seq:
                spans = (
                    spans.select_from(changes)
                    .join(chunks, chunks.c.id.between(changes.c.first_chunk, changes.c.last_chunk))
                    .where(*_among_changes(kb_id, seq + 1, head))
                )
                removed = select(changes.c.first_chunk).where(
                    changes.c.kb_id == kb_id, changes.c.seq > seq, changes.c.added.is_(False)
                )
                gone = list(connection.scalars(removed))
            grouped = spans.where(chunks.c.kb_id == kb_id).subquery()
            found = connection.execute(
                select(grouped.c.first, grouped.c.last, contents.c.attributes).join(
                    contents, contents.c.id == grouped.c.content_id
                )
            ).all()
        return DocumentStep(
            seq=head,
            first=np.array([row.first for row in found], np.int64),
            count=np.array([row.last - row.first + 1 for row in found], np.int64),
            attributes=[row.attributes for row in found],
            gone=np.array(gone, np.int64),
        )


def _among_changes(kb_id: str, first: int, last: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `changes`: additions numbered first to last."""
    return (changes.c.kb_id == kb_id, changes.c.seq.between(first, last), changes.c.added.is_(True))
