"""The catalog against itself, in one snapshot."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, func, inspect, select
from sqlalchemy.exc import DBAPIError

from kb.catalog.attributes import attribute_rows
from kb.catalog.schema import (
    FILES,
    attachments,
    attributes,
    changes,
    chunks,
    contents,
    counters,
    files,
    knowledge_bases,
    metadata,
    receipts,
    sources,
    spending,
    vectors,
    versions,
)
from kb.catalog.store import checksum, text_hash, unused
from kb.catalog.usage import spending_of_calls
from kb.types import KnowledgeBase


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. Not repairable: restore a backup, or delete the document and ingest it again."""

    kind: str
    knowledge_base: str | None
    what: str
    repairable: bool = False


def catalog_findings(connection: Connection, kbs: Sequence[KnowledgeBase]) -> Iterator[Finding]:
    """What contradicts itself. After a finding of kind "database" nothing else is looked at."""
    try:
        yield from _every_finding(connection, kbs)
    except (DBAPIError, TypeError, ValueError) as error:
        # A value that cannot be read: text that is no UTF-8, JSON that is none, a number in a text's place.
        yield Finding("database", None, f"a row cannot be read: {str(error).splitlines()[0]}")


def _every_finding(connection: Connection, kbs: Sequence[KnowledgeBase]) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        said = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        if said != ["ok"]:
            yield Finding("database", None, "; ".join(said[:5]))
            return
        there = inspect(connection)
        for name, wanted in metadata.tables.items():
            columns = (
                {column["name"] for column in there.get_columns(name)} if there.has_table(name) else set()
            )
            if lacking := {*wanted.columns.keys()} - columns:
                yield Finding("database", None, f"{name} lacks {', '.join(sorted(lacking))}")
                return
        for table, row, *_ in connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            yield Finding("foreign_key", None, f"row {row} of {table} has no owner")
    top = {row.name: row.value for row in connection.execute(select(counters))}
    if top.get("chunk", 0) < (connection.scalar(select(func.max(chunks.c.id))) or 0):
        yield Finding("counter", None, "the chunk counter is behind the numbers in use")
    if top.get("change", 0) < (connection.scalar(select(func.max(changes.c.seq))) or 0):
        yield Finding("counter", None, "the change counter is behind the numbers in use")
    orphans = connection.scalar(select(func.count()).select_from(vectors).where(unused()))
    if orphans:
        yield Finding("orphan_vectors", None, f"{orphans} vectors that nothing uses", True)
    yield from _spending(connection)
    yield from _receipts(connection)
    yield from _files(connection)
    for kb in kbs:
        yield from _chunks(connection, kb)
        yield from _attributes(connection, kb)
        if not np.array_equal(*_replayed(connection, kb, top.get("chunk", 0))):
            yield Finding("feed", kb.name, "the change feed does not lead to the chunks that are there")


def _spending(connection: Connection) -> Iterator[Finding]:
    told, true = (set(connection.execute(query)) for query in (select(spending), spending_of_calls()))
    if differing := len({row[:2] for row in told ^ true}):
        what = f"{differing} days on which a key spent something else than its calls came to"
        yield Finding("spending", None, what, True)


def _receipts(connection: Connection) -> Iterator[Finding]:
    """Every deletion is proved: no row is left of the document, and the feed took its chunks away.

    That no vector is left which only it used, and no index entry, is what the other findings are about.
    """
    rows_of = ((contents, "id"), (versions, "content_id"), (chunks, "content_id"), (attributes, "content_id"))
    for table, column in rows_of:
        left = (
            select(func.count()).select_from(table).where(table.c[column].in_(select(receipts.c.content_id)))
        )
        if count := connection.scalar(left):
            yield Finding("receipt", None, f"{count} rows of {table.name} outlived their deletion")
    removal = (
        select(1)
        .where(changes.c.kb_id == receipts.c.kb_id, changes.c.seq > receipts.c.seq, ~changes.c.added)
        .where(changes.c.last_chunk - changes.c.first_chunk + 1 == receipts.c.chunks)
    )
    # The feed goes with its knowledge base; a document without chunks was never in it.
    unproved = connection.scalar(
        select(func.count())
        .select_from(receipts)
        .where(receipts.c.chunks > 0, receipts.c.kb_id.in_(select(knowledge_bases.c.id)), ~removal.exists())
    )
    if unproved:
        yield Finding("receipt", None, f"{unproved} deletions never reached the change feed")


def _files(connection: Connection) -> Iterator[Finding]:
    """What is made of a file is attached, and each file has the bytes that were sent.

    An attachment without its file, knowledge base or job is found as every row without its owner is.
    """
    rows = connection.execution_options(yield_per=1).execute(
        select(files.c.id, files.c.sha256, files.c.data).order_by(files.c.id)
    )
    for row in rows:
        if hashlib.sha256(row.data).hexdigest() != row.sha256:
            yield Finding("file", None, f"{row.id}: its bytes are not those that were sent")
    attached = select(1).where(attachments.c.kb_id == contents.c.kb_id, attachments.c.uri == contents.c.uri)
    stray = (
        select(func.count())
        .select_from(contents.join(sources, sources.c.id == contents.c.source_id))
        .where(sources.c.uri == FILES, ~attached.correlate(contents).exists())
    )
    if count := connection.scalar(stray):
        yield Finding("attachment", None, f"{count} documents are made of files that are not attached")


def _chunks(connection: Connection, kb: KnowledgeBase) -> Iterator[Finding]:
    query = (
        select(
            chunks.c.id,
            chunks.c.text,
            chunks.c.start,
            chunks.c.end,
            chunks.c.context,
            chunks.c.text_hash,
            chunks.c.version_id,
            contents.c.version_id.label("visible"),
            contents.c.kb_id.label("home"),
            vectors.c.vector,
            vectors.c.checksum,
        )
        .outerjoin(contents, contents.c.id == chunks.c.content_id)
        .outerjoin(
            vectors,
            and_(vectors.c.text_hash == chunks.c.text_hash, vectors.c.fingerprint == kb.fingerprint),
        )
        .where(chunks.c.kb_id == kb.id)
        .order_by(chunks.c.version_id, chunks.c.id)
    )
    version_id, text = None, ""
    for row in connection.execute(query):
        if row.version_id != version_id:
            version_id = row.version_id
            text = connection.scalar(select(versions.c.text).where(versions.c.id == version_id)) or ""
        for kind, what in _wrong(row, text, kb):
            yield Finding(kind, kb.name, f"chunk {row.id}: {what}")


def _wrong(row: Any, text: str, kb: KnowledgeBase) -> Iterator[tuple[str, str]]:
    if text[row.start : row.end] != row.text:
        yield "span", "its text is not what stands at its span"
    if (row.visible, row.home) != (row.version_id, kb.id):
        yield "visible", "it is not of the visible version of its document"
    if text_hash(row.context + row.text) != row.text_hash:
        yield "hash", "its text is not the one that was embedded"
    if row.vector is None:
        yield "vector_missing", "it has no vector"
    elif len(row.vector) != 2 * kb.dim:
        yield "vector_broken", f"its vector has {len(row.vector)} bytes, not {2 * kb.dim}"
    elif checksum(row.vector) != row.checksum:
        yield "vector_damaged", "its vector is not the one that was stored"


def _attributes(connection: Connection, kb: KnowledgeBase) -> Iterator[Finding]:
    rows = connection.execute(select(attributes).where(attributes.c.kb_id == kb.id)).mappings()
    held = {(row["content_id"], row["key"]): (row["text"], row["number"], row["flag"]) for row in rows}
    wanted = {}
    for content in connection.execute(select(contents).where(contents.c.kb_id == kb.id)):
        for row in attribute_rows(kb.id, content.id, content.attributes):
            wanted[content.id, row["key"]] = (row["text"], row["number"], row["flag"])
    if held != wanted:
        count = len(dict(held.items() ^ wanted.items()))
        yield Finding("attributes", kb.name, f"{count} attributes differ from those of their documents")


def _replayed(connection: Connection, kb: KnowledgeBase, top: int) -> tuple[Any, Any]:
    """The ids that the feed leads to, and those that are there."""
    live = np.zeros(top + 1, bool)
    for row in connection.execute(select(changes).where(changes.c.kb_id == kb.id).order_by(changes.c.seq)):
        live[row.first_chunk : row.last_chunk + 1] = row.added
    there = select(chunks.c.id).where(chunks.c.kb_id == kb.id).order_by(chunks.c.id)
    return np.flatnonzero(live), np.fromiter(connection.scalars(there), np.int64)
