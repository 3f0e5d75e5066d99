"""The `kb` command, altered: python altered_server.py ALTERATION ARGUMENT…

Server processes are spawned from this file, so that they are altered too. All but one are bugs: that a soak
ends red on each of them is what makes a green one worth something.
"""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kb.catalog.store import Store
from kb.index import faiss_index
from kb.search.indexes import Indexes
from kb.search.live import LiveIndexes
from kb.service import Service

# Whoever gets it is the deaf one.
_held = FileLock(Path(sys.argv[sys.argv.index("--data-dir") + 1]) / "deaf.lock")


def eager_checkpoints() -> None:
    """No bug: a base is rewritten after every few changes, which else takes thousands."""
    faiss_index._SMALL_TAIL = 4


def wrong_index() -> None:
    """Every tenth time a knowledge base is searched in the index of another."""
    real = Indexes.live
    asked = 0

    def live(self: Indexes, kb: Any) -> LiveIndexes:
        nonlocal asked
        asked += 1
        found = real(self, kb)
        return found if asked % 10 else next(iter(self._live.values()))

    Indexes.live = live  # type: ignore[method-assign]


def deaf_process() -> None:
    """One of the processes does not follow the feed once it has started."""
    real = LiveIndexes.catch_up
    deaf: bool | None = None

    def catch_up(self: LiveIndexes) -> None:
        nonlocal deaf
        if deaf is None:
            try:
                _held.acquire(timeout=0)
                deaf = True
            except Timeout:
                deaf = False
        if not deaf:
            real(self)

    LiveIndexes.catch_up = catch_up  # type: ignore[method-assign]


def lost_deletion() -> None:
    """Every third deletion is acknowledged and not done."""
    real = Store.remove
    asked = 0

    def remove(self: Store, kb_id: str, content_ids: Any) -> None:
        nonlocal asked
        asked += 1
        if asked % 3:
            real(self, kb_id, content_ids)

    Store.remove = remove  # type: ignore[method-assign]


def slipped_span() -> None:
    """Every text that is opened begins one character late."""
    real = Service.text
    Service.text = lambda self, version, start=0, end=None: real(self, version, start + 1, end)  # type: ignore[method-assign]


ALTERATIONS = {
    "eager-checkpoints": eager_checkpoints,
    "wrong-index": wrong_index,
    "deaf-process": deaf_process,
    "lost-deletion": lost_deletion,
    "slipped-span": slipped_span,
}

# At import: a spawned process imports this file, under another name, with the arguments of its parent.
ALTERATIONS[sys.argv[1]]()

if __name__ == "__main__":
    from kb.cli import app

    app(sys.argv[2:])
