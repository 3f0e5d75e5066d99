"""An ingest killed at random moments: what was acknowledged is there whole, nothing is there by half."""

import random
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from kb.ingest.chunk import chunk
from kb.types import Document

CHILD = Path(__file__).with_name("crash_child.py")


class Run:
    """One child over a folder; `kill_at` is the tick at which it is killed, None lets it end."""

    def __init__(self, fakes: ModuleType, data: Path, folder: Path, kill_at: int | None) -> None:
        command = [sys.executable, str(CHILD), str(fakes.__file__), str(data), str(folder)]
        self.ticks = 0
        self.acknowledged: dict[str, str] = {}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("ack "):
                    _, uri, sha = line.split()
                    self.acknowledged[uri] = sha
                else:
                    self.ticks += 1
                if self.ticks == kill_at:
                    # It goes on working meanwhile: the moment is a random one around this tick.
                    child.kill()
        self.killed = child.returncode != 0
        assert self.killed or child.returncode == 0
        assert child.returncode in (0, -9)


def generate(folder: Path, chance: random.Random, names: range) -> None:
    """Write documents of some paragraphs; the second word is each one's own."""
    for number in names:
        body = "\n\n".join(
            " ".join(["common", *(f"w{chance.randrange(500)}" for _ in range(chance.randrange(30, 90)))])
            for _ in range(chance.randrange(1, 6))
        )
        (folder / f"doc{number}.txt").write_text(f"only{number} version{chance.randrange(10**9)}\n\n{body}")


def shas(folder: Path) -> dict[str, str]:
    """What is in the folder."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def check(service: Any, ever: dict[str, str], promised: dict[str, str]) -> None:
    """Acknowledged documents are visible, all are whole, and the indexes agree with the catalog.

    ever: each text that a file ever had, by its hash. promised: uri and hash of what was acknowledged last.
    """
    with service.catalog.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
        rows = connection.execute(
            text(
                "SELECT contents.uri, versions.sha256, versions.text, versions.title,"
                " versions.id AS version_id FROM contents JOIN versions ON versions.id = contents.version_id"
            )
        ).all()
        chunks = connection.execute(
            text(
                'SELECT c.id, c.version_id, c.start, c."end", c.context, c.text, v.vector FROM chunks c'
                " LEFT JOIN vectors v ON v.text_hash = c.text_hash ORDER BY c.id"
            )
        ).all()
    visible = {row.uri: row.sha256 for row in rows}
    for uri, sha in promised.items():
        assert visible.get(uri) == sha, f"{uri} was acknowledged"
    embedder = service.embedder("")
    kb = service.knowledge_base("kb")
    for row in rows:
        assert row.text == ever[row.sha256]
        right = chunk(
            Document(row.text, "text/plain"),
            kb.chunking,
            embedder.token_starts,
            title=row.title,
            max_tokens=256,
        )
        mine = [one for one in chunks if one.version_id == row.version_id]
        assert [(one.start, one.end, one.context) for one in mine] == [
            (one.start, one.end, one.context) for one in right
        ]
        assert all(one.text == row.text[one.start : one.end] for one in mine)
    assert {one.version_id for one in chunks} <= {row.version_id for row in rows}
    assert all(one.vector is not None for one in chunks)

    ids = [one.id for one in chunks]
    live = service._indexes.live(kb)
    live.catch_up()
    question = embedder.bags(["common"])[0]
    found = live.vectors.search(question, len(ids) + 100)
    assert sorted(found.ids.tolist()) == ids
    vectors = (
        embedder.bags([one.context + one.text for one in chunks]) if ids else np.empty((0, embedder.dim))
    )
    np.testing.assert_allclose(
        live.vectors.score(question, np.array(ids, np.int64)), vectors @ question, atol=5e-3
    )
    words = {word for one in chunks for word in (one.context + one.text).split()[:3]}
    lexical = live.lexical.search(" ".join(["common", *words]), len(ids) + 100)
    assert sorted(lexical.ids.tolist()) == ids
    for uri in visible:
        word = ever[visible[uri]].split()[1]
        assert {hit.uri for hit in service.search(word, ["kb"], mode="lexical", top_k=100).hits} == {uri}


def crash(rounds: int, seed: int, open_service: Callable[[], Any], folder: Path, fakes: ModuleType) -> None:
    """Change the folder, ingest, kill; check each time what is left, and at the end that all gets there."""
    chance = random.Random(seed)
    generate(folder, chance, range(14))
    ever = {sha256(path.read_bytes()).hexdigest(): path.read_text() for path in folder.iterdir()}
    data = open_service().settings.data_dir
    promised: dict[str, str] = {}
    ticks = 400
    kills = 0
    for number in range(rounds):
        run = Run(fakes, data, folder, chance.randrange(1, ticks))
        kills += run.killed
        ticks = max(50, run.ticks) if not run.killed else ticks
        promised |= run.acknowledged
        service = open_service()
        if service.knowledge_bases():
            check(service, ever, promised)
        service.close()
        # Some files change, one goes, one moves, one comes.
        generate(folder, chance, range(chance.randrange(7), 7))
        gone, moved = chance.sample(sorted(path.name for path in folder.iterdir()), 2)
        (folder / gone).unlink()
        (folder / moved).rename(folder / f"moved{number}.txt")
        generate(folder, chance, range(20 + number, 21 + number))
        now = shas(folder)
        promised = {uri: sha for uri, sha in promised.items() if now.get(uri) == sha}
        ever |= {sha256(path.read_bytes()).hexdigest(): path.read_text() for path in folder.iterdir()}
    assert kills > rounds / 2
    last = Run(fakes, data, folder, None)
    assert not last.killed
    service = open_service()
    check(service, ever, shas(folder))
    assert {content.uri for content in service.documents("kb", limit=1000)} == set(shas(folder))
    report = service.ingest(folder, "kb")
    assert (report.unchanged, report.added, report.changed, report.embedded) == (len(shas(folder)), 0, 0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_an_acknowledged_document_survives_the_kill(
    open_service: Callable[[], Any], folder: Path, fakes: ModuleType
) -> None:
    """Six kills in a row on one data folder, its files changing in between."""
    crash(6, 1, open_service, folder, fakes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_an_acknowledged_document_survives_many_kills(
    seed: int, open_service: Callable[[], Any], folder: Path, fakes: ModuleType
) -> None:
    """Ten kills in a row."""
    crash(10, seed, open_service, folder, fakes)
