"""A knowledge base for retrievers to read."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TEXTS = {
    "startup.md": "# Starting\n\nOpen the brine valve first, then start the pump. \U0001f6a7 Wait for 3 bar.",
    "winter.md": "# Winter\n\nIn frost the circulation pump runs all the time.",
    "parts.txt": "The scraper blade is part 4711. Order two at a time.",
    "alarms.md": "# Alarms\n\nA pressure alarm stops the pump at once.",
}


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks in langchain-tests whose plugins are not loaded; they are on tests of chat models."""
    for mark in ("benchmark", "vcr"):
        config.addinivalue_line("markers", f"{mark}: of langchain-tests, used by nothing here")


@pytest.fixture(scope="session")
def handbook(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An open service under the real model, with the knowledge base `handbook` of four documents."""
    import kb
    from kb.settings import Settings

    folder, data = tmp_path_factory.mktemp("documents"), tmp_path_factory.mktemp("data")
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings = Settings(data, f"sqlite:///{data}/catalog.db")
    settings.models_dir.symlink_to(models, target_is_directory=True)
    with kb.Service(settings) as service:
        assert service.ingest(folder, "handbook", attributes={"team": "operations"}).added == len(TEXTS)
        yield service


@pytest.fixture
def anyio_backend() -> str:
    """The loop that async tests run on."""
    return "asyncio"


@pytest.fixture
def searches_need(monkeypatch: pytest.MonkeyPatch) -> Callable[[asyncio.AbstractEventLoop], None]:
    """Called with an event loop: from then on a search goes on once that loop has done something else."""
    from kb.service import Service

    search = Service.search

    def install(loop: asyncio.AbstractEventLoop) -> None:
        def held(*arguments: Any, **options: Any) -> Any:
            alive = threading.Event()
            loop.call_soon_threadsafe(alive.set)
            assert alive.wait(10), "the search holds the event loop"
            return search(*arguments, **options)

        monkeypatch.setattr(Service, "search", held)

    return install
