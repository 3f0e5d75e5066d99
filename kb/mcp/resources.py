"""Documents as resources: kb://{kb}/{content}, with the knowledge base by name or id."""

import re
from urllib.parse import quote, unquote

from mcp import types

from kb.content.fence import visible
from kb.errors import InvalidInput, NotFound
from kb.service import Service
from kb.tools.arguments import CONTENT_VERSION
from kb.types import Version

# What is read is the text that spans point into, whatever the file was.
_MEDIA_TYPE = "text/plain"
_PAGE = 100
_URI = re.compile(r"kb://([^/?#]+)/([^/?#]+)")
_CURSOR = re.compile(r"doc_[0-9a-f-]{1,64}")

TEMPLATE = types.ResourceTemplate(
    name="document",
    uri_template="kb://{kb}/{content}",
    title="A document",
    description="The text of a document's current version: a knowledge base by name or id, a document by id.",
    mime_type=_MEDIA_TYPE,
)


def uri(knowledge_base: str, content_id: str) -> str:
    """Of a document, by the name or the id of its knowledge base."""
    return f"kb://{quote(knowledge_base, safe='')}/{quote(content_id, safe='')}"


def current(service: Service, resource: str) -> str:
    """The id of the version that a resource shows now. Raises NotFound."""
    found = _URI.fullmatch(resource)
    if not found:
        raise NotFound(
            f"no resource {resource!r}: documents are kb://KNOWLEDGE_BASE/DOCUMENT_ID", param="uri"
        )
    knowledge_base, content_id = map(unquote, found.groups())
    return service.document(knowledge_base, content_id).version_id


def listed(service: Service, cursor: str | None) -> types.ListResourcesResult:
    """A page of the documents of all knowledge bases. Raises InvalidInput for what is no cursor."""
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise InvalidInput("this is no cursor of this list; leave it out to begin anew", param="cursor")
    page, following = service.contents.sources(None, limit=_PAGE, cursor=cursor or "")
    return types.ListResourcesResult(resources=list(map(_resource, page)), next_cursor=following)


def read(service: Service, resource: str) -> types.ReadResourceResult:
    """The whole text, as it is: offsets hold in it, and nothing is shown in another form. Raises NotFound."""
    version_id = current(service, resource)
    text = types.TextResourceContents(
        uri=resource,
        mime_type=_MEDIA_TYPE,
        text=service.text(version_id),
        _meta={CONTENT_VERSION: version_id},
    )
    return types.ReadResourceResult(contents=[text])


def _resource(version: Version) -> types.Resource:
    pages = f", {version.pages} pages" if version.pages else ""
    return types.Resource(
        uri=uri(version.knowledge_base, version.content_id),
        name=visible(version.uri),
        title=visible(version.title),
        description=f"{version.media_type}, {version.characters} characters{pages}",
        mime_type=_MEDIA_TYPE,
        annotations=types.Annotations(last_modified=version.created_at),
        _meta={CONTENT_VERSION: version.id},
    )
