"""A service under the fake embedder whose documents are put straight into its catalog."""

from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def shelf(words: Any, fakes: ModuleType) -> Any:
    """Documents in the knowledge base `shelf` of the service `words`."""
    return fakes.Shelf(words.catalog)


@pytest.fixture
def reranker(fakes: ModuleType) -> Any:
    """A fake that prefers long passages and scores two at a time."""
    return fakes.LengthReranker()
