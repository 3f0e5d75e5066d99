"""The seams, with shapes, units and the meaning of a score.

Vectors are float32 of unit length; similarity is the inner product, in [-1, 1], higher is better.
Chunk ids are int64. A lexical score is BM25, at least 0, higher is better. A reranker's score orders
passages for one query, higher is better; its scale is the model's own.
"""

from collections.abc import Sequence
from typing import Protocol

from kb.types import (
    Allowed,
    Domains,
    Ids,
    IndexedText,
    Neighbours,
    StoredVectors,
    UserLocation,
    Vectors,
    WebHit,
)


class Embedder(Protocol):
    """Text to unit vectors."""

    @property
    def fingerprint(self) -> str:
        """Names weights, pooling, limits and prompts: equal fingerprints give equal vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Tokens of one text that reach the model, special tokens not counted; the rest is cut."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Questions to vectors, shape (len(texts), dim), in order; the query prompt is applied."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Passages to vectors, shape (len(texts), dim), in order; the passage prompt is applied."""

    def token_starts(self, text: str) -> list[int]:
        """Offset in `text` of the first character of each token, ascending, without truncation."""


class Reranker(Protocol):
    """A query and a passage, read together, to how well the one answers the other."""

    @property
    def fingerprint(self) -> str:
        """Names weights, limits and activation: equal fingerprints give equal scores."""

    def batches(self, query: str, passages: Sequence[str]) -> list[list[int]]:
        """Positions of `passages` in groups, each position once. Scoring one group takes a short, bounded
        time: whoever has a deadline looks at the clock between them."""

    def score(self, query: str, passages: Sequence[str]) -> Vectors:
        """How well each passage answers, float32, shape (len(passages),), in order; higher is better."""


class VectorIndex(Protocol):
    """Top-k by inner product over the live chunks of one knowledge base.

    Reads may run in parallel with each other, with one `apply` and with one `checkpoint`.
    """

    @property
    def seq(self) -> int:
        """The last change number applied."""

    def __len__(self) -> int:
        """How many live vectors there are."""

    @property
    def wants_checkpoint(self) -> bool:
        """Whether so much has changed since the last one that searches would gain by another."""

    @property
    def recall(self) -> float | None:
        """The recall target that searches are approximate at; None where all are exact."""

    def apply(self, seq: int, add: Ids, vectors: StoredVectors, remove: Ids) -> None:
        """Add and remove chunks and move to `seq`. Adding an id again or removing an unknown one
        changes nothing, so a change may be replayed. Raises DimensionMismatch."""

    def search(self, vector: Vectors, k: int, *, allow: Allowed | None = None) -> Neighbours:
        """The k best live chunks for one unit vector of shape (dim,); equal scores go by lower id first.

        allow: the only chunks that may be returned; None allows all. Fewer than k are
        returned only when fewer than k are live and allowed. Raises DimensionMismatch."""

    def score(self, vector: Vectors, ids: Ids) -> Vectors:
        """Inner products with the given chunks, shape (len(ids),); nan where an id is not live."""

    def ids(self) -> Ids:
        """Every live chunk, ascending."""

    def checkpoint(self) -> None:
        """Make what was applied durable, so that the next open starts from here; may take minutes.
        One process at a time does it; another returns at once."""

    def tune(self, *, wait: bool = False) -> None:
        """Come to the recall target that is wanted now, by a new effort for the vectors as they stand; may
        take a minute. While another process checkpoints or tunes it returns at once, unless it is to wait."""

    def adopt(self) -> None:
        """Take over the checkpoint that another process made, if there is a newer one."""

    def close(self) -> None:
        """A checkpoint or a tuning under way is given up: it raises Interrupted."""


class LexicalIndex(Protocol):
    """BM25 over the live chunks of one knowledge base, context and text together.

    Case, accents and the endings of the chunk's language do not matter. A query is read in every language
    that the index holds: each of its words counts once, in the form that scores best. Parts of a query in
    "double quotation marks" must stand in a chunk as they are, in its text or in its context; nothing
    else in a query is an operator.
    """

    @property
    def seq(self) -> int:
        """The last change number applied."""

    def apply(self, seq: int, add: Ids, passages: Sequence[IndexedText], remove: Ids) -> None:
        """Add and remove chunks and move to `seq`, durably. Replayable, as in VectorIndex."""

    def search(self, query: str, k: int, *, allow: Allowed | None = None) -> Neighbours:
        """The k best chunks that share a term with the query and hold what it quotes.

        allow: as in VectorIndex."""

    def score(self, query: str, ids: Ids) -> Vectors:
        """BM25 of the given ids, shape (len(ids),); 0 where `search` would not return one."""

    def narrow(self, query: str, allow: Allowed | None) -> Allowed | None:
        """The allowed chunks that hold what the query quotes; `allow` itself where it quotes nothing."""

    def ids(self) -> Ids:
        """Every live chunk, ascending."""


class WebSearch(Protocol):
    """A search engine of the web, asked over HTTP."""

    async def search(
        self, query: str, *, count: int, domains: Domains, location: UserLocation | None = None
    ) -> list[WebHit]:
        """At most so many pages, best first, each address once, none outside of the domains.

        location: a hint, which not every engine takes. Raises RemoteFailed, RemoteTimeout.
        """
