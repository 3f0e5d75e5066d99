"""BM25 over chunks, on tantivy (k1 1.2, b 0.75).

    <folder>/         tantivy's segments
    <folder>/SEQ      the analysis, the last change number committed, and the checksum of every segment file
    <folder>.lock     held by the one process that writes

All processes read the same segments, so a change is applied once, by whoever needs it first.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from kb.errors import IndexCorrupt
from kb.index.analysis import ANALYSIS, WORDS, alternatives, quoted, stemmer_of, terms
from kb.index.manifest import digest, mismatch, read_manifest, write_manifest
from kb.types import Allowed, Ids, IndexedText, Neighbours, Vectors

# Of fewer ids a term query each is cheaper to find than one set of them all: 70 take 0.34 ms of 1.2
# (benchmarks/README.md, "Lexical").
_FEW = 2000

# The smallest heap tantivy takes per writer; ours lives for one batch.
_WRITER_BYTES = 30_000_000

_MARK = "SEQ"
_SEGMENT = (".del", ".fast", ".fieldnorm", ".idx", ".pos", ".store", ".term")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What SEQ says: the last change committed, and the checksums of the files that hold it."""

    seq: int
    files: dict[str, str]


def damage(folder: Path) -> str | None:
    """What is wrong with the files of an index; None where all is well, or nothing was written yet."""
    with _locked(folder):
        return mismatch(folder / _MARK) if folder.is_dir() and any(folder.iterdir()) else None


def discard(folder: Path) -> None:
    """Forget how far the index came: the next change fills it from nothing."""
    with _locked(folder):
        (folder / _MARK).unlink(missing_ok=True)


class TantivyIndex:
    """A `LexicalIndex` over one folder, shared by processes. Damaged files are dropped and seq is 0 again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = _locked(folder)
        self._shown = -1
        self._state: tuple[int, ...] = (-1,)
        self._asked: tuple[str, int, Any] = ("", -1, None)
        self._stemmers = [WORDS]
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            try:
                mark = self._mark()
                if mark.files != self._checksums({}):
                    raise ValueError("of another version, damaged, or interrupted between two steps")
                self._index = self._open()
            except ValueError as error:
                log.warning("%s: %s; rebuilding from the catalog", folder, error)
                shutil.rmtree(folder)
                folder.mkdir()
                self._index = self._open()
            if not (folder / _MARK).exists():
                # An empty index is whole as well: else the next process to open it would drop it once more.
                self._write_mark(0, {})

    @property
    def seq(self) -> int:
        return self._mark().seq

    def apply(self, seq: int, add: Ids, passages: Sequence[IndexedText], remove: Ids) -> None:
        from tantivy import Document

        with self._lock:
            before = self._mark()
            if before.seq >= seq:
                return
            writer = self._index.writer(_WRITER_BYTES, 1)
            if not before.seq:
                writer.delete_all_documents()
            # Also what is added: a crash between commit and SEQ lets a change come twice.
            stale = np.concatenate([remove, add])
            if len(stale):
                writer.delete_documents_by_query(self._among(stale))
            gone = set(remove.tolist())
            for chunk_id, passage in zip(add.tolist(), passages, strict=True):
                if chunk_id not in gone:
                    stemmer = stemmer_of(passage.language)
                    document = Document()
                    document.add_unsigned("id", chunk_id)
                    document.add_text("stemmer", stemmer)
                    # Two values of one field: no phrase reaches from the context into the text.
                    for part in (passage.context, passage.text):
                        document.add_text("terms", " ".join(terms(part, stemmer)))
                    writer.add_document(document)
            writer.commit()
            writer.wait_merging_threads()
            self._write_mark(seq, before.files)

    def search(self, query: str, k: int, *, allow: Allowed | None = None) -> Neighbours:
        question = self._question(query)
        if question is None or (allow is not None and not len(allow)):
            return Neighbours(np.empty(0, np.int64), np.empty(0, np.float32))
        if allow is None:
            return self._top(question, k)
        # Looking for n ids costs about 2.5 us each, a list of m hits about 1 us each, and it takes a list of
        # 1.3 * k * count / n; so the first is cheaper up to here (benchmarks/README.md, "Lexical").
        if 2 * len(allow) ** 2 <= k * self._count():
            return self._top(self._within(question, allow.ids(), must_match=True), k)
        return self._deep(question, k, allow)

    def narrow(self, query: str, allow: Allowed | None) -> Allowed | None:
        if not quoted(query):
            return allow
        self._refresh()
        phrases = self._phrases(query)
        if not phrases:
            return allow
        holding = np.sort(self._top(self._all_of(phrases), self._count()).ids)
        return Allowed.only(holding if allow is None else holding[allow.hold(holding)])

    def score(self, query: str, ids: Ids) -> Vectors:
        question = self._question(query)
        scores = np.zeros(len(ids), np.float32)
        if question is None or not len(ids):
            return scores
        found = self._top(self._within(question, ids, must_match=False), len(ids))
        by_id = dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
        return np.array([by_id.get(chunk_id, 0.0) for chunk_id in ids.tolist()], np.float32)

    def ids(self) -> Ids:
        from tantivy import Query

        # Nothing shows how many rows a reader will see before it is brought up to date.
        self._refresh()
        return np.sort(self._top(Query.all_query(), self._count()).ids)

    def _question(self, query: str) -> Any:
        """Any of the query's words, and every phrase it quotes; None where it has no words.

        Built from terms, so that nothing else people type is an operator.
        """
        self._refresh()
        # A hybrid search asks twice.
        asked = self._asked
        if asked[:2] == (query, self._shown):
            return asked[2]
        question = self._read(query)
        self._asked = (query, self._shown, question)
        return question

    def _read(self, query: str) -> Any:
        from tantivy import Occur, Query

        words = alternatives(query, self._stemmers)
        if not words:
            return None
        any_word = Query.boolean_query([(Occur.Should, _best(map(self._term, word))) for word in words])
        phrases = self._phrases(query)
        return self._all_of([any_word, *phrases]) if phrases else any_word

    def _phrases(self, query: str) -> list[Any]:
        """A query for each quoted phrase, which adds nothing to the score."""
        from tantivy import Query

        found = []
        for phrase in quoted(query):
            # As each stemmer has it, which for most is the same.
            forms = dict.fromkeys(tuple(terms(phrase, stemmer)) for stemmer in self._stemmers)
            if any(forms):
                found.append(Query.const_score_query(_best(map(self._sequence, forms)), 0.0))
        return found

    def _sequence(self, form: tuple[str, ...]) -> Any:
        from tantivy import Query

        if len(form) == 1:
            return self._term(form[0])
        return Query.phrase_query(self._index.schema, "terms", list(form))

    def _term(self, term: str) -> Any:
        from tantivy import Query

        return Query.term_query(self._index.schema, "terms", term)

    def _all_of(self, queries: Sequence[Any]) -> Any:
        from tantivy import Occur, Query

        return Query.boolean_query([(Occur.Must, query) for query in queries])

    def _among(self, ids: Ids) -> Any:
        from tantivy import Occur, Query

        schema = self._index.schema
        if len(ids) > _FEW:
            return Query.term_set_query(schema, "id", ids.tolist())
        return Query.boolean_query(
            [(Occur.Should, Query.term_query(schema, "id", one, "basic")) for one in ids.tolist()]
        )

    def _within(self, question: Any, ids: Ids, *, must_match: bool) -> Any:
        from tantivy import Occur, Query

        among = Query.const_score_query(self._among(ids), 0.0)
        return Query.boolean_query(
            [(Occur.Must, among), (Occur.Must if must_match else Occur.Should, question)]
        )

    def _deep(self, question: Any, k: int, allow: Allowed) -> Neighbours:
        """The k best that are allowed, from a list where they should all stand, or a deeper one."""
        depth = 1 + int(1.3 * k * self._count() / len(allow))
        while True:
            found = self._top(question, depth)
            held = np.flatnonzero(allow.hold(found.ids))[:k]
            if len(held) == k or len(found.ids) < depth:
                return Neighbours(found.ids[held], found.scores[held])
            depth *= 4

    def _count(self) -> int:
        # A limit of 0 is an error to tantivy.
        return max(1, int(self._index.searcher().num_docs))

    def _top(self, question: Any, k: int) -> Neighbours:
        searcher = self._index.searcher()
        found = searcher.search(question, k, count=False).hits
        ids = np.array(searcher.fast_field_values("id", [address for _, address in found]), np.int64)
        scores = np.array([score for score, _ in found], np.float32)
        best = np.lexsort((ids, -scores))
        return Neighbours(ids[best], scores[best])

    def _refresh(self) -> None:
        # A mark is replaced, never changed: another one is another file.
        state = _file_state(self._folder / _MARK)
        if state == self._state:
            return
        seq = self.seq
        if seq != self._shown:
            from tantivy import Query

            self._index.reload()
            live = Query.all_query()
            found = self._index.searcher().terms_with_prefix("stemmer", "", filter_query=live)
            self._stemmers = [stemmer for stemmer, _ in found] or [WORDS]
            self._shown = seq
        self._state = state

    def _mark(self) -> _Mark:
        try:
            mark = read_manifest(self._folder / _MARK)
        except (FileNotFoundError, IndexCorrupt):
            return _Mark(0, {})
        return _Mark(mark["seq"], mark["files"]) if mark["analysis"] == ANALYSIS else _Mark(0, {})

    def _write_mark(self, seq: int, known: dict[str, str]) -> None:
        mark = {"analysis": ANALYSIS, "seq": seq, "files": self._checksums(known)}
        write_manifest(self._folder / _MARK, mark)

    def _checksums(self, known: dict[str, str]) -> dict[str, str]:
        """By name. Segments are written once under names of their own: what is known is not read again."""
        found = {}
        for path in self._folder.iterdir():
            if path.suffix in (".json", *_SEGMENT):
                fresh = path.suffix == ".json" or path.name not in known
                found[path.name] = digest(path) if fresh else known[path.name]
        return found

    def _open(self) -> Any:
        from tantivy import Index, SchemaBuilder

        builder = SchemaBuilder()
        builder.add_unsigned_field("id", indexed=True, fast=True)
        builder.add_text_field("stemmer", tokenizer_name="raw", index_option="basic")
        builder.add_text_field("terms", tokenizer_name="whitespace")
        index = Index(builder.build(), path=str(self._folder))
        # Else a thread of each index looks twice a second whether it was changed, and reads it beside us.
        index.config_reader("Manual")
        return index


def _locked(folder: Path) -> FileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{folder}.lock")


def _file_state(path: Path) -> tuple[int, ...]:
    """Another one for another file at this place; () for none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _best(queries: Iterable[Any]) -> Any:
    """The best of several ways to say one thing, so that it counts once."""
    from tantivy import Query

    every = list(queries)
    return every[0] if len(every) == 1 else Query.disjunction_max_query(every)
