"""The recall target of a knowledge base: set in the catalog, followed by every process."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kb.embed.loaded import LoadedModels
from kb.errors import InvalidInput
from kb.evaluate import EntryParser
from kb.index import calibrate, checkpoint, faiss_index, segment
from kb.index.manifest import read_manifest
from kb.ingest.source import Blob
from kb.settings import Settings
from kb.types import ChunkingPolicy
from kb.upkeep.backup import restore


@pytest.fixture
def open_large(open_service: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Opens services that scan codes where others would scan vectors: as if a few documents were many."""
    monkeypatch.setattr(segment, "FLAT_UNTIL", 0)
    monkeypatch.setattr(calibrate, "_QUESTIONS", {10: 16, 100: 4})
    return open_service


@pytest.fixture
def large(open_large: Callable[[], Any]) -> Any:
    """One of them, with 120 documents in `kb`, whose index is written."""
    service = open_large()
    service.create_knowledge_base("kb", embedder="words", chunking=ChunkingPolicy(16))
    add(service, *(f"doc{at}" for at in range(120)))
    live(service).vectors.checkpoint()
    return service


def add(service: Any, *names: str) -> None:
    """Documents of one chunk each."""
    blobs = [
        Blob(name, json.dumps({"title": "", "text": f"pump {name} valve w{name}"}).encode()) for name in names
    ]
    service.level(service.knowledge_base("kb"), "test:", blobs, EntryParser(), whole=False)


def live(service: Any) -> Any:
    """The indexes of `kb` as a search takes them, when nothing is under way in the background."""
    found = service._indexes.follow(service.knowledge_base("kb").id)
    found.settle()
    return found


def kept(service: Any) -> float:
    """The target of the effort in the manifest of `kb`."""
    kb = service.knowledge_base("kb")
    manifest = read_manifest(service.settings.indexes_dir / kb.id / kb.fingerprint / "MANIFEST.json")
    return float(manifest["effort"]["recall"])


def targets(service: Any) -> tuple[float, float, float]:
    """What the row says, what is searched at, and what the manifest keeps."""
    return service.knowledge_base("kb").recall, live(service).vectors.recall, kept(service)


def test_the_target_is_set_and_told(large: Any) -> None:
    """The least codes for it are refined, 40 and 250 for 0.99, as many as there are rows at most."""
    assert targets(large) == (0.99, 0.99, 0.99)
    tuned = large.tune("kb", 0.999)
    assert targets(large) == (0.999, 0.999, 0.999)
    assert tuned.recall == 0.999
    assert [(one.kind, one.rows, one.effort.recall) for one in (tuned.before, tuned.after)] == [
        ("codes", 120, 0.99),
        ("codes", 120, 0.999),
    ]
    assert (tuned.before.effort.refine_10, tuned.after.effort.refine_10) == (40, 63)
    assert min(tuned.before.ms_10, tuned.before.ms_100, tuned.after.ms_10, tuned.after.ms_100) > 0
    told = large.tune("kb")
    assert (told.recall, told.before, told.after.effort) == (0.999, told.after, tuned.after.effort)


@pytest.mark.parametrize("recall", [0.0, 0.8999, 0.99991, 1.0, -1.0, math.nan, math.inf])
def test_a_target_out_of_bounds_is_refused(large: Any, recall: float) -> None:
    """The message says what may be given; nothing has changed."""
    for call in (large.tune, lambda kb, recall: large.change_knowledge_base(kb, recall=recall)):
        with pytest.raises(InvalidInput, match=r"recall must be 0\.9 to 0\.9999") as caught:
            call("kb", recall)
        assert caught.value.param == "recall"
    assert targets(large) == (0.99, 0.99, 0.99)


@pytest.mark.parametrize("recall", [0.9, 0.9999])
def test_the_bounds_are_targets(large: Any, recall: float) -> None:
    """Both."""
    large.tune("kb", recall)
    assert targets(large) == (recall, recall, recall)


def test_a_service_that_has_it_open_follows(
    large: Any, open_large: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first search after; it takes the effort over and makes no trials."""
    other = open_large()
    assert targets(other) == (0.99, 0.99, 0.99)
    large.tune("kb", 0.999)
    monkeypatch.setattr(faiss_index, "calibrated", None)
    assert other.search("pump doc7", ["kb"], mode="dense").hits[0].uri == "doc7"
    assert targets(other) == (0.999, 0.999, 0.999)


_ANOTHER = """
import sys
from pathlib import Path
from kb.index import calibrate, segment
from kb.service import Service
from kb.settings import Settings
segment.FLAT_UNTIL = 0
calibrate._QUESTIONS = {10: 16, 100: 4}
with Service(Settings(Path(sys.argv[1]), f"sqlite:///{sys.argv[1]}/catalog.db")) as service:
    print(service.tune("kb", 0.95).after.effort.refine_10)
"""


def test_another_process_is_followed(large: Any) -> None:
    """What it found is what this one searches with."""
    done = subprocess.run(
        [sys.executable, "-c", _ANOTHER, str(large.settings.data_dir)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert targets(large) == (0.95, 0.95, 0.95)
    base = live(large).vectors._state.base
    assert (base.effort.refine_10, int(done.stdout)) == (29, 29)


def test_a_change_alone_is_followed_in_the_background(large: Any) -> None:
    """As over HTTP: the row is written, and the effort found while searches go on."""
    changed = large.change_knowledge_base("kb", recall=0.999)
    assert changed.recall == 0.999
    large._indexes._live[changed.id].settle()
    assert kept(large) == 0.999
    assert targets(large) == (0.999, 0.999, 0.999)
    assert large.change_knowledge_base("kb", name="kb", description="d").recall == 0.999


class Crash(BaseException):
    """Stands for the end of the process at this point."""


@pytest.mark.parametrize(("owner", "moment"), [(faiss_index, "calibrated"), (checkpoint, "write_manifest")])
def test_a_crash_between_catalog_and_manifest_is_mended(
    large: Any, open_large: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, owner: Any, moment: str
) -> None:
    """By the first search of whichever process comes next."""

    def crash(*given: Any, **named: Any) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(owner, moment, crash)
        with pytest.raises(Crash):
            large.tune("kb", 0.999)
    again = open_large()
    assert (again.knowledge_base("kb").recall, kept(again)) == (0.999, 0.99)
    told = again.tune("kb")
    assert (told.recall, told.after.effort.recall) == (0.999, 0.99)
    again.search("pump doc7", ["kb"], mode="dense")
    assert targets(again) == targets(large) == (0.999, 0.999, 0.999)


def test_a_checkpoint_by_whoever_had_it_open_keeps_the_target(
    large: Any, open_large: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the row at that moment, not what it was opened with."""
    other = open_large()
    mine = live(other)
    large.tune("kb", 0.999)
    add(large, *(f"late{at}" for at in range(40)))
    mine.catch_up()
    mine.vectors.checkpoint()
    assert (mine.vectors.recall, len(mine.vectors)) == (0.999, 160)
    assert targets(large) == targets(other) == (0.999, 0.999, 0.999)


def test_a_deleted_knowledge_base_is_no_error_in_the_background(
    large: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What was under way for it ends, and says so."""
    mine = live(large)
    large.catalog.knowledge_bases.delete(large.knowledge_base("kb").id)
    with caplog.at_level("INFO", "kb"):
        mine.aim(0.999)
        mine.settle()
    assert caplog.messages == ["kb was deleted while its index was written"]


def test_a_small_knowledge_base_is_exact_at_any_target(words: Any) -> None:
    """Before its index is written and after; the target waits in the row until it grows."""
    words.create_knowledge_base("kb", embedder="words", chunking=ChunkingPolicy(16))
    add(words, "doc1", "doc2")
    tuned = words.tune("kb", 0.999)
    assert (tuned.recall, tuned.before, tuned.after) == (0.999, None, None)
    live(words).vectors.checkpoint()
    tuned = words.tune("kb", 0.95)
    assert (tuned.recall, tuned.after.kind, tuned.after.rows, tuned.after.effort) == (0.95, "flat", 2, None)
    assert words.knowledge_base("kb").recall == 0.95
    assert words.search("pump doc1", ["kb"], mode="dense").exact


def test_another_model_and_the_one_before_keep_the_target(
    large: Any, fakes: Any, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new index is found for it; the old one comes to it when it is returned to."""
    both = {"words": embedder, "other": fakes.OtherEmbedder()}
    monkeypatch.setattr(LoadedModels, "embedder", lambda self, model: both[model])
    large.tune("kb", 0.999)
    large.reembed("kb", "other")
    assert targets(large) == (0.999, 0.999, 0.999)
    large.tune("kb", 0.95)
    large.rollback("kb")
    assert (large.knowledge_base("kb").embedder, targets(large)) == ("words", (0.95, 0.95, 0.95))


def test_a_repair_and_a_restore_keep_the_target(large: Any, tmp_path: Path) -> None:
    """It is in the catalog, which both start from; a checked folder is sound."""
    large.tune("kb", 0.999)
    assert large.check().found == ()
    kb = large.knowledge_base("kb")
    (large.settings.indexes_dir / kb.id / kb.fingerprint / "MANIFEST.json").write_text("{}")
    assert len(large.check(repair=True).found) == 1
    assert targets(large) == (0.999, 0.999, 0.999)
    large.backup(tmp_path / "b.zip")
    new = Settings(tmp_path / "new", f"sqlite:///{tmp_path}/new/catalog.db")
    restore(new, tmp_path / "b.zip")
    with type(large)(new) as again:
        live(again).vectors.checkpoint()
        assert targets(again) == (0.999, 0.999, 0.999)
