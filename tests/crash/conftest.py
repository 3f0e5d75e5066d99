"""The trips' starting points, made once a session, and the process that forks the trips."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness.judge import Expected
from harness.trace import Nursery, why_not
from harness.trips import TRIPS, shas

from kb.embed.loaded import LoadedModels


@dataclass(frozen=True, slots=True)
class Start:
    """Where a trip begins: a root, what it ingests, what is promised there, every text there ever was."""

    root: Path
    documents: Path
    expected: Expected
    texts: dict[str, str]

    def copied(self, to: Path) -> Path:
        """The root once more."""
        shutil.copytree(self.root, to)
        return to


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of states are judged, and none need be durable."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=place if os.access(place, os.W_OK) else None, prefix="kb-crash-"
    ) as made:
        yield Path(made)


@pytest.fixture
def scratch(memory: Path) -> Iterator[Path]:
    """An empty folder for one test."""
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def nursery(fakes: ModuleType, memory: Path) -> Iterator[Nursery]:
    """Runs trips, traced where that is possible."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with Nursery(Path(str(fakes.__file__)), memory / "nursery") as running:
        yield running


@pytest.fixture(autouse=True)
def fake_embedder(fakes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge searches with what the trips embedded with."""
    embedder = fakes.WordEmbedder()
    monkeypatch.setattr(LoadedModels, "embedder", lambda self, model: embedder)


@pytest.fixture(scope="session")
def starts(nursery: Nursery, memory: Path) -> dict[str, Start]:
    """Of each trip, by its name."""
    folder = memory / "starts"
    chance = random.Random(4)
    texts: dict[str, str] = {}

    def written(name: str, *numbers: int, kept: Path | None = None) -> Path:
        """A folder of documents: some new ones, the others as they are in another folder."""
        documents = folder / name / "documents"
        documents.mkdir(parents=True)
        for path in kept.iterdir() if kept else ():
            shutil.copy(path, documents)
        for number in numbers:
            body = "\n\n".join(
                " ".join(["common", *(f"w{chance.randrange(500)}" for _ in range(chance.randrange(40, 90)))])
                for _ in range(3)
            )
            (documents / f"doc{number}.txt").write_text(f"only{chance.randrange(10**9)}\n\n{body}")
        for path in documents.iterdir():
            texts[shas(documents)[path.name]] = path.read_text()
        return documents

    def root(name: str, source: Path | None = None) -> Path:
        made = folder / name / "root"
        shutil.copytree(source, made) if source else made.mkdir(parents=True)
        (made / "kept").mkdir(exist_ok=True)
        return made

    def travelled(name: str, trip: str, at: Path, documents: Path, before: Expected) -> Expected:
        ended = nursery.run(trip, at, documents)
        assert ended.code == 0, f"{name}: {ended.said}"
        return before.after(ended.promises)

    nothing = Expected()
    first = written("ingest", 0, 1, 2, 3, 4)
    made: dict[str, Start] = {"ingest": Start(root("ingest"), first, nothing, texts)}
    base = root("base")
    full = travelled("base", "ingest", base, first, nothing)
    second = written("replace", 1, 3, 5, kept=first)
    (second / "doc0.txt").unlink()
    made["replace"] = Start(root("replace", base), second, full, texts)
    made["delete"] = Start(root("delete", base), first, full, texts)
    # A checkpoint, and behind it changes that are in no checkpoint yet.
    stale = root("compact", base)
    made["compact"] = Start(stale, first, travelled("compact", "delete", stale, first, full), texts)
    made["backup"] = Start(root("backup", base), first, full, texts)
    kept = root("kept", base)
    held = travelled("kept", "backup", kept, first, full)
    empty = written("restore")
    shutil.copy(kept / "kept" / "backup.zip", empty.parent)
    now: dict[str, Any] = {
        uri: next(iter(values)) for uri, values in held.allowed.items() if uri in shas(first)
    }
    (empty.parent / "held.json").write_text(json.dumps(now))
    made["restore"] = Start(root("restore"), empty, nothing, texts)
    assert made.keys() == TRIPS.keys()
    return made
