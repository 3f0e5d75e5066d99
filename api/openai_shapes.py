"""What the `openai` SDK parses, for OpenAPI: files, vector stores, their search, embeddings."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Answer
from kb.types import AttributeValue

_FILE = "file_0199f3c2b1047d6e8f30a1b2c3d4e5f6"
_STORE = "kb_0199f3c2a7de7b2f9a4c1d2e3f405162"
_STRATEGY = {"type": "static", "static": {"max_chunk_size_tokens": 120, "chunk_overlap_tokens": 0}}
_JOB = "job_0199f3c2c3e87f5a8b1c2d3e4f506172"


class File(Answer):
    """Bytes under a name."""

    id: str = Field(examples=[_FILE])
    object: Literal["file"] = "file"
    bytes: int = Field(examples=[5120])
    created_at: int = Field(examples=[1760693400], description="Unix seconds, as in all of these.")
    filename: str = Field(examples=["startup.md"])
    purpose: str = Field(examples=["assistants"])
    status: Literal["processed"] = "processed"
    status_details: str | None = Field(examples=[None])
    expires_at: int | None = Field(examples=[None])


class Listing(Answer):
    """A page of a list; ask on with `after` set to `last_id` while `has_more`."""

    object: Literal["list"] = "list"
    first_id: str | None = Field(examples=[None])
    last_id: str | None = Field(examples=[None])
    has_more: bool = Field(examples=[False])


class Files(Listing):
    """A page of files."""

    data: list[File]


class FileDeleted(Answer):
    """The file is gone, and every document that was made of it."""

    id: str = Field(examples=[_FILE])
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class FileCounts(Answer):
    """Files by how far they are."""

    in_progress: int = Field(examples=[0])
    completed: int = Field(examples=[25])
    failed: int = Field(examples=[0])
    cancelled: int = Field(examples=[0])
    total: int = Field(examples=[25])


class VectorStore(Answer):
    """A knowledge base, as the `openai` SDK has it."""

    id: str = Field(examples=[_STORE])
    object: Literal["vector_store"] = "vector_store"
    created_at: int = Field(examples=[1760693400])
    name: str = Field(examples=["handbook"])
    description: str = Field(examples=["How the plant is run"])
    status: Literal["in_progress", "completed"] = Field(examples=["completed"])
    usage_bytes: int = Field(examples=[128000], description="Of the documents as they were sent.")
    file_counts: FileCounts
    metadata: dict[str, str] = Field(examples=[{"team": "operations"}])
    last_active_at: int | None = Field(examples=[None])
    expires_after: None = Field(examples=[None])
    expires_at: int | None = Field(examples=[None])


class VectorStores(Listing):
    """A page of vector stores: of all knowledge bases, however they were made."""

    data: list[VectorStore]


class VectorStoreDeleted(Answer):
    """The vector store is gone with its documents; its files stay."""

    id: str = Field(examples=[_STORE])
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: Literal[True] = True


class LastError(Answer):
    """Why a file did not go in."""

    code: Literal["server_error", "unsupported_file", "invalid_file"] = Field(examples=["invalid_file"])
    message: str = Field(examples=["no text: the pages are scanned images without a text layer"])


class VectorStoreFile(Answer):
    """A document. One that came otherwise than as a file stands under its content id, and is `completed`."""

    id: str = Field(examples=[_FILE])
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int = Field(examples=[1760693400], description="When it was attached.")
    vector_store_id: str = Field(examples=[_STORE])
    status: Literal["in_progress", "completed", "failed", "cancelled"] = Field(examples=["completed"])
    usage_bytes: int = Field(examples=[5120])
    last_error: LastError | None = Field(examples=[None])
    attributes: dict[str, AttributeValue] = Field(examples=[{"team": "operations"}])
    chunking_strategy: dict[str, Any] = Field(
        examples=[_STRATEGY], description="As it was cut; type `other` where documents are kept whole."
    )
    filename: str = Field(examples=["startup.md"])
    content_id: str | None = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    content_version_id: str | None = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])


class VectorStoreFiles(Listing):
    """A page of files, in the order in which they, or the documents, came in."""

    data: list[VectorStoreFile]


class VectorStoreFileDeleted(Answer):
    """The document is gone; its file stays."""

    id: str = Field(examples=[_FILE])
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: Literal[True] = True


class TextContent(Answer):
    """Text."""

    type: Literal["text"] = "text"
    text: str = Field(examples=["Open the valve first, then start the pump."])


class FileContent(Answer):
    """The whole text of a document as it was read, in one piece."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextContent]
    has_more: bool = Field(examples=[False])
    next_page: str | None = Field(examples=[None])
    file_id: str = Field(examples=[_FILE])
    filename: str = Field(examples=["startup.md"])
    attributes: dict[str, AttributeValue] = Field(examples=[{"team": "operations"}])


class FileBatch(Answer):
    """Files that were attached together; its id is that of their job."""

    id: str = Field(examples=[_JOB])
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int = Field(examples=[1760693400])
    vector_store_id: str = Field(examples=[_STORE])
    status: Literal["in_progress", "completed", "failed", "cancelled"] = Field(examples=["completed"])
    file_counts: FileCounts


class Result(Answer):
    """A passage: `content` is exactly the text that `start` to `end` of the content version names."""

    file_id: str = Field(examples=[_FILE])
    filename: str = Field(examples=["startup.md"])
    score: float = Field(
        examples=[0.81],
        description="How near the passage is to the query in meaning, (1 + cosine) / 2: 1 says the same, 0.5"
        " has nothing to do with it. Comparable across queries and answers. Results are in order of"
        " relevance, in which words count too, so not always in that of `score`.",
    )
    attributes: dict[str, AttributeValue] = Field(examples=[{"team": "operations"}])
    content: list[TextContent]
    content_id: str = Field(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    content_version_id: str = Field(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])
    start: int = Field(examples=[512])
    end: int = Field(examples=[554])
    page: int | None = Field(examples=[3])
    heading: str | None = Field(examples=["Starting the plant > Pump"])


class Results(Answer):
    """Passages, the most relevant first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: str | list[str] = Field(examples=["How is the pump started?"])
    data: list[Result]
    has_more: bool = Field(examples=[False])
    next_page: str | None = Field(examples=[None])


class Embedding(Answer):
    """The vector of one text, of unit length."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(examples=[0])
    embedding: list[float] | str = Field(examples=[[0.0123, -0.0456, 0.0789]])


class Usage(Answer):
    """Tokens of the model that its texts have."""

    prompt_tokens: int = Field(examples=[6])
    total_tokens: int = Field(examples=[6])


class Embeddings(Answer):
    """Vectors, in the order of their texts."""

    object: Literal["list"] = "list"
    model: str = Field(examples=["all-MiniLM-L6-v2"])
    data: list[Embedding]
    usage: Usage
