"""A service whose documents are put in as they are, without a parser."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def shelf(words: Any, fakes: ModuleType) -> Any:
    """A `Shelf` on the catalog of an open service, which is `shelf.service`."""
    made = fakes.Shelf(words.catalog)
    made.service = words
    return made


@pytest.fixture
def call(words: Any) -> Callable[..., Any]:
    """Calls a tool by its name, with its arguments by name."""
    from kb import tools

    def called(name: str, *, budget: int | None = None, **given: Any) -> Any:
        return tools.call(words, name, given, budget=budget)

    return called
