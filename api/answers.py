"""What callers get: the shapes in OpenAPI, and the frozen nouns of `kb` in those shapes.

The models describe and are never run: an answer is encoded once, from the noun itself, in the thread that
did the work.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from kb import types
from kb.types import AttributeValue


def respond(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response: of a mapping, or of a noun as it is."""
    return Response(
        to_json(value, inf_nan_mode="null"), status, headers=headers, media_type="application/json"
    )


def knowledge_base(kb: types.KnowledgeBase) -> dict[str, Any]:
    """A `KnowledgeBase`."""
    shown = asdict(kb)
    chunking = shown.pop("chunking")
    return {**shown, "chunk_size": chunking["size"], "chunk_overlap": chunking["overlap"]}


def document(content: types.Content) -> dict[str, Any]:
    """A `Document`."""
    shown = asdict(content)
    return {"id": shown.pop("id"), "content_version_id": shown.pop("version_id"), **shown}


def job(done: types.Job) -> dict[str, Any]:
    """A `Job`."""
    shown = asdict(done)
    if done.report:
        shown["report"]["failed"] = done.report.failed
    return shown


class Answer(BaseModel):
    """A shape for OpenAPI; built when that is first asked for."""

    model_config = ConfigDict(defer_build=True)


class KnowledgeBase(Answer):
    """A named collection of documents under one embedder."""

    id: str = Field(examples=["kb_0199f3c2a7de7b2f9a4c1d2e3f405162"])
    name: str = Field(examples=["handbook"])
    description: str = Field(examples=["How the plant is run"])
    embedder: str = Field(examples=["all-MiniLM-L6-v2"])
    fingerprint: str = Field(
        examples=["9f2c4b7d1e0a58364f7b2d9c1a6e8054"], description="Names the model's exact state."
    )
    dim: int = Field(examples=[384])
    chunk_size: int | None = Field(examples=[200], description="null where documents are kept whole.")
    chunk_overlap: int = Field(examples=[0])
    documents: int = Field(examples=[25])
    chunks: int = Field(examples=[310])
    created_at: str = Field(examples=["2025-10-17T09:30:00.000Z"])
    building: str | None = Field(
        examples=["models/other"], description="The model that `kb reembed` prepares, if any."
    )
    previous: str | None = Field(
        examples=["models/before"], description="The model that `kb rollback` returns to, if any."
    )
    recall: float = Field(
        examples=[0.99], description="Of the best, the share that dense search is to find on average."
    )
    metadata: dict[str, str] = Field(examples=[{}], description="As a vector store has it.")


class KnowledgeBases(Answer):
    """All of them, by name."""

    data: list[KnowledgeBase]


class Deleted(Answer):
    """What is gone."""

    id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    deleted: Literal[True] = True


class Document(Answer):
    """A document; `content_version_id` is the version that is searched now."""

    id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    uri: str = Field(examples=["operations/startup.md"])
    title: str = Field(examples=["Starting the plant"])
    media_type: str = Field(examples=["text/markdown"])
    byte_size: int = Field(examples=[5120])
    characters: int = Field(examples=[5080])
    chunks: int = Field(examples=[8])
    attributes: dict[str, AttributeValue] = Field(examples=[{"team": "operations"}])
    created_at: str = Field(examples=["2025-10-17T09:31:00.000Z"])


class Documents(Answer):
    """A page of documents; ask on with `after` set to the last id while `has_more`."""

    data: list[Document]
    has_more: bool = Field(examples=[False])


class Failure(Answer):
    """A document that was refused, and why."""

    uri: str = Field(examples=["scan.pdf"])
    reason: str = Field(examples=["no text: the pages are scanned images without a text layer"])
    kind: str = Field(
        examples=["no_text"],
        description="`unsupported_format`, `broken`, `no_text`, `too_large` or `unreadable`;"
        " empty where it was not noted.",
    )


class Failures(Answer):
    """The quarantine of a knowledge base."""

    data: list[Failure]


class IngestReport(Answer):
    """Counts of one ingest. `embedded` and `reused` count distinct texts."""

    documents: int = Field(examples=[1])
    added: int = Field(examples=[1])
    changed: int = Field(examples=[0])
    renamed: int = Field(examples=[0])
    unchanged: int = Field(examples=[0])
    removed: int = Field(examples=[0])
    chunks: int = Field(examples=[8])
    embedded: int = Field(examples=[8])
    reused: int = Field(examples=[0])
    failures: list[Failure] = Field(examples=[[]])
    seconds: float = Field(examples=[0.21])
    failed: int = Field(examples=[0])


class Job(Answer):
    """Documents that were accepted; `report` and `finished_at` are there once it is done."""

    id: str = Field(examples=["job_0199f3c2c3e87f5a8b1c2d3e4f506172"])
    knowledge_base_id: str = Field(examples=["kb_0199f3c2a7de7b2f9a4c1d2e3f405162"])
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] = Field(examples=["succeeded"])
    files: int = Field(examples=[1])
    report: IngestReport | None
    error: str | None = Field(examples=[None])
    created_at: str = Field(examples=["2025-10-17T09:31:00.000Z"])
    finished_at: str | None = Field(examples=["2025-10-17T09:31:00.300Z"])


class Passage(Answer):
    """Where one chunk stands."""

    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    chunk_id: int = Field(examples=[42])
    start: int = Field(examples=[512])
    end: int = Field(examples=[554])


class Hit(Answer):
    """A passage that answers. `GET /v1/contents/{content_version_id}?start&end` gives `text` again."""

    knowledge_base_id: str = Field(examples=["kb_0199f3c2a7de7b2f9a4c1d2e3f405162"])
    chunk_id: int = Field(examples=[42])
    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    title: str = Field(examples=["Starting the plant"])
    uri: str = Field(examples=["operations/startup.md"])
    text: str = Field(examples=["Open the valve first, then start the pump."])
    start: int = Field(examples=[512], description="In Unicode code points of the version's text.")
    end: int = Field(examples=[554], description="Exclusive.")
    page: int | None = Field(examples=[3])
    heading: str | None = Field(examples=["Starting the plant > Pump"])
    score: float = Field(examples=[3.1])
    scores: dict[str, float] = Field(examples=[{"dense": 0.71, "lexical": 9.4}])
    attributes: dict[str, AttributeValue] = Field(examples=[{"team": "operations"}])
    query: int = Field(examples=[0], description="Which of the queries it answers best, counted from 0.")
    ranks: dict[str, int | None] = Field(
        examples=[{"dense": 1, "lexical": None, "fused": 2}],
        description="With `explain`, in each stage, from 1; null where it was only scored along.",
    )
    matches: list[Passage] = Field(description="With `expand`, what matched in the wider span, best first.")
    duplicates: list[Passage] = Field(
        examples=[[]], description="With `collapse_duplicates`, what says the same and ranked below."
    )


class DocumentHits(Answer):
    """A document that answers, as well as the best of its hits does."""

    knowledge_base_id: str = Field(examples=["kb_0199f3c2a7de7b2f9a4c1d2e3f405162"])
    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    title: str = Field(examples=["Starting the plant"])
    uri: str = Field(examples=["operations/startup.md"])
    attributes: dict[str, AttributeValue] = Field(examples=[{"team": "operations"}])
    score: float = Field(examples=[3.1])
    hits: list[Hit]


class SearchAnswer(Answer):
    """Hits, best first, and where the time went; with `group_by` they stand under `documents`."""

    hits: list[Hit]
    timings_ms: dict[str, float] = Field(
        examples=[{"embed": 2.9, "dense": 0.2, "lexical": 0.4, "total": 4.2}]
    )
    exact: bool = Field(examples=[True], description="Whether nothing better can have been missed.")
    documents: list[DocumentHits] = Field(examples=[[]])
    rerank: Literal["done", "deadline"] | None = Field(
        examples=[None],
        description="Whether the hits are in the cross-encoder's order (`scores.rerank`; `score` is not it)"
        " or, because time was up, in the order without it; null where none was asked for.",
    )


class Fate(Answer):
    """What became of one chunk in a search."""

    passage: Passage
    page: int | None = Field(examples=[3])
    heading: str | None = Field(examples=["Starting the plant > Pump"])
    stage: types.Stage = Field(examples=["top_k"])
    reason: str = Field(
        examples=["it would come with hit 4, and top_k is 3; the last place went for a score of 2.9"]
    )
    rank: int | None = Field(examples=[4], description="A `top_k` of that much returns it.")
    needed: float | None = Field(examples=[2.9], description="The score that the last place went for.")
    scores: dict[str, float] = Field(examples=[{"dense": 0.71, "lexical": 9.4, "fused": 2.1}])
    ranks: dict[str, int | None] = Field(examples=[{"dense": 3, "lexical": 5, "fused": 4}])
    duplicate_of: Passage | None = Field(examples=[None])


class Explanation(Answer):
    """Why a document is in the results of a search, or which stage dropped its best chunks."""

    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    title: str = Field(examples=["Starting the plant"])
    uri: str = Field(examples=["operations/startup.md"])
    stage: types.Stage = Field(examples=["top_k"])
    reason: str = Field(
        examples=["it would come with hit 4, and top_k is 3; the last place went for a score of 2.9"]
    )
    chunks: list[Fate]
    timings_ms: dict[str, float] = Field(examples=[{"embed": 2.9, "explain": 1.1, "total": 6.0}])
    rerank: Literal["done", "deadline"] | None = Field(
        examples=[None], description="As in the answer of the search."
    )


class Text(Answer):
    """A span of a version's text: `text` is exactly text[start:end]."""

    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    start: int = Field(examples=[512])
    end: int = Field(examples=[554])
    text: str = Field(examples=["Open the valve first, then start the pump."])
    page: int | None = Field(examples=[None])
    heading: str | None = Field(examples=["Cold start"], description="The one above `start`.")
    superseded_by: str | None = Field(examples=[None], description="The version that replaced this one.")


class Tool(Answer):
    """A tool that a model can be given; POST its arguments to /v1/tools/{name}."""

    name: str = Field(examples=["peek_content"])
    description: str = Field(examples=["Read a part of a content version."])
    input_schema: dict[str, Any] = Field(examples=[{"type": "object"}])
    output_schema: dict[str, Any] = Field(examples=[{"type": "object"}])
    function: dict[str, Any] = Field(
        examples=[{"type": "function", "name": "peek_content"}],
        description="As OpenAI's Responses API takes it.",
    )


class Tools(Answer):
    """Every tool."""

    data: list[Tool]


class Window(Answer):
    """Tokens of a model's window, and who has them."""

    size: int = Field(examples=[1047576])
    output: int = Field(examples=[8192], description="Kept free for the answer.")
    instructions: int = Field(examples=[0])
    history: int = Field(examples=[0])
    tools: int = Field(examples=[0])
    margin: int = Field(examples=[5238], description="Kept free, since endpoints count a little differently.")
    context: int = Field(examples=[2000], description="For passages.")


class PackedPassage(Answer):
    """A passage as it was packed; the model sees it under `[number]`."""

    number: int = Field(examples=[1])
    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    start: int = Field(examples=[0])
    end: int = Field(examples=[42])
    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    title: str = Field(examples=["Starting the plant"])
    uri: str = Field(examples=["operations/startup.md"])
    tokens: int = Field(examples=[96], description="With its reference, at the most.")


class LeftOut(Answer):
    """What was found and is not in the context."""

    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    start: int = Field(examples=[0])
    end: int = Field(examples=[42])
    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    title: str = Field(examples=["Starting the plant"])
    uri: str = Field(examples=["operations/startup.md"])
    reason: str = Field(examples=["it does not fit into what the window leaves"])


class CallCredits(Answer):
    """Credits of the call at one tier, as decimals in strings."""

    input: str = Field(examples=["0.51072"])
    most: str = Field(examples=["174.83648"], description="With the longest answer.")


class Context(Answer):
    """A packed context and its receipt."""

    text: str = Field(examples=['[1] "Starting the plant" in "operations/startup.md" …'])
    tokens: int = Field(examples=[96], description="o200k_base, never more than `window.context`.")
    cached_tokens: int = Field(examples=[0], description="Of them, those that `before` had at the beginning.")
    window: Window
    passages: list[PackedPassage]
    left_out: list[LeftOut]
    model: str = Field(examples=["gpt-4.1-mini"])
    credits: dict[str, CallCredits] = Field(
        examples=[{"standard": {"input": "0.51072", "most": "174.83648"}}], description="By tier."
    )


class LanguageModel(Answer):
    """A language model. Rates are decimals, written as strings; a tier without one is refused."""

    id: str = Field(examples=["gpt-4.1-mini"])
    object: Literal["model"] = "model"
    created: int = Field(examples=[1744588800], description="When it was released, in seconds; 0: not known.")
    owned_by: str = Field(examples=["kb"])
    context_window: int = Field(examples=[1047576], description="Tokens that it reads.")
    max_output_tokens: int = Field(examples=[8192], description="Tokens that it writes.")
    knowledge_cutoff: str | None = Field(examples=["2024-06-01"])
    released: str | None = Field(examples=["2025-04-14"])
    input: list[str] = Field(examples=[["text", "image"]])
    output: list[str] = Field(examples=[["text"]])
    languages: list[str] = Field(examples=[[]], description="Empty where none are published.")
    tools: bool = Field(examples=[True])
    endpoints: list[str] = Field(examples=[["responses", "chat"]])
    tokenizer: str = Field(examples=["o200k_base"])
    credits_per_1000_tokens: dict[str, Any] = Field(
        examples=[{"cache_hit": "1.33", "standard": {"input": "5.32", "output": "21.28"}}]
    )


class LanguageModels(Answer):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[LanguageModel]


class RequestSchema(Answer):
    """A JSON Schema (2020-12) with its definitions."""

    type: Literal["object"] = "object"
    properties: dict[str, Any] = Field(examples=[{"model": {"const": "gpt-4.1-mini"}}])
    required: list[str] = Field(examples=[["input", "model"]])
    additionalProperties: Literal[False] = False


class Status(Answer):
    """Alive, or ready."""

    status: str = Field(examples=["ok"])


class ErrorDetail(Answer):
    """What went wrong. `code` is stable; `param` is the field at fault, in dotted form."""

    message: str = Field(examples=["top_k: Input should be less than or equal to 1000"])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(examples=["top_k"])
    code: str = Field(examples=["invalid_input"])


class Error(Answer):
    """The body of every answer that is not a success."""

    error: ErrorDetail
