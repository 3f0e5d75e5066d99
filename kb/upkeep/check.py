"""Is the data folder what it should be? The catalog against itself, each index against the catalog."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from kb.catalog import Catalog
from kb.catalog.schema import chunks, spending, vectors
from kb.catalog.store import checksum, unpack_vectors, unused
from kb.catalog.usage import spending_of_calls
from kb.search.indexes import Indexes
from kb.search.live import LiveIndexes
from kb.types import Ids, KnowledgeBase
from kb.upkeep.catalog import Finding, catalog_findings

# Vectors compared at once: a few megabytes.
_AT_ONCE = 2048
# Two vectors are taken to be equal where they score alike against this many random ones: a vector of
# another text differs in one of them by hundreds of times the tolerance, and a changed one by its length.
_PROBES = 16
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and how much of it is left after the repair (all of it where none was asked for)."""

    found: tuple[Finding, ...]
    left: tuple[Finding, ...]
    receipts: int
    """Deletions that were proved; where one is not, there is a finding of kind "receipt"."""
    masked: int
    """Deleted chunks whose vectors still lie in index files, never returned; a repair writes those anew."""
    secure_delete: bool | None
    """Whether SQLite overwrites what it deletes; None for other databases."""


def check(catalog: Catalog, indexes: Indexes, kbs: Sequence[KnowledgeBase], *, repair: bool) -> Report:
    """Check the catalog and the indexes of some knowledge bases; with `repair` rebuild what is derived.

    Servers may run meanwhile, but not beside a repair. Nothing in the catalog is changed but for vectors
    that nothing uses, and what keys spent by their calls; whatever else is wrong in it is left for a person.
    """
    masked: dict[str, int] = {}
    found = list(_findings(catalog, indexes, kbs, masked))
    left = found
    if repair and (any(masked.values()) or any(finding.repairable for finding in found)):
        _repair(catalog, indexes, kbs, found, masked)
        masked = {}
        left = list(_findings(catalog, indexes, kbs, masked))
    with catalog.database.read() as connection:
        secure = (
            bool(connection.exec_driver_sql("PRAGMA secure_delete").scalar())
            if connection.dialect.name == "sqlite"
            else None
        )
    kinds = {finding.kind for finding in left}
    proved = 0 if kinds & {"database", "receipt"} else len(catalog.receipts.all())
    return Report(tuple(found), tuple(left), proved, sum(masked.values()), secure)


def _findings(
    catalog: Catalog, indexes: Indexes, kbs: Sequence[KnowledgeBase], masked: dict[str, int]
) -> Iterator[Finding]:
    # Folders first: a knowledge base made meanwhile has no folder yet.
    folders = [path for path in indexes.folder.iterdir() if path.is_dir()] if indexes.folder.is_dir() else []
    with catalog.database.read() as connection:
        found = list(catalog_findings(connection, kbs))
    yield from found
    if any(finding.kind == "database" for finding in found):
        return
    known = {kb.id for kb in catalog.knowledge_bases.all()}
    for folder in folders:
        if folder.name not in known:
            yield Finding("leftover", folder.name, "indexes of a knowledge base that is gone", True)
    for kb in kbs:
        kept = {
            kb.fingerprint,
            "lexical",
            *(model.fingerprint for model in catalog.models.of(kb.id).values()),
        }
        for folder in (indexes.folder / kb.id).glob("*/"):
            if folder.name not in kept:
                what = "the index of a model that is gone"
                yield Finding("leftover", f"{kb.id}/{folder.name}", what, True)
    unreadable = {finding.knowledge_base for finding in found if finding.kind == "vector_broken"}
    for kb in kbs:
        # The feed cannot be followed past a vector that is not one.
        if kb.name not in unreadable:
            yield from _index_findings(catalog, indexes, kb, masked)


def _index_findings(
    catalog: Catalog, indexes: Indexes, kb: KnowledgeBase, masked: dict[str, int]
) -> Iterator[Finding]:
    # Before the first change an index has files and no checkpoint: there is nothing to be damaged.
    damaged = indexes.damage(kb) if catalog.feed.head(kb.id) else []
    if damaged:
        # Not opened: to open a damaged index is to rebuild it.
        yield from (Finding("index_damaged", kb.name, what, True) for what in damaged)
        return
    live = indexes.opened(kb)
    written = live.vectors.ids()
    live.catch_up()
    # No commit comes between what the catalog and what the indexes say.
    with catalog.database.write() as connection:
        live.catch_up()
        head = catalog.feed.head(kb.id)
        every, ready = _chunk_ids(connection, kb)
        held = {
            "dense": (live.vectors.seq, live.vectors.ids()),
            "lexical": (live.lexical.seq, live.lexical.ids()),
        }
    for name, (seq, ids) in held.items():
        if seq > head:
            yield Finding("index_ahead", kb.name, f"the {name} index is at {seq}, the feed at {head}", True)
        if missing := len(np.setdiff1d(ready, ids)):
            yield Finding("index_ids", kb.name, f"the {name} index lacks {missing} chunks", True)
        if extra := len(np.setdiff1d(ids, every)):
            yield Finding("index_ids", kb.name, f"the {name} index holds {extra} chunks that are gone", True)
    differing = _differing(catalog, live, kb, ready)
    if differing:
        yield Finding("index_vectors", kb.name, f"{differing} indexed vectors are not the stored ones", True)
    masked[kb.id] = len(np.setdiff1d(written, every))


def _chunk_ids(connection: Connection, kb: KnowledgeBase) -> tuple[Ids, Ids]:
    """Every chunk, and those that have their vector."""
    mine = select(chunks.c.id).where(chunks.c.kb_id == kb.id).order_by(chunks.c.id)
    paired = mine.join(vectors, vectors.c.text_hash == chunks.c.text_hash)
    ready = paired.where(vectors.c.fingerprint == kb.fingerprint)
    return np.fromiter(connection.scalars(mine), np.int64), np.fromiter(connection.scalars(ready), np.int64)


def _differing(catalog: Catalog, live: LiveIndexes, kb: KnowledgeBase, ids: Ids) -> int:
    """How many live vectors score otherwise than what the catalog holds."""
    probes = np.random.default_rng(0).standard_normal((_PROBES, kb.dim)).astype(np.float32)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    count = 0
    for at in range(0, len(ids), _AT_ONCE):
        query = (
            select(chunks.c.id, vectors.c.vector, vectors.c.checksum)
            .join(vectors, vectors.c.text_hash == chunks.c.text_hash)
            .where(vectors.c.fingerprint == kb.fingerprint, chunks.c.kb_id == kb.id)
            .where(chunks.c.id.between(int(ids[at]), int(ids[min(at + _AT_ONCE, len(ids)) - 1])))
            .order_by(chunks.c.id)
        )
        with catalog.database.read() as connection:
            # Of one that is damaged the index may hold the only whole copy.
            rows = [row for row in connection.execute(query) if checksum(row.vector) == row.checksum]
        stored = unpack_vectors([row.vector for row in rows], kb.dim)
        some = np.array([row.id for row in rows], np.int64)
        scores = np.stack([live.vectors.score(probe, some) for probe in probes], axis=1)
        # What is not indexed (nan) has been counted by its id.
        off = np.abs(scores - np.einsum("id,pd->ip", stored, probes)) > _TOLERANCE
        count += int(np.count_nonzero(off.any(axis=1)))
    return count


def _repair(
    catalog: Catalog,
    indexes: Indexes,
    kbs: Sequence[KnowledgeBase],
    found: Sequence[Finding],
    masked: dict[str, int],
) -> None:
    if any(finding.kind == "orphan_vectors" for finding in found):
        with catalog.database.write() as connection:
            connection.execute(delete(vectors).where(unused()))
    if any(finding.kind == "spending" for finding in found):
        with catalog.database.write() as connection:
            connection.execute(delete(spending))
            columns = [column.name for column in spending.c]
            connection.execute(insert(spending).from_select(columns, spending_of_calls()))
    for finding in found:
        if finding.kind == "leftover" and finding.knowledge_base:
            shutil.rmtree(indexes.folder / finding.knowledge_base)
    for kb in kbs:
        broken = any(f.knowledge_base == kb.name and f.kind.startswith("index_") for f in found)
        if broken or masked.get(kb.id):
            indexes.discard(kb)
            live = indexes.opened(kb)
            live.catch_up()
            live.vectors.checkpoint()
