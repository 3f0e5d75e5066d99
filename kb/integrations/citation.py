"""What both retrievers tell of a hit beside its text: enough to cite it, and to open it again."""

from typing import Any

from kb.types import Hit


def identity(hit: Hit) -> str:
    """Names the passage for good: a version's text never changes."""
    return f"{hit.content_version_id}:{hit.start}-{hit.end}"


def citation(hit: Hit) -> dict[str, Any]:
    """`Service.text(content_version_id, start, end)` is the hit's text, also after its document has changed.

    start, end: half-open, in Unicode code points. page, heading: None where the document has none.
    """
    return {
        "title": hit.title,
        "heading": hit.heading,
        "page": hit.page,
        "uri": hit.uri,
        "attributes": dict(hit.attributes),
        "knowledge_base_id": hit.knowledge_base_id,
        "content_id": hit.content_id,
        "content_version_id": hit.content_version_id,
        "start": hit.start,
        "end": hit.end,
        "score": hit.score,
        "scores": dict(hit.scores),
    }
