"""What callers send, checked. Limits repeat those that `kb` holds, so that OpenAPI shows them."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from kb.catalog.attributes import checked
from kb.catalog.knowledge_bases import LEAST_RECALL, MOST_RECALL
from kb.context.pack import LEAST_BUDGET
from kb.errors import InvalidInput
from kb.search.core import MAX_QUERIES, MAX_QUERY
from kb.search.filters import parse_filter
from kb.search.rerank import MAX_DEADLINE_MS, MAX_DEPTH, Rerank
from kb.search.shape import MAX_NEIGHBOURS, MAX_TOP_K, parse_expand
from kb.types import AttributeValue, ChunkingPolicy, Mode

MAX_KNOWLEDGE_BASES = 64
"""Searched at once."""

MAX_DOCUMENTS = 1000
"""Sent at once."""


# What Python does not strip; to other readers of patterns the four behind \s are no spaces.
NOT_BLANK = r"[^\s\u001c-\u001f\u0085]"


def _attribute(value: object) -> AttributeValue:
    try:
        return checked({"value": value})["value"]
    except InvalidInput as error:
        raise PydanticCustomError("attribute", "{reason}", {"reason": str(error)}) from None


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Behind the bounds of a whole number: JSON does not tell 3.0 from 3, and some clients write the former."""

Attribute = Annotated[
    Any,
    PlainValidator(_attribute),
    WithJsonSchema({"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]}),
]
Attributes = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Attribute],
    Field(
        max_length=16,
        description="Up to 16 values of your own, to filter by.",
        examples=[{"team": "operations"}],
    ),
]
Name = Annotated[
    str,
    Field(min_length=1, max_length=128, description="Printable, unique, without '/'.", examples=["handbook"]),
]
DocumentName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        description="The same name again replaces the document.",
        examples=["note.md"],
        json_schema_extra={"pattern": NOT_BLANK},
    ),
    AfterValidator(_not_blank),
]
Description = Annotated[str, Field(max_length=10_000, examples=["How the plant is run"])]


class Sent(BaseModel):
    """Something a caller sends; a field that is not known is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid", strict=True)
    example: ClassVar[dict[str, Any]]


class NewKnowledgeBase(Sent):
    """A knowledge base to make."""

    example = {"name": "handbook", "description": "How the plant is run", "chunk_size": 200}

    name: Name
    description: Description = ""
    embedder: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="A sentence-transformers model by name or path; the server's default if left out."
    )
    chunk_size: Annotated[int, Field(ge=16, le=1_000_000, strict=True), WHOLE] | None = Field(
        None,
        description="Tokens, at most what the model reads. null keeps documents whole; leave it out for the"
        " default.",
    )
    chunk_overlap: Annotated[int, Field(ge=0, le=500_000, strict=True), WHOLE] = Field(
        0,
        description="Tokens that neighbours share: half of chunk_size, which it needs, at most.",
    )

    def chunking(self) -> ChunkingPolicy | None:
        """The policy asked for; None for the default. Raises InvalidInput."""
        if self.chunk_overlap and self.chunk_size is None:
            raise InvalidInput("chunk_overlap needs a chunk_size", param="chunk_overlap")
        if "chunk_size" not in self.model_fields_set:
            return None
        return ChunkingPolicy(self.chunk_size, self.chunk_overlap)


class KnowledgeBaseChange(Sent):
    """What to change; a field left out, or null, stays as it is."""

    example = {"description": "How the plant is run and mended"}

    name: Name | None = None
    description: Description | None = None
    recall: Annotated[float, Field(ge=LEAST_RECALL, le=MOST_RECALL)] | None = Field(
        None,
        description="Of the best, the share that dense search finds on average; the index follows in the "
        "background. Up to 10,000 chunks it finds all.",
    )


class NewDocument(Sent):
    """A document as text. A name that ends in .md, .html or .csv says how the text is to be read."""

    example = {
        "name": "note.md",
        "text": "# Pump\nOpen the valve first.",
        "attributes": {"team": "operations"},
    }

    name: DocumentName
    text: str = Field(min_length=1)
    attributes: Attributes = Field(default_factory=dict)


class NewDocuments(Sent):
    """Documents to take in."""

    example = {"documents": [NewDocument.example]}

    documents: list[NewDocument] = Field(min_length=1, max_length=MAX_DOCUMENTS)


# What `kb` checks itself, so that a fault names its place.
_QUERY = {"type": "string", "minLength": 1, "maxLength": MAX_QUERY, "pattern": NOT_BLANK}
Queries = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [_QUERY, {"type": "array", "items": _QUERY, "minItems": 1, "maxItems": MAX_QUERIES}]}
    ),
]
_NEIGHBOURS = {"type": "integer", "minimum": 1, "maximum": MAX_NEIGHBOURS}
Expand = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "section"},
                {
                    "type": "object",
                    "properties": {"neighbours": _NEIGHBOURS},
                    "required": ["neighbours"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ]
        }
    ),
]


Filters = Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Filter"})]
"""Checked by `kb`; its schema is put beside these models by api/openapi.py."""


class SearchOptions(Sent):
    """What decides which passages come back."""

    example = {"top_k": 3, "mode": "hybrid"}

    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, strict=True), WHOLE] = Field(
        10, description="Hits, or documents with `group_by`."
    )
    mode: Mode = "hybrid"
    filters: Filters | None = Field(
        None,
        description='`{"type":"eq|ne|gt|gte|lt|lte|in|nin","key":…,"value":…}`'
        ' or `{"type":"and|or","filters":[…]}`.',
    )
    score_threshold: float | None = Field(
        None, allow_inf_nan=False, strict=True, description="Drop hits that score less."
    )
    dense_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        strict=True,
        description="What meaning counts in hybrid mode against words; 0.5, both alike, unless configured.",
    )
    max_per_document: Annotated[int, Field(ge=1, le=MAX_TOP_K, strict=True), WHOLE] | None = Field(
        None, description="Hits of one document; 3 with `group_by`."
    )
    collapse_duplicates: bool = Field(
        False,
        strict=True,
        description="Passages that say the same come once; `duplicates` names the others.",
    )
    group_by: Literal["document"] | None = Field(
        None, description="`documents` with their hits instead of `hits`."
    )

    rerank: bool = Field(
        False,
        strict=True,
        description="Put the best hits into the order of the server's cross-encoder (KB_RERANKER).",
    )
    rerank_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH, strict=True), WHOLE] = Field(
        20, description="How many of the best."
    )
    rerank_deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS, strict=True), WHOLE] = Field(
        1000, description="After this the order stays as it was."
    )

    def choices(self) -> dict[str, Any]:
        """Arguments of `Service.search` and `Service.explain`. Raises InvalidFilter."""
        return {
            "top_k": self.top_k,
            "mode": self.mode,
            "where": None if self.filters is None else parse_filter(self.filters),
            "score_threshold": self.score_threshold,
            "dense_weight": self.dense_weight,
            "max_per_document": self.max_per_document,
            "collapse_duplicates": self.collapse_duplicates,
            "group_by": self.group_by,
            "rerank": Rerank(self.rerank_depth, self.rerank_deadline_ms) if self.rerank else None,
        }


class SearchRequest(SearchOptions):
    """A question to one knowledge base, or up to 16 that are answered as one."""

    example = {
        "query": "How is the pump started?",
        "top_k": 3,
        "mode": "hybrid",
        "filters": {"type": "eq", "key": "team", "value": "operations"},
    }

    query: Queries = Field(
        description="Of several, each passage is ranked by the one that it answers best, named in `query`."
    )
    expand: Expand = Field(
        None,
        description='`{"neighbours": n}` for as many chunks on each side, `"section"` for all under the'
        " heading above; hits that come to overlap become one.",
    )
    explain: bool = Field(False, strict=True, description="Tell each hit's ranks.")

    def options(self) -> dict[str, Any]:
        """Arguments of `Service.search`. Raises InvalidInput."""
        expand = None if self.expand is None else parse_expand(self.expand)
        return {**self.choices(), "expand": expand, "explain": self.explain}


_KB = "kb_0199f3c2a7de7b2f9a4c1d2e3f405162"


class SearchSeveralRequest(SearchRequest):
    """A question to several knowledge bases that share an embedder."""

    example = {"query": "How is the pump started?", "knowledge_base_ids": ["handbook"]}

    knowledge_base_ids: list[Annotated[str, Field(min_length=1, max_length=128, examples=[_KB])]] = Field(
        min_length=1, max_length=MAX_KNOWLEDGE_BASES, description="Ids or names.", examples=[[_KB]]
    )


class Message(Sent):
    """A message of the conversation so far."""

    example = {"role": "user", "content": "Hello"}

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class PackedSpan(Sent):
    """A passage as a receipt lists it."""

    example = {"content_version_id": "ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6", "start": 0, "end": 42}

    content_version_id: str = Field(min_length=1, max_length=64)
    start: Annotated[int, Field(ge=0, le=2**53, strict=True), WHOLE]
    end: Annotated[int, Field(ge=0, le=2**53, strict=True), WHOLE]


class ContextRequest(Sent):
    """A question, and the call of a model that its passages are to go into."""

    example = {"query": "How is the pump started?", "knowledge_base_ids": ["handbook"], "max_tokens": 2000}

    query: Queries
    knowledge_base_ids: list[Name] = Field(
        min_length=1, max_length=MAX_KNOWLEDGE_BASES, description="Ids or names.", examples=[["handbook"]]
    )
    model: str = Field("gpt-4.1-mini", min_length=1, max_length=128, description="One of GET /v1/models.")
    max_tokens: Annotated[int, Field(ge=LEAST_BUDGET, le=2**31, strict=True), WHOLE] | None = Field(
        None, description="Of the context; what the window leaves."
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31, strict=True), WHOLE] | None = Field(
        None, description="The model's most."
    )
    instructions: str = ""
    history: list[Message] = Field(default_factory=list, max_length=10_000)
    tools: list[dict[str, Any]] = Field(default_factory=list, max_length=1000)
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, strict=True), WHOLE] | None = Field(
        None, description="Hits to begin with."
    )
    mode: Mode = "hybrid"
    filters: Filters | None = Field(None, description="As in a search.")
    before: list[PackedSpan] = Field(
        default_factory=list,
        max_length=10_000,
        description="`passages` of the call before: they stay the beginning of the context, word for word.",
    )


class ExplainRequest(SearchOptions):
    """A document, and the search that it is or is not in the results of."""

    example = {
        "query": "How is the pump started?",
        "content_id": "doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
        "top_k": 3,
    }

    query: Annotated[
        str,
        Field(min_length=1, max_length=MAX_QUERY, json_schema_extra={"pattern": NOT_BLANK}),
        AfterValidator(_not_blank),
    ]
    content_id: str = Field(min_length=1, max_length=64)
