"""A shelf of documents that upkeep looks after."""

from typing import Any

import pytest


@pytest.fixture
def shelf(words: Any, fakes: Any) -> Any:
    """Three documents, indexed and checkpointed."""
    shelf = fakes.Shelf(words.catalog)
    shelf.put(*(shelf.version(name, f"{name} pump\n{name} valve", {"n": 1}) for name in ("a", "b", "c")))
    words._indexes.live(shelf.kb).catch_up()
    words._indexes.live(shelf.kb).vectors.checkpoint()
    return shelf
