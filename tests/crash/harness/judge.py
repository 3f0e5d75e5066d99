"""Is everything that was promised there, is nothing there that was taken back, and do all parts agree?"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from harness.trips import BACKUP, NAME
from kb.service import Service
from kb.settings import Settings
from kb.upkeep.backup import restore


@dataclass(frozen=True, slots=True)
class Expected:
    """What may be found at each uri: a document's hash, None for nothing, or the word for a whole file."""

    allowed: Mapping[str, frozenset[str | None]] = field(default_factory=dict)

    def after(self, promises: Iterable[Mapping[str, Mapping[str, str | None]]]) -> "Expected":
        """What the promises of a trip make of it."""
        made = {uri: set(values) for uri, values in self.allowed.items()}
        for promise in promises:
            for uri, value in promise.get("begin", {}).items():
                made.setdefault(uri, {None}).add(value)
            for uri, value in promise.get("ack", {}).items():
                made[uri] = {value}
        return Expected({uri: frozenset(values) for uri, values in made.items()})


class Broken(Exception):
    """A promise was broken."""


def judge(root: Path, expected: Expected, texts: Mapping[str, str]) -> None:
    """Open what a crash left and look at all of it. Raises Broken.

    texts: every text that a document ever had, by the hash of its bytes; the first word of each is its own.
    """
    allowed = dict(expected.allowed)
    copy = allowed.pop(BACKUP, frozenset({None}))
    _documents(root, allowed, texts)
    file = root / BACKUP
    if not file.exists():
        _true(None in copy, "the backup is gone")
        return
    _true("whole" in copy, "a backup that nobody made")
    # Under its name there is a whole one or none.
    again = root.with_name(f"{root.name}-again")
    (again / "data").mkdir(parents=True)
    restore(Settings(again / "data", f"sqlite:///{again}/data/catalog.db"), file)
    _documents(again, allowed, texts)
    shutil.rmtree(again)


def _documents(root: Path, allowed: Mapping[str, frozenset[str | None]], texts: Mapping[str, str]) -> None:
    with Service(Settings(root / "data", f"sqlite:///{root / 'data' / 'catalog.db'}")) as service:
        if not service.knowledge_bases():
            for uri, values in allowed.items():
                _true(None in values, f"{uri} is lost, with the knowledge base")
            return
        service.follow()
        found = service.check().found
        _true(not found, f"fsck: {found}")
        with service.catalog.database.read() as connection:
            rows = connection.execute(
                text(
                    "SELECT contents.uri, versions.sha256, versions.text, versions.id FROM contents"
                    " JOIN versions ON versions.id = contents.version_id"
                )
            ).all()
            chunks = connection.execute(
                text("SELECT id, version_id, context || text AS embedded FROM chunks ORDER BY id")
            ).all()
        there = {row.uri: row.sha256 for row in rows}
        for uri, values in allowed.items():
            _true(
                there.get(uri) in values,
                f"{uri} is {there.get(uri)}, promised was {sorted(map(str, values))}",
            )
        _true(there.keys() <= allowed.keys(), f"from nowhere: {there.keys() - allowed.keys()}")
        for row in rows:
            _true(row.text == texts[row.sha256], f"{row.uri} has another text")
        _searched(service, rows, chunks, texts)


def _searched(service: Service, rows: Any, chunks: Any, texts: Mapping[str, str]) -> None:
    """By meaning and by word: each chunk comes back, and nothing that is gone does."""
    live = service._indexes.live(service.knowledge_base(NAME))
    embed = service.embedder("").embed_passages
    ids = [chunk.id for chunk in chunks]
    if ids:
        vectors = embed([chunk.embedded for chunk in chunks])
        for chunk, vector in zip(chunks, vectors, strict=True):
            best = live.vectors.search(vector, 1).ids.tolist()
            _true(best == [chunk.id], f"the dense index finds {best} for chunk {chunk.id}")
        scores = live.vectors.score(vectors[0], np.array(ids, np.int64))
        _true(np.allclose(scores, vectors @ vectors[0], atol=5e-3), "the dense index holds other vectors")
    more = len(ids) + 50
    for name, found in (
        ("dense", live.vectors.search(embed(["common"])[0], more)),
        ("lexical", live.lexical.search("common", more)),
    ):
        _true(sorted(found.ids.tolist()) == ids, f"the {name} index returns {found.ids}, there is {ids}")
    held = {row.id: row.sha256 for row in rows}
    for sha, words in texts.items():
        first = min((chunk.id for chunk in chunks if held[chunk.version_id] == sha), default=None)
        word = words.split(maxsplit=1)[0]
        hits = live.lexical.search(word, 3).ids.tolist()
        _true(hits == ([] if first is None else [first]), f"{word} is found in {hits}, not in {first}")
    if rows:
        hits = service.search("common", [NAME], top_k=more).hits
        _true(len(hits) == len(ids), f"{len(hits)} hits among {len(ids)} chunks")
        for hit in hits:
            stands = texts[held[hit.content_version_id]][hit.start : hit.end]
            _true(hit.text == stands, f"a hit in {hit.uri} is not what stands at its span")


def _true(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)
