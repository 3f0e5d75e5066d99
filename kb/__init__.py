"""Knowledge bases over your own documents: exact, cited passages, offline.

with kb.open("data") as service:
    service.ingest("handbook", "handbook")
    for hit in service.search("How is the pump started?", ["handbook"]).hits:
        print(hit.uri, hit.start, hit.end, hit.text)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kb.agent.ask import Answer, ask
    from kb.errors import KbError
    from kb.search.filters import parse_filter
    from kb.search.rerank import Rerank
    from kb.service import Service, open
    from kb.settings import Settings
    from kb.types import ChunkingPolicy, Hit, IngestReport, KnowledgeBase, SearchResult

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "ChunkingPolicy",
    "Hit",
    "IngestReport",
    "KbError",
    "KnowledgeBase",
    "Rerank",
    "SearchResult",
    "Service",
    "Settings",
    "ask",
    "open",
    "parse_filter",
]

# Imported at first use: the command line answers `--help` without the database and the models.
_HOMES = {
    "Answer": "kb.agent.ask",
    "ask": "kb.agent.ask",
    "KbError": "kb.errors",
    "Rerank": "kb.search.rerank",
    "Service": "kb.service",
    "Settings": "kb.settings",
    "open": "kb.service",
    "parse_filter": "kb.search.filters",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kb' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "kb.types")), name)
