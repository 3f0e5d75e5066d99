"""What each tool takes; the docstring of each is what a model is told of the tool."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from kb.content.core import MAX_CONTEXT
from kb.content.grep import MAX_PATTERN
from kb.search.core import MAX_QUERY
from kb.search.shape import MAX_NEIGHBOURS, MAX_TOP_K
from kb.types import Mode

KNOWLEDGE_BASE = "knowledge_base_id"
CONTENT_VERSION = "source_connection_content_version_id"
SHORT_CONTENT_VERSION = "content_version_id"
"""Accepted wherever the long name is."""

_FILTERS = (
    'An attribute comparison {"type": "eq|ne|gt|gte|lt|lte|in|nin", "key": "...", "value": ...}, or a '
    'combination {"type": "and|or", "filters": [...]}. list_knowledge_bases tells the keys.'
)
_EXPAND = {
    "anyOf": [
        {"const": "section"},
        {
            "type": "object",
            "properties": {"neighbours": {"type": "integer", "minimum": 1, "maximum": MAX_NEIGHBOURS}},
            "required": ["neighbours"],
            "additionalProperties": False,
        },
        {"type": "null"},
    ]
}

KnowledgeBaseId = Annotated[
    str | None,
    Field(min_length=1, max_length=128, description="A knowledge base by its id or name."),
]
VersionId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="A content version's id, as search hits and list_content_sources give it.",
    ),
]
Cursor = Annotated[
    str | None, Field(max_length=128, description="`cursor` of the answer before, to go on from there.")
]
Offset = Annotated[int | None, Field(ge=0, le=2**53)]


class Arguments(BaseModel):
    """The arguments of a tool. One that is not known is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        """JSON does not tell 3.0 from 3, and no argument is a fraction."""
        if not isinstance(given, dict):
            return given
        return {
            key: int(value) if isinstance(value, float) and value.is_integer() else value
            for key, value in given.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _long_name(cls, given: Any) -> Any:
        if isinstance(given, dict) and SHORT_CONTENT_VERSION in given and CONTENT_VERSION in cls.model_fields:
            rest = {key: value for key, value in given.items() if key != SHORT_CONTENT_VERSION}
            return {CONTENT_VERSION: given[SHORT_CONTENT_VERSION]} | rest
        return given


class SearchKnowledgeBase(Arguments):
    """Find the passages of the user's documents that answer a question or hold some words. Each comes with
    the exact span that it was taken from: cite it by content version, start and end, and read around it
    with peek_content. Without knowledge_base_id all knowledge bases are searched.
    """

    query: str = Field(
        min_length=1, max_length=MAX_QUERY, description='A question or words; "quoted" words must be there.'
    )
    knowledge_base_id: KnowledgeBaseId = None
    top_k: int = Field(10, ge=1, le=MAX_TOP_K, description="How many passages at most.")
    filters: dict[str, Any] | None = Field(None, description=_FILTERS)
    mode: Mode = Field("hybrid", description="By meaning and words, or by one of them (dense, lexical).")
    expand: Annotated[Any, WithJsonSchema(_EXPAND)] = Field(
        None, description='Widen each passage: {"neighbours": n} or "section".'
    )


class ListKnowledgeBases(Arguments):
    """List the knowledge bases: what they are about, how large they are, their languages, and the
    attributes that searches can be filtered by.
    """

    cursor: Cursor = None


class ListContentSources(Arguments):
    """List documents and the ids of their current content versions, of one knowledge base or of all,
    narrowed by words of the title or path.
    """

    knowledge_base_id: KnowledgeBaseId = None
    query: str = Field("", max_length=1000, description="Words that stand in the title or the path.")
    cursor: Cursor = None


class GetContentStats(Arguments):
    """Tell how large a content version is (characters, tokens, words, lines, pages), its type and language,
    and the outline of its headings. Ask this before loading.
    """

    source_connection_content_version_id: VersionId


class LoadContent(Arguments):
    """Load the whole text of a content version; where it is larger than max_tokens, its outline and how to
    read it in parts.
    """

    source_connection_content_version_id: VersionId
    max_tokens: int | None = Field(
        None,
        ge=256,
        le=10_000_000,
        description="What the whole text may cost; the server's share if left out.",
    )


class PeekContent(Arguments):
    """Read a part of a content version: characters start to end, a page, or the section under a heading.
    Every span that another tool gives can be read, and read around.
    """

    source_connection_content_version_id: VersionId
    start: Offset = Field(None, description="First character, from 0.")
    end: Offset = Field(None, description="Behind the last character.")
    page: int | None = Field(None, ge=0, le=2**31, description="A page instead of start and end.")
    heading: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="The section under a heading instead of start and end.",
    )


class GrepContent(Arguments):
    """Find every place where a text or a regular expression stands, in one content version or in all
    documents of a knowledge base, with line, page and context.
    """

    source_connection_content_version_id: VersionId | None = None
    knowledge_base_id: KnowledgeBaseId = None
    pattern: str = Field(min_length=1, max_length=MAX_PATTERN)
    regex: bool = Field(False, description="An RE2 expression within one line, not literal text.")
    case: bool = Field(False, description="Capital and small letters differ.")
    context: int = Field(80, ge=0, le=MAX_CONTEXT, description="Characters shown on each side.")
    cursor: Cursor = None
