"""Knowledge bases over your own documents: exact, cited passages, offline.

    with kb.open(kb.settings("data")) as service:
        service.ingest("handbook", "handbook")
        for hit in service.search("How is the pump started?", ["handbook"]).hits:
            print(hit.uri, hit.start, hit.end, hit.text)
"""

from typing import TYPE_CHECKING, Any

from kb.errors import KbError
from kb.search.filters import parse_filter
from kb.settings import Settings, settings
from kb.types import ChunkingPolicy, Hit, IngestReport, KnowledgeBase, SearchResult

if TYPE_CHECKING:
    from kb.service import Service, open

__version__ = "0.1.0"

__all__ = [
    "ChunkingPolicy",
    "Hit",
    "IngestReport",
    "KbError",
    "KnowledgeBase",
    "SearchResult",
    "Service",
    "Settings",
    "open",
    "parse_filter",
    "settings",
]


def __getattr__(name: str) -> Any:
    # The service brings the database and the models along; `import kb` alone stays light.
    if name in ("open", "Service"):
        from kb import service

        return getattr(service, name)
    raise AttributeError(f"module 'kb' has no attribute {name!r}")
