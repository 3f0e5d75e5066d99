"""What the `openai` SDK sends to files, vector stores and embeddings, checked."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api.schemas import NOT_BLANK, WHOLE, Attributes, Description, Filters, Name, Queries, Sent
from kb.search.filters import parse_filter
from kb.types import ChunkingPolicy

MAX_FILES = 2000
"""Of one batch."""

MAX_INPUTS = 2048
"""Texts embedded at once."""


def refused(reason: str) -> PlainValidator:
    """A field that the SDK has and that cannot be meant here: null, or the reason."""

    def check(value: object) -> None:
        if value is not None:
            raise PydanticCustomError("unsupported", "{reason}", {"reason": reason})

    return PlainValidator(check)


Never = Annotated[
    None,
    refused("nothing expires here; delete it when it is no longer needed"),
    WithJsonSchema({"type": "null"}),
]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16, description="Up to 16 texts of your own.", examples=[{"team": "operations"}]),
]
FileId = Annotated[
    str, Field(min_length=1, max_length=64, examples=["file_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
]


class StaticChunking(Sent):
    """Sizes in tokens of the embedding model; brought down to what that can read."""

    example: ClassVar[dict[str, Any]] = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 40}

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096, strict=True), WHOLE]
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=2048, strict=True), WHOLE] = Field(
        description="At most half of the size."
    )

    @model_validator(mode="after")
    def _half(self) -> Self:
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise PydanticCustomError("overlap", "chunk_overlap_tokens is at most half of the size")
        return self


class ChunkingStrategy(Sent):
    """How a file is cut: `auto` as its vector store says, `static` by sizes."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {"type": {"const": "auto"}, "static": {"type": "null"}}},
                {
                    "properties": {"type": {"const": "static"}, "static": {"type": "object"}},
                    "required": ["static"],
                },
            ]
        }
    )

    example: ClassVar[dict[str, Any]] = {"type": "static", "static": StaticChunking.example}

    type: Literal["auto", "static"]
    static: StaticChunking | None = Field(None, description="With type `static`, and only then.")

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.type == "static") != (self.static is not None):
            raise PydanticCustomError("strategy", "type static has static, type auto has not")
        return self

    def policy(self) -> ChunkingPolicy | None:
        """None for that of the vector store."""
        if self.static is None:
            return None
        return ChunkingPolicy(self.static.max_chunk_size_tokens, self.static.chunk_overlap_tokens)


class NewVectorStore(Sent):
    """A vector store to make, which is a knowledge base; every field may be left out."""

    example: ClassVar[dict[str, Any]] = {"name": "handbook", "metadata": {"team": "operations"}}

    name: Name | None = None
    description: Description | None = None
    file_ids: Annotated[list[FileId], Field(max_length=MAX_FILES)] | None = None
    metadata: Metadata | None = None
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: Never = None


class VectorStoreChange(Sent):
    """What to change; a field left out stays as it is."""

    example: ClassVar[dict[str, Any]] = {"name": "handbook", "metadata": {"team": "maintenance"}}

    name: Name | None = None
    metadata: Metadata | None = Field(None, description="null for none.")
    expires_after: Never = None


class NewVectorStoreFile(Sent):
    """A file to attach."""

    example: ClassVar[dict[str, Any]] = {
        "file_id": "file_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
        "attributes": {"team": "operations"},
    }

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class FileChange(Sent):
    """Attributes, all of them anew."""

    example: ClassVar[dict[str, Any]] = {"attributes": {"team": "maintenance"}}

    attributes: Attributes | None = Field(description="null for none.")


class NewFileBatch(Sent):
    """Files to attach: `file_ids`, or `files`, which say more of each; nothing beside them is then used."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {name: {"type": "array"}, other: {"type": "null"}}, "required": [name]}
                for name, other in (("file_ids", "files"), ("files", "file_ids"))
            ]
        }
    )

    example: ClassVar[dict[str, Any]] = {"file_ids": ["file_0199f3c2b1047d6e8f30a1b2c3d4e5f6"]}

    file_ids: Annotated[list[FileId], Field(min_length=1, max_length=MAX_FILES)] | None = None
    files: Annotated[list[NewVectorStoreFile], Field(min_length=1, max_length=MAX_FILES)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise PydanticCustomError("files", "send file_ids or files, and not both")
        return self

    def all(self) -> list[NewVectorStoreFile]:
        """Each file with what is said of it; one that `file_ids` names twice comes once."""
        if self.files is not None:
            return self.files
        return [
            NewVectorStoreFile(
                file_id=file_id, attributes=self.attributes, chunking_strategy=self.chunking_strategy
            )
            for file_id in dict.fromkeys(self.file_ids or ())
        ]


class HybridSearch(Sent):
    """What meaning counts against words; only how the two compare matters."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {name: {"exclusiveMinimum": 0}}}
                for name in ("embedding_weight", "text_weight")
            ]
        }
    )

    example: ClassVar[dict[str, Any]] = {"embedding_weight": 1, "text_weight": 1}

    embedding_weight: float = Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True)
    text_weight: float = Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.embedding_weight + self.text_weight <= 0:
            raise PydanticCustomError("weights", "one of the weights is above 0")
        return self

    def dense_weight(self) -> float:
        """As `Service.search` takes it."""
        return self.embedding_weight / (self.embedding_weight + self.text_weight)


class RankingOptions(Sent):
    """How results are ranked, and how near they must be."""

    example: ClassVar[dict[str, Any]] = {"ranker": "auto", "score_threshold": 0.6}

    ranker: Annotated[str, Field(pattern=r"^(none|auto|default-\d{4}-\d{2}-\d{2})$")] | None = Field(
        None, description="All rank alike here: by meaning and words, weighted as in `hybrid_search`."
    )
    score_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        strict=True,
        description="Results with a lower `score` are left out.",
    )
    hybrid_search: HybridSearch | None = None


class VectorStoreSearch(Sent):
    """A question to a vector store, or up to 16 that are answered as one."""

    example: ClassVar[dict[str, Any]] = {
        "query": "How is the pump started?",
        "max_num_results": 3,
        "filters": {"type": "eq", "key": "team", "value": "operations"},
    }

    query: Queries
    filters: Filters | None = Field(
        None,
        description='`{"type":"eq|ne|gt|gte|lt|lte|in|nin","key":…,"value":…}`'
        ' or `{"type":"and|or","filters":[…]}`.',
    )
    max_num_results: Annotated[int, Field(ge=1, le=50, strict=True), WHOLE] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: Annotated[
        bool | None,
        PlainValidator(lambda value: _unchanged(value)),
        WithJsonSchema({"anyOf": [{"const": False}, {"type": "null"}]}),
    ] = Field(False, description="A query is searched as it is sent.")

    def options(self) -> dict[str, Any]:
        """Arguments of `Service.search`. Raises InvalidFilter."""
        ranking = self.ranking_options or RankingOptions.model_validate({})
        weights = ranking.hybrid_search
        # Meaning alone is the dense search, whose order is that of similarity.
        mode = "dense" if weights is not None and weights.text_weight == 0 else "hybrid"
        return {
            "mode": mode,
            "top_k": self.max_num_results,
            "where": None if self.filters is None else parse_filter(self.filters),
            "least_similarity": ranking.score_threshold,
            "dense_weight": weights and weights.dense_weight(),
        }


def _unchanged(value: object) -> object:
    if value is not None and value is not False:
        raise PydanticCustomError("unsupported", "queries are searched as they are sent; leave it out")
    return value


def _texts(value: object) -> list[str]:
    several: list[Any] = value if isinstance(value, list) else [value]
    if not 1 <= len(several) <= MAX_INPUTS:
        raise PydanticCustomError("input", "input is a text, or 1 to {most} of them", {"most": MAX_INPUTS})
    for one in several:
        if isinstance(one, int | list):
            message = "send texts: tokens of another vocabulary mean nothing to this model"
            raise PydanticCustomError("tokens", message)
        if not isinstance(one, str) or not one.strip():
            raise PydanticCustomError("input", "input is a text that is not blank, or several")
    return several


class NewEmbeddings(Sent):
    """Texts to embed, as passages are."""

    example: ClassVar[dict[str, Any]] = {"input": ["Open the valve first."], "model": "all-MiniLM-L6-v2"}

    input: Annotated[
        list[str],
        PlainValidator(_texts),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "minLength": 1, "pattern": NOT_BLANK},
                    {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1, "pattern": NOT_BLANK},
                        "minItems": 1,
                        "maxItems": MAX_INPUTS,
                    },
                ]
            }
        ),
    ] = Field(description="What is longer than the model reads is cut.")
    model: str = Field(
        min_length=1, max_length=512, description="The server's default, or that of a knowledge base."
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of the bytes of float32, little-endian."
    )
    dimensions: Annotated[int, Field(ge=1, strict=True), WHOLE] | None = Field(
        None, description="Only the model's own number."
    )
    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="Not used.")
