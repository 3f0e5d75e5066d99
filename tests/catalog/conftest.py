"""A catalog without a service: documents of words, with small vectors."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database that does not exist yet."""
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture
def make_shelf(tmp_path: Path, fakes: ModuleType, blank_catalog: Path) -> Iterator[Callable[..., Any]]:
    """Makes shelves over a new database in any folder, by default the test's; closes them at the end."""
    from kb.catalog import Catalog

    opened: list[Any] = []

    def make(folder: Path = tmp_path) -> Any:
        shutil.copy(blank_catalog, folder)
        opened.append(Catalog(f"sqlite:///{folder}/catalog.db"))
        return fakes.Shelf(opened[-1])

    yield make
    for catalog in opened:
        catalog.close()


@pytest.fixture
def shelf(make_shelf: Callable[..., Any]) -> Any:
    """A fresh catalog."""
    return make_shelf()
