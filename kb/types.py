"""The nouns, frozen. Offsets are half-open, in Unicode code points of one version's text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Unit-length rows, shape (n, dim)."""

StoredVectors = NDArray[np.float16]
"""Rows as the catalog keeps them, shape (n, dim): rounded, so that only their direction counts."""

Ids = NDArray[np.int64]
"""Chunk ids, shape (n,)."""

AttributeValue = str | int | float | bool
Attributes = Mapping[str, AttributeValue]
Mode = Literal["hybrid", "dense", "lexical"]
Outcome = Literal["done", "deadline"]
"""Of a reranking: in the reranker's order, or left in the order it was given because time was up."""
RECALL = 0.99
"""Of the ten and hundred best, the share that a search must find on average, where nothing else is asked."""
Expand = int | Literal["section"]
"""What a hit is widened to: so many chunks on each side, or the section that it stands in."""
Stage = Literal[
    "no_chunks",
    "filtered",
    "quoted",
    "candidates",
    "score_threshold",
    "duplicate",
    "max_per_document",
    "top_k",
    "returned",
]
"""Where a passage left the search, in the order of the search."""


def is_unicode(text: str) -> bool:
    """Whether a string can be stored: lone surrogates, which JSON can smuggle in, have no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Page:
    """Page (slide, sheet) `number`, counted from 1, begins at offset `start`."""

    number: int
    start: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of `level` 1 to 6 whose line begins at offset `start`."""

    level: int
    title: str
    start: int


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document: a single immutable text and the marks on it.

    markup: "markdown" where `#` headings, pipe tables and ``` fences carry structure, else "plain".
    pages and headings are in order of `start`; both may be empty. title: None to be named by its file,
    "" for a document that has no title. date: when it says that it was published, YYYY-MM-DD; of web pages.
    """

    text: str
    media_type: str
    title: str | None = None
    markup: Literal["markdown", "plain"] = "plain"
    pages: tuple[Page, ...] = ()
    headings: tuple[Heading, ...] = ()
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text[start:end]` of its version. `context` is embedded before it but is no part of it.

    tokens: by `kb.tokens`, of the text as a model is shown it (`kb.content.fence`) and of what lies between
    it and a neighbour; None where they were not counted.
    """

    start: int
    end: int
    page: int | None = None
    heading: str | None = None
    context: str = ""
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkingPolicy:
    """How documents are cut. Sizes are tokens of the embedder; None keeps each document whole."""

    size: int | None
    overlap: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model as a knowledge base knows it: its name or path, what decides its vectors, and their length."""

    embedder: str
    fingerprint: str
    dim: int


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A named collection of documents under one embedder and one chunking policy.

    building: the model that `kb reembed` prepares. previous: the one that `kb rollback` returns to. recall:
    of the best, the share that its dense index must find on average. metadata: its owner's own words.
    """

    id: str
    name: str
    description: str
    embedder: str
    fingerprint: str
    dim: int
    chunking: ChunkingPolicy
    created_at: str
    documents: int = 0
    chunks: int = 0
    building: str | None = None
    previous: str | None = None
    recall: float = RECALL
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A document as the catalog knows it: its current version and what the user said of it."""

    id: str
    version_id: str
    uri: str
    title: str
    media_type: str
    byte_size: int
    characters: int
    chunks: int
    attributes: Attributes
    created_at: str


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable text of a document, and where that document stands now.

    tokens: by `kb.tokens`; None where they were not counted at ingest. pages: how many; 0 where it has none.
    superseded_by: the version that replaced this one; None while it is current.
    """

    id: str
    content_id: str
    knowledge_base_id: str
    knowledge_base: str
    uri: str
    source: str
    title: str
    media_type: str
    byte_size: int
    characters: int
    tokens: int | None
    language: str
    pages: int
    created_at: str
    superseded_by: str | None


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A version's text with its page marks and headings, in order of `start`."""

    text: str
    pages: tuple[Page, ...]
    headings: tuple[Heading, ...]


@dataclass(frozen=True, slots=True)
class IndexedText:
    """A chunk as the lexical index reads it.

    context: title, headings and table header that stand above it. language: of its document, as a BCP 47
    code; "" is unknown.
    """

    text: str
    context: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """The chunks that a filter keeps: those of `chunks` where `mask` is true.

    chunks: every chunk of a knowledge base, ascending. The same array is passed again for as long as
    nothing changes, so that an index may keep by its identity where its own rows stand in it.
    """

    chunks: Ids
    mask: NDArray[np.bool_]

    @classmethod
    def only(cls, ids: Ids) -> Self:
        """Just these, given ascending."""
        return cls(ids, np.ones(len(ids), bool))

    def __len__(self) -> int:
        return int(np.count_nonzero(self.mask))

    def ids(self) -> Ids:
        """The chunks, ascending."""
        return self.chunks[self.mask]

    def hold(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of some ids are among the chunks, shape (len(ids),)."""
        at = positions(ids, self.chunks)
        return (at >= 0) & self.mask[at] if len(self.mask) else np.zeros(len(ids), bool)


def positions(ids: Ids, ascending: Ids) -> NDArray[np.int64]:
    """Where each of some ids stands in a sorted array, or -1; shape (len(ids),)."""
    if not len(ascending):
        return np.full(len(ids), -1, np.int64)
    at = np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)
    return np.where(ascending[at] == ids, at, -1)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Search result of one index: ids int64 and scores float32, both shape (<=k,), best first.

    exact: whether nothing better can have been missed.
    """

    ids: Ids
    scores: NDArray[np.float32]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Passage:
    """Where one chunk stands."""

    content_id: str
    content_version_id: str
    chunk_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that answers: `text` is exactly the version's text[start:end].

    query: which of the queries it answers best, counted from 0. ranks: in each stage, from 1; None where it
    was only scored along with the candidates of another part; empty unless explained. matches: where the hit
    was widened, the chunks in it that matched, best first. duplicates: what says the same and ranked below.
    """

    knowledge_base_id: str
    chunk_id: int
    content_version_id: str
    content_id: str
    title: str
    uri: str
    text: str
    start: int
    end: int
    page: int | None
    heading: str | None
    score: float
    scores: Mapping[str, float]
    attributes: Attributes
    query: int = 0
    ranks: Mapping[str, int | None] = field(default_factory=dict)
    matches: tuple[Passage, ...] = ()
    duplicates: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentHits:
    """A document that answers, as well as the best of its hits does."""

    knowledge_base_id: str
    content_id: str
    content_version_id: str
    title: str
    uri: str
    attributes: Attributes
    score: float
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and how long each stage took in milliseconds.

    exact: whether every index that was asked looked at all that could match. documents: the hits, where
    they were asked for by document; then `hits` is empty. rerank: what came of a reranking; None where
    none was asked for.
    """

    hits: tuple[Hit, ...]
    timings_ms: Mapping[str, float]
    exact: bool = True
    documents: tuple[DocumentHits, ...] = ()
    rerank: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one chunk in a search.

    stage: where it left. reason: the same as a sentence. rank: its place among what could be returned (of its
    document, where hits are grouped), from 1; a top_k of that much returns it. needed: the score that the
    last place went for. scores, ranks: by part, over everything that the filter keeps.
    """

    passage: Passage
    page: int | None
    heading: str | None
    stage: Stage
    reason: str
    rank: int | None
    needed: float | None
    scores: Mapping[str, float]
    ranks: Mapping[str, int | None]
    duplicate_of: Passage | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document is in the results of a search, or is not.

    stage, reason: of its chunk that came furthest. chunks: its best ones, best first. rerank: as in
    `SearchResult`.
    """

    content_id: str
    title: str
    uri: str
    stage: Stage
    reason: str
    chunks: tuple[Fate, ...]
    timings_ms: Mapping[str, float]
    rerank: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that was refused, and why. kind: as in `kb.errors.DocumentRefused`, or "unreadable"."""

    uri: str
    reason: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did.

    documents: of its folder or job, now in. failures: refused. chunks, embedded and reused (distinct texts):
    of what went in this time. seconds: wall time.
    """

    documents: int = 0
    added: int = 0
    changed: int = 0
    renamed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    failures: tuple[Failure, ...] = field(default=())
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """How many documents were refused."""
        return len(self.failures)


@dataclass(frozen=True, slots=True)
class Reembedded:
    """What became of a change of models.

    switched: whether `embedder` is live now. embedded: texts embedded by this run. before and after: nDCG@10
    on the judged queries under the old and the new model, None where there were none. remark: what to know.
    """

    embedder: str
    previous: str
    switched: bool
    embedded: int
    before: float | None
    after: float | None
    remark: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute against a value, or against several for `in` and `nin`.

    `ne` and `nin` are the negations of `eq` and `in`: a document without the key satisfies them.
    Order comparisons hold between numbers, or between strings by code point (as ISO dates sort).
    """

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str
    value: AttributeValue | tuple[AttributeValue, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """All of the filters, or any of them."""

    type: Literal["and", "or"]
    filters: tuple["Comparison | Compound", ...]


Filter = Comparison | Compound


@dataclass(frozen=True, slots=True)
class Job:
    """Documents accepted for ingestion. status: queued, running, succeeded, failed or cancelled."""

    id: str
    knowledge_base_id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    files: int
    report: IngestReport | None
    error: str | None
    created_at: str
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is listed; the secret itself is shown once, when made."""

    id: str
    name: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a document was deleted.

    seq: the newest change number before. chunks: how many it had. sha256: of its bytes.
    """

    id: str
    knowledge_base_id: str
    content_id: str
    deleted_at: str
    seq: int
    chunks: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Domains:
    """Which places of the web may be used: those of a name and all below it. No allowed one allows all."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


ANYWHERE = Domains()
"""All of them."""


@dataclass(frozen=True, slots=True)
class UserLocation:
    """Where roughly whoever asks is. country: ISO 3166-1, two letters. timezone: IANA."""

    country: str | None = None
    region: str | None = None
    city: str | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class WebHit:
    """A page that a search engine found. published: a date as the engine writes it; "" where it has none."""

    url: str
    title: str
    snippet: str
    published: str = ""
