"""The files of FaissIndex under damage and crashes: old state, new state or empty; never a wrong answer."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb.index import compact, segment
from kb.index.faiss_index import FaissIndex
from kb.index.manifest import read_manifest, write_manifest

DIM = 8
COUNT = 20
NONE = np.empty(0, np.int64)
NUMBERS = np.arange(100, 100 + COUNT, dtype=np.int64)
STORED = (np.eye(COUNT, DIM) + np.random.default_rng(0).random((COUNT, DIM)) / 8).astype(np.float16)
ROWS = STORED.astype(np.float32) / np.linalg.norm(STORED.astype(np.float32), axis=1, keepdims=True)
SMALL = [".flat", ".ids", ".rows"]
LARGE = [".codes", ".graph", ".ids", ".rows"]


def opened(folder: Path, fingerprint: str = "f", dim: int = DIM) -> FaissIndex:
    """The index over a folder."""
    return FaissIndex(folder, fingerprint=fingerprint, dim=dim)


def kept(index: FaissIndex) -> tuple[int, list[int]]:
    """seq, and every id the index answers with, after checking each one's vector."""
    found = index.search(ROWS[0], 1000)
    by_id = {int(number): row for number, row in zip(NUMBERS, ROWS, strict=True)}
    for chunk_id, score in zip(found.ids.tolist(), found.scores.tolist(), strict=True):
        assert score == pytest.approx(float(by_id[chunk_id] @ ROWS[0]), abs=1e-5)
    assert len(index) == len(found.ids)
    return index.seq, sorted(found.ids.tolist())


EMPTY: tuple[int, list[int]] = (0, [])
WHOLE = (7, NUMBERS.tolist())


@pytest.fixture(params=["small", "large"])
def suffixes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of a small base, or of one made as if COUNT were many."""
    if request.param == "small":
        return SMALL
    monkeypatch.setattr(segment, "FLAT_UNTIL", 0)
    for module in (segment, compact):
        monkeypatch.setattr(module, "GRAPH_FROM", 0)
    return LARGE


@pytest.fixture
def written(tmp_path: Path, suffixes: list[str]) -> Path:
    """A folder with one checkpoint: COUNT vectors at seq 7."""
    index = opened(tmp_path / "index")
    index.apply(7, NUMBERS, STORED, NONE)
    index.checkpoint()
    assert kept(opened(tmp_path / "index")) == WHOLE
    return tmp_path / "index"


def files(folder: Path) -> list[Path]:
    """The checkpoint's files."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in (*LARGE, *SMALL, ".json")]


def test_a_checkpoint_is_a_manifest_and_what_it_names(written: Path, suffixes: list[str]) -> None:
    """The files of its kind of base, each with its checksum."""
    assert sorted(path.suffix for path in files(written)) == sorted([*suffixes, ".json"])
    manifest = json.loads((written / "MANIFEST.json").read_text())
    for name, expected in manifest["content"]["files"].items():
        assert hashlib.sha256((written / name).read_bytes()).hexdigest() == expected


def test_a_flipped_bit_anywhere_in_a_segment_is_noticed(written: Path, suffixes: list[str]) -> None:
    """Whatever byte of a file changes, the index opens empty at seq 0, ready to be rebuilt."""
    for path in (path for path in files(written) if path.suffix in suffixes):
        good = path.read_bytes()
        for at in {0, 1, 3, 4, len(good) // 2, len(good) - 1, *range(0, len(good), 37)}:
            path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
            assert kept(opened(written)) == EMPTY
        path.write_bytes(good)
        assert kept(opened(written)) == WHOLE


def test_a_segment_cut_or_grown_is_noticed(written: Path, suffixes: list[str]) -> None:
    """A file that ends early, is empty or has more at its end opens as an empty index."""
    for path in (path for path in files(written) if path.suffix in suffixes):
        good = path.read_bytes()
        for bad in [good[:at] for at in range(0, len(good), 29)] + [good[:-1], good + b"\0", good + good]:
            path.write_bytes(bad)
            assert kept(opened(written)) == EMPTY
        path.write_bytes(good)


def test_a_missing_file_means_empty(written: Path, suffixes: list[str]) -> None:
    """Without any one of the files the index opens empty, and can be filled and kept again."""
    for kind in (*suffixes, ".json"):
        for path in files(written):
            if path.suffix == kind:
                path.unlink()
        index = opened(written)
        assert kept(index) == EMPTY
        index.apply(7, NUMBERS, STORED, NONE)
        index.checkpoint()
        assert kept(opened(written)) == WHOLE


def test_a_flipped_bit_anywhere_in_the_manifest_is_noticed(written: Path) -> None:
    """What opens is the state that was written, or an empty index; never another seq or a crash."""
    path = written / "MANIFEST.json"
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in (0, 4):
            path.write_bytes(good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :])
            assert kept(opened(written)) in (EMPTY, WHOLE), f"byte {at}, bit {bit}: {path.read_bytes()!r}"


def test_a_manifest_cut_anywhere_is_noticed(written: Path) -> None:
    """A manifest that ends early opens as an empty index."""
    path = written / "MANIFEST.json"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at])
        assert kept(opened(written)) == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "7",
        '"MANIFEST"',
        "{}",
        '{"seq": 7, "fingerprint": "f", "dim": 8}',
        '{"seq": 7, "fingerprint": "f", "dim": 8, "files": {}}',
        '{"seq": 7, "fingerprint": "f", "dim": 8, "files": {"a.ids": [0, ""]}}',
        '{"seq": 7, "fingerprint": "f", "dim": 8, "files": {"../../x.faiss": null, "x.ids": null}}',
        '{"seq": 7, "fingerprint": "f", "dim": 8, "files": null}',
        '{"seq": 7, "fingerprint": "f", "dim": 8, "files": [1, 2]}',
        '{"seq": null, "fingerprint": "f", "dim": 8, "files": {}}',
        '{"seq": 1e999, "fingerprint": "f", "dim": 8, "files": {}}',
    ],
)
def test_a_manifest_that_is_none_means_empty(written: Path, text: str) -> None:
    """JSON of another shape is damage like any other."""
    (written / "MANIFEST.json").write_text(text)
    assert kept(opened(written)) == EMPTY


@pytest.mark.parametrize(("fingerprint", "dim"), [("g", DIM), ("f", DIM + 1), ("f", DIM - 1)])
def test_another_embedders_index_is_not_used(written: Path, fingerprint: str, dim: int) -> None:
    """Under another fingerprint or length it is empty at seq 0; its next checkpoint replaces the files."""
    index = opened(written, fingerprint, dim)
    assert (index.seq, len(index), index.search(np.ones(dim, np.float32), 5).ids.tolist()) == (0, 0, [])
    index.apply(7, NUMBERS[:1], np.ones((1, dim), np.float16), NONE)
    index.checkpoint()
    assert len(opened(written, fingerprint, dim)) == 1
    assert kept(opened(written)) == EMPTY


def test_an_index_of_another_version_is_rebuilt(written: Path) -> None:
    """Its manifest is whole, and its files are of another shape."""
    manifest = written / "MANIFEST.json"
    content = read_manifest(manifest)
    write_manifest(manifest, {name: content[name] for name in ("seq", "fingerprint", "dim", "files")})
    assert kept(opened(written)) == EMPTY


def test_old_segment_files_are_removed(written: Path, suffixes: list[str]) -> None:
    """However many checkpoints there were, one set of files remains, and nothing half written."""
    (written / "MANIFEST.tmp").write_text("left by a crash")
    (written / "4567.rows").write_text("left by a crash")
    index = opened(written)
    for seq in range(8, 12):
        index.apply(seq, NONE, np.empty((0, DIM), np.float16), NUMBERS[seq : seq + 1])
        index.checkpoint()
        left = sorted(path.suffix for path in written.iterdir() if path.suffix != ".lock")
        assert left == sorted([*suffixes, ".json"])
    assert kept(opened(written)) == (
        11,
        [number for number in NUMBERS.tolist() if number not in range(108, 112)],
    )


def test_a_checkpoint_of_what_is_kept_already_writes_nothing(written: Path) -> None:
    """Without a change the files stay the same ones."""
    before = [(path.name, path.stat().st_mtime_ns) for path in files(written)]
    opened(written).checkpoint()
    assert [(path.name, path.stat().st_mtime_ns) for path in files(written)] == before


class Crash(BaseException):
    """Stands for the end of the process at this point."""


def crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Make the `step`-th system call that a checkpoint makes fail; returns the calls made so far."""
    calls: list[str] = []

    def spied(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            if name == "unlink" and str(given[0]).endswith(".lock"):
                return real(*given, **named)
            calls.append(name)
            if len(calls) == step:
                if name == "_save":
                    # Torn: the beginning of the file is there.
                    given[1].write_bytes(b"torn")
                raise Crash(name)
            return real(*given, **named)

        monkeypatch.setattr(owner, name, call)

    spied(segment, "_save")
    spied(os, "fsync")
    spied(Path, "write_text")
    spied(Path, "replace")
    spied(Path, "unlink")
    return calls


def test_a_crash_at_any_step_leaves_the_old_state_or_the_new(
    written: Path, suffixes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step may be the last: what opens is one checkpoint, whole, and goes on from there."""
    new = (8, NUMBERS[1:].tolist())
    seen = set()
    step = 0
    while True:
        step += 1
        folder = tmp_path / f"crash-{step}"
        shutil.copytree(written, folder)
        index = opened(folder)
        index.apply(8, NONE, np.empty((0, DIM), np.float16), NUMBERS[:1])
        with monkeypatch.context() as patched:
            calls = crashing(patched, step)
            try:
                index.checkpoint()
            except Crash:
                crashed = True
            else:
                crashed = False
        if not crashed:
            break
        state = kept(opened(folder))
        assert state in (WHOLE, new), f"after a crash in step {step}, {calls[-1]}"
        seen.add(state[0])
        # The manifest appears by one rename: before it the old state stands, after it the new one.
        assert (state == new) == ("replace" in calls[:-1])
        # The process that lived through the failure, and the next one, both go on.
        assert kept(index) == new
        again = opened(folder)
        again.apply(8, NONE, np.empty((0, DIM), np.float16), NUMBERS[:1])
        again.checkpoint()
        assert kept(opened(folder)) == new
    assert calls == [
        *["_save"] * (len(suffixes) - 2),
        *["fsync"] * len(suffixes),
        "write_text",
        "fsync",
        "fsync",
        "replace",
        "fsync",
        *["unlink"] * len(suffixes),
    ]
    assert seen == {7, 8}


_TASKS = """
import os, sys, threading
from pathlib import Path
import numpy as np
from kb.index import segment
from kb.index.faiss_index import FaissIndex
segment.FLAT_UNTIL = 0
index = FaissIndex(Path(sys.argv[1]), fingerprint="f", dim=8)
rows = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float16)
index.apply(1, np.arange(3000, dtype=np.int64), rows, np.empty(0, np.int64))
index.checkpoint()
base = index._state.base
question = base.vectors(np.array([0]))[0]
def ask():
    before = len(os.listdir("/proc/self/task"))
    base.scan(question, 40, np.ones(3000, bool), 3000)
    base.scan(question, 40, np.arange(3000) % 2 == 0, 1500)
    print(len(os.listdir("/proc/self/task")) - before)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_one_question_starts_no_threads(tmp_path: Path) -> None:
    """They would wait for each other on cores that others are using."""
    done = subprocess.run(
        [sys.executable, "-c", _TASKS, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "4"}, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert int(done.stdout) == 0
