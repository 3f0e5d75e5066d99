"""Fakes for tests. Loaded by path (the `fakes` fixture, and child processes), never imported by name."""

import re
from collections.abc import Sequence
from hashlib import blake2b, sha256
from typing import Any

import numpy as np

DIM = 48


class WordEmbedder:
    """An `Embedder` without a model: a text's vector is the normalised sum of its words' random vectors.

    Tokens are what stands between blanks. `embedded` lists every passage that was embedded, in order.
    """

    fingerprint = "words-1"
    dim = DIM
    salt = ""

    def __init__(self, max_tokens: int = 256) -> None:
        self.max_tokens = max_tokens
        self.embedded: list[str] = []
        self.queries: list[list[str]] = []
        self._words: dict[str, np.ndarray] = {}

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Bags of words, unit length."""
        self.queries.append(list(texts))
        return self.bags(texts)

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        """Bags of words, unit length."""
        self.embedded.extend(texts)
        return self.bags(texts)

    def bags(self, texts: Sequence[str]) -> np.ndarray:
        """What both kinds of embedding return."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split() or [""]:
                row += self._word(word)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def token_starts(self, text: str) -> list[int]:
        """Where each word begins."""
        return word_starts(text)

    def _word(self, word: str) -> np.ndarray:
        if word not in self._words:
            seed = int.from_bytes(blake2b((self.salt + word).encode(), digest_size=8).digest(), "big")
            self._words[word] = np.random.default_rng(seed).standard_normal(self.dim).astype(np.float32)
        return self._words[word]


class OtherEmbedder(WordEmbedder):
    """Another model: other vectors, of another length."""

    fingerprint = "words-2"
    dim = 32
    salt = "other "


class LengthReranker:
    """A `Reranker` without a model: the longer a passage the better, two passages a batch.

    `scored` lists the passages of every call.
    """

    fingerprint = "length-1"

    def __init__(self) -> None:
        self.scored: list[list[str]] = []

    def batches(self, query: str, passages: Sequence[str]) -> list[list[int]]:
        """In order, two by two."""
        return [list(range(at, min(at + 2, len(passages)))) for at in range(0, len(passages), 2)]

    def score(self, query: str, passages: Sequence[str]) -> np.ndarray:
        """Characters."""
        self.scored.append(list(passages))
        return np.array([len(passage) for passage in passages], np.float32)


class Shelf:
    """A catalog with one knowledge base `kb` and one source `source`, filled by `put`."""

    def __init__(self, catalog: Any, name: str = "shelf") -> None:
        self.catalog = catalog
        self.embedder = WordEmbedder()
        known = [kb for kb in catalog.knowledge_bases.all() if kb.name == name]
        self.kb = known[0] if known else self.make(name)
        self.source = catalog.store.source(self.kb.id, "upload")

    def make(self, name: str, fingerprint: str = "words-1") -> Any:
        """Another knowledge base."""
        from kb.types import ChunkingPolicy

        return self.catalog.knowledge_bases.create(
            name,
            embedder="words",
            fingerprint=fingerprint,
            dim=DIM,
            chunking=ChunkingPolicy(64, 0),
        )

    def version(self, uri: str, text: str, attributes: dict[str, Any] | None = None) -> Any:
        """A document whose chunks are its lines."""
        from kb.catalog.store import NewVersion
        from kb.types import Chunk, Document

        chunks, start = [], 0
        for line in text.split("\n"):
            if line:
                chunks.append(Chunk(start, start + len(line), page=1, heading="H", context="T\n"))
            start += len(line) + 1
        document = Document(text, "text/plain")
        return NewVersion(
            uri,
            f"title of {uri}",
            sha256(text.encode()).hexdigest(),
            len(text),
            document,
            chunks,
            attributes or {},
            "en",
        )

    def vectors(self, *versions: Any) -> dict[bytes, bytes]:
        """Packed vectors for every embedded text."""
        from kb.catalog.store import pack_vectors, text_hash

        texts = sorted({text for version in versions for text in version.embedded_texts()})
        packed = pack_vectors(self.embedder.bags(texts)) if texts else []
        return dict(zip(map(text_hash, texts), packed, strict=True))

    def put(self, *versions: Any, kb: Any = None, source: str | None = None) -> list[Any]:
        """Commit documents with the vectors they need."""
        kb = kb or self.kb
        source = source or self.catalog.store.source(kb.id, "upload")
        return self.catalog.store.commit(kb.id, source, kb.fingerprint, versions, self.vectors(*versions))

    def hits(self, ids: Any) -> dict[int, Any]:
        """The visible chunks among some ids, all scored 0."""
        ids = list(ids)
        return {hit.chunk_id: hit for hit in self.catalog.documents.hits(ids, [0.0] * len(ids), {})}

    def content(self, uri: str, kb: Any = None) -> Any:
        """The document at a place."""
        (found,) = (
            one for one in self.catalog.documents.page((kb or self.kb).id, limit=1000) if one.uri == uri
        )
        return found

    def rows(self, table: str, columns: str = "*") -> list[Any]:
        """All of a table, in order."""
        from sqlalchemy import text

        with self.catalog.database.read() as connection:
            found = connection.execute(text(f"SELECT {columns} FROM {table}"))
            return sorted(tuple(row) for row in found)

    def everything(self) -> dict[str, list[str]]:
        """Every row of every table."""
        from kb.catalog.schema import metadata

        return {table: [repr(row) for row in self.rows(f'"{table}"')] for table in metadata.tables}


def word_starts(text: str) -> list[int]:
    """Offsets of the words between blanks."""
    return [found.start() for found in re.finditer(r"\S+", text)]


def unit(rows: Any) -> np.ndarray:
    """Rows as float32 of unit length."""
    rows = np.asarray(rows, np.float32)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def ids(*numbers: int) -> np.ndarray:
    """Chunk ids."""
    return np.array(numbers, np.int64)
