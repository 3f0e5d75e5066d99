"""Trip 1: bytes become searchable. parse -> chunk -> embed what is new -> commit."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Protocol

from kb.catalog.store import NewVersion, Store, VectorsMissing, pack_vectors, text_hash
from kb.content.fence import visible
from kb.errors import DocumentRefused, ModelChanged
from kb.ingest.chunk import chunk
from kb.ingest.source import Wanted
from kb.language import language_of
from kb.protocols import Embedder
from kb.tokens import count_tokens
from kb.types import Chunk, Document, Failure, IngestReport, KnowledgeBase

# Texts embedded and committed together: enough for batches of like length, and on the slowest machines
# half a minute of work that an interruption may cost.
_BATCH_TEXTS = 256
# Documents without new texts (copies, small edits) still commit this often.
_BATCH_DOCUMENTS = 64
_BATCH_CHARACTERS = 20_000_000


class Parser(Protocol):
    """Bytes to a document; `kb.ingest.sandbox.ParserProcess` is one."""

    def parse(self, data: bytes, name: str) -> Document:
        """Raises DocumentRefused."""


@dataclass(slots=True)
class Tally:
    """The counts of an ingest while it runs."""

    documents: int = 0
    added: int = 0
    changed: int = 0
    renamed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    failures: list[Failure] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def report(self) -> IngestReport:
        """The counts so far, with the seconds since the start."""
        counted = {
            name: getattr(self, name) for name in self.__slots__ if name not in ("failures", "started")
        }
        seconds = round(time.perf_counter() - self.started, 3)
        return IngestReport(**counted, failures=tuple(self.failures), seconds=seconds)


def title_of(uri: str) -> str:
    """A readable title for a document that has none of its own: its file name."""
    return PurePosixPath(uri).stem.replace("_", " ").replace("-", " ").strip() or uri


def _counted(text: str, chunks: Sequence[Chunk]) -> Iterator[Chunk]:
    """Chunks with their tokens as a model is shown them.

    What lies between two belongs to the first where it breaks the line, else to the second: where tokens end.
    So the tokens of neighbours add up to those of their common text, nearly.
    """
    breaks = [
        before.end <= after.start and "\n" in text[before.end : after.start]
        for before, after in pairwise(chunks)
    ]
    for at, one in enumerate(chunks):
        start, end = one.start, one.end
        if at and not breaks[at - 1]:
            start = min(start, chunks[at - 1].end)
        if at < len(breaks) and breaks[at]:
            end = chunks[at + 1].start
        yield replace(one, tokens=count_tokens(visible(text[start:end])))


class Pipeline:
    """Takes documents of one source into one knowledge base."""

    def __init__(
        self,
        store: Store,
        live: Callable[[], tuple[KnowledgeBase, Embedder]],
        parser: Parser,
        source_id: str,
        job_id: str | None = None,
    ) -> None:
        """live: the knowledge base as it is now, and its model; asked again when it came under another.
        job_id: of the job that attached the documents, for as long as they are attached by it."""
        self._store = store
        self._live = live
        self._kb, self._embedder = live()
        self._parser = parser
        self._source_id = source_id
        self._job_id = job_id

    def run(
        self,
        files: Iterable[Wanted],
        tally: Tally,
        progress: Callable[[int, int], None],
    ) -> None:
        """Take in every file, a batch at a time; one that fails is noted and the others go on.

        progress: called with documents settled and texts embedded so far. What a returned batch
        committed stays, whatever happens afterwards.
        """
        batch: list[NewVersion] = []
        number = done = texts = characters = 0
        for number, wanted in enumerate(files, 1):
            uri = wanted.file.uri
            try:
                version = self._version(wanted)
            except DocumentRefused as error:
                self.refuse(Failure(uri, str(error), error.kind), tally)
            except OSError as error:
                self.refuse(Failure(uri, f"cannot be read: {error.strerror}", "unreadable"), tally)
            else:
                batch.append(version)
                texts += len(version.chunks)
                characters += len(version.document.text)
            if texts >= _BATCH_TEXTS or len(batch) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
                self._commit(batch, tally, partial(progress, done))
                batch, texts, characters, done = [], 0, 0, number
            progress(done, tally.embedded)
        self._commit(batch, tally, partial(progress, done))
        progress(number, tally.embedded)

    def refuse(self, failure: Failure, tally: Tally) -> None:
        """Quarantine a document with its reason."""
        tally.failures.append(failure)
        self._store.set_failures(self._source_id, [failure], [], self._job_id)

    def _version(self, wanted: Wanted) -> NewVersion:
        file = wanted.file
        data = file.read()
        document = self._parser.parse(data, PurePosixPath(file.uri).name)
        title = title_of(file.uri) if document.title is None else document.title
        chunks = chunk(
            document,
            wanted.chunking or self._kb.chunking,
            self._embedder.token_starts,
            title=title,
            max_tokens=self._embedder.max_tokens,
        )
        return NewVersion(
            uri=file.uri,
            title=title,
            sha256=hashlib.sha256(data).hexdigest(),
            byte_size=len(data),
            document=document,
            chunks=list(_counted(document.text, chunks)),
            attributes=wanted.attributes,
            language=language_of(document.text),
            tokens=count_tokens(document.text),
        )

    def _commit(self, batch: list[NewVersion], tally: Tally, embedding: Callable[[int], None]) -> None:
        if not batch:
            return
        by_hash = {text_hash(text): text for version in batch for text in version.embedded_texts()}
        before = tally.embedded
        while True:
            made = self._embed(by_hash, tally, embedding)
            try:
                committed = self._store.commit(
                    self._kb.id, self._source_id, self._kb.fingerprint, batch, made, self._job_id
                )
                break
            except VectorsMissing:
                # Another process deleted the last document that held one of the texts; embed it after all.
                continue
            except ModelChanged:
                self._kb, self._embedder = self._live()
        self._store.set_failures(self._source_id, [], [version.uri for version in batch])
        tally.documents += len(committed)
        tally.changed += sum(one.replaced for one in committed)
        tally.added += sum(not one.replaced for one in committed)
        tally.chunks += sum(one.chunks for one in committed)
        tally.reused += max(0, len(by_hash) - (tally.embedded - before))

    def _embed(
        self, by_hash: Mapping[bytes, str], tally: Tally, embedding: Callable[[int], None]
    ) -> dict[bytes, bytes]:
        """Vectors for those texts that have none; all but the last portion are stored on the way."""
        missing = sorted(self._store.missing(self._kb.fingerprint, by_hash))
        made: dict[bytes, bytes] = {}
        for at in range(0, len(missing), _BATCH_TEXTS):
            if made:
                self._store.store_vectors(self._kb.fingerprint, made)
            portion = missing[at : at + _BATCH_TEXTS]
            vectors = self._embedder.embed_passages([by_hash[name] for name in portion])
            made = dict(zip(portion, pack_vectors(vectors), strict=True))
            tally.embedded += len(portion)
            embedding(tally.embedded)
        return made
