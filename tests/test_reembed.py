"""A knowledge base changes its model: no query fails, none mixes models, nothing written is lost."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from sqlalchemy import select

from kb.catalog.schema import chunks, vectors
from kb.catalog.store import text_hash
from kb.embed.loaded import LoadedModels
from kb.errors import DataFolderInUse, InvalidInput, ModelChanged, NotFound
from kb.evaluate import EntryParser, judge
from kb.ingest.source import Blob
from kb.types import ChunkingPolicy, SearchResult

CHILD = Path(__file__).with_name("reembed_child.py")


@pytest.fixture
def embedders(fakes: ModuleType, embedder: Any) -> dict[str, Any]:
    """Two fake models, by name."""
    return {"words": embedder, "other": fakes.OtherEmbedder()}


@pytest.fixture
def open_two(
    open_service: Callable[[], Any], embedders: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Any]:
    """Opens services that know both models, over one data folder."""
    monkeypatch.setattr(LoadedModels, "embedder", lambda self, model: embedders[model])
    return open_service


@pytest.fixture
def two(open_two: Callable[[], Any]) -> Any:
    """One of them, with fifty documents in `kb` under `words`."""
    service = open_two()
    service.create_knowledge_base("kb", embedder="words", chunking=ChunkingPolicy(16))
    add(service, *(f"doc{at}" for at in range(50)))
    return service


def add(service: Any, *names: str) -> None:
    """Documents of one chunk each, about pumps and themselves."""
    blobs = [
        Blob(name, json.dumps({"title": "", "text": f"pump {name} valve w{name}"}).encode()) for name in names
    ]
    service.level(service.knowledge_base("kb"), "test:", blobs, EntryParser(), whole=False)


def stored(service: Any) -> dict[str, set[bytes]]:
    """Hashes of the texts that have a vector, by model."""
    with service.catalog.database.read() as connection:
        rows = connection.execute(select(vectors.c.fingerprint, vectors.c.text_hash)).all()
    return {name: {row.text_hash for row in rows if row.fingerprint == name} for name, _ in rows}


def texts(service: Any) -> set[str]:
    """Every chunk's text."""
    with service.catalog.database.read() as connection:
        return set(connection.scalars(select(chunks.c.text)))


def assert_under(service: Any, embedder: Any) -> None:
    """Everything is found, by the scores of this model; the folder is sound."""
    hits = service.search("pump wdoc1", ["kb"], top_k=1000, mode="dense").hits
    assert {hit.text for hit in hits} == texts(service)
    assert is_of(embedder, "pump wdoc1", hits)
    assert service.search("wdoc1", ["kb"], mode="lexical", top_k=1).hits[0].uri == "doc1"
    assert service.check().found == ()


def is_of(embedder: Any, query: str, hits: Any) -> bool:
    """Whether every score of an answer is the inner product under a model."""
    right = embedder.bags([hit.text for hit in hits]) @ embedder.bags([query])[0]
    return bool(np.allclose([hit.score for hit in hits], right, atol=2e-3))


def test_the_new_model_is_live_and_the_old_one_kept(two: Any, embedders: dict[str, Any]) -> None:
    """Each text is embedded once under it; vectors of both are there, and the next ingest uses it."""
    told: list[tuple[int, int, int]] = []
    done = two.reembed("kb", "other", progress=lambda *counts: told.append(counts))
    assert (done.switched, done.embedded, done.previous, done.before) == (True, 50, "words", None)
    assert told[-1] == (50, 50, 50)
    kb = two.knowledge_base("kb")
    assert (kb.embedder, kb.fingerprint, kb.dim, kb.previous, kb.building) == (
        "other", "words-2", 32, "words", None,
    )  # fmt: skip
    assert kb.chunking == ChunkingPolicy(16)
    assert sorted(embedders["other"].embedded) == sorted(texts(two))
    assert stored(two)["words-1"] == stored(two)["words-2"] == {text_hash(text) for text in texts(two)}
    assert_under(two, embedders["other"])
    before = len(embedders["words"].embedded)
    add(two, "late")
    assert "pump late valve wlate" in embedders["other"].embedded
    assert len(embedders["words"].embedded) == before
    assert_under(two, embedders["other"])


def test_a_rollback_embeds_what_is_new_and_returns(two: Any, embedders: dict[str, Any]) -> None:
    """Documents that came and went meanwhile are there and gone; a second rollback undoes the first."""
    two.reembed("kb", "other")
    add(two, "late1", "late2")
    (gone,) = (one for one in two.documents("kb") if one.uri == "doc7")
    two.delete_document("kb", gone.id)
    done = two.rollback("kb")
    assert (done.switched, done.embedded, done.embedder, done.previous) == (True, 2, "words", "other")
    assert len(texts(two)) == 51
    assert_under(two, embedders["words"])
    add(two, "late3")
    assert two.rollback("kb").embedded == 1
    assert_under(two, embedders["other"])


def test_a_deleted_document_leaves_no_vector_under_either_model(two: Any) -> None:
    """As it does under one; also where a model is only half built."""
    two.reembed("kb", "other")
    (gone,) = (one for one in two.documents("kb") if one.uri == "doc7")
    two.delete_document("kb", gone.id)
    name = text_hash("pump doc7 valve wdoc7")
    assert [name in hashes for hashes in stored(two).values()] == [False, False]
    assert {name: len(hashes) for name, hashes in stored(two).items()} == {"words-1": 49, "words-2": 49}
    two.delete_knowledge_base("kb")
    assert stored(two) == {}
    assert two.check().found == ()


def test_a_text_deleted_while_it_is_embedded_gets_no_vector(two: Any, embedders: dict[str, Any]) -> None:
    """It would outlive the deletion."""
    (gone,) = (one for one in two.documents("kb") if one.uri == "doc7")
    embed = embedders["other"].embed_passages

    def deleting(some: list[str]) -> Any:
        if len(two.documents("kb")) == 50:
            two.delete_document("kb", gone.id)
        return embed(some)

    embedders["other"].embed_passages = deleting
    two.reembed("kb", "other")
    assert "pump doc7 valve wdoc7" in embedders["other"].embedded
    assert text_hash("pump doc7 valve wdoc7") not in stored(two)["words-2"]
    assert_under(two, embedders["other"])


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(("moment", "left"), [("1", 700), ("2", 444), ("before", 0), ("after", None)])
def test_a_run_that_was_killed_goes_on(
    two: Any, fakes: ModuleType, embedders: dict[str, Any], moment: str, left: int | None
) -> None:
    """Only what was not stored is embedded again; before the switch the old model answers, then the new."""
    text = "\n\n".join(f"pump more line{at} " + "valve " * 13 for at in range(650))
    long = Blob("long", json.dumps({"title": "", "text": text}).encode())
    two.level(two.knowledge_base("kb"), "test:", [long], EntryParser(), whole=False)
    assert len(texts(two)) == 700
    data = two.settings.data_dir
    command = [sys.executable, str(CHILD), str(fakes.__file__), str(data), moment]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    live = embedders["words" if left is not None else "other"]
    assert_under(two, live)
    if left is None:
        assert two.knowledge_base("kb").previous == "words"
        return
    assert two.knowledge_base("kb").building == "other"
    add(two, "late")
    assert two.reembed("kb", "other").embedded == left + 1
    assert_under(two, embedders["other"])


@contextmanager
def hammering(search: Callable[[], Any]) -> Iterator[list[Any]]:
    """Search again and again in threads of its own; what came, errors included, is in the list."""
    stop, came = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                came.append(search())
            except Exception as error:
                came.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield came
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_every_answer_is_of_one_model_and_none_fails(
    open_two: Callable[[], Any], two: Any, embedders: dict[str, Any]
) -> None:
    """While two services search, a third ingests and a fourth goes to another model and back, thrice."""
    server, writer, changer = open_two(), open_two(), open_two()
    for service in (server, two):
        service.warm()

    def search() -> tuple[str, Any]:
        return "pump wdoc1", server.search("pump wdoc1", ["kb"], top_k=200, mode="dense").hits

    def search_hybrid() -> tuple[str, Any]:
        hits = two.search("pump valve", ["kb"], top_k=200).hits
        return "pump valve", hits

    with hammering(search) as dense, hammering(search_hybrid) as hybrid:
        changer.reembed("kb", "other")
        for at in range(6):
            add(writer, f"new{at}")
            # An acknowledged write is in the next answer, whatever is live.
            assert f"new{at}" in {hit.uri for hit in server.search(f"wnew{at}", ["kb"], top_k=5).hits}
            changer.rollback("kb")
    of = {"words": 0, "other": 0}
    for query, hits in dense:
        models = [name for name in of if is_of(embedders[name], query, hits)]
        assert len(models) == 1
        assert len(hits) >= 50
        of[models[0]] += 1
    assert min(of.values()) > 0
    for query, hits in hybrid:
        products = [
            embedders[name].bags([hit.text for hit in hits]) @ embedders[name].bags([query])[0] for name in of
        ]
        scores = [hit.scores["dense"] for hit in hits]
        assert sum(np.allclose(scores, right, atol=2e-3) for right in products) == 1
    assert_under(server, embedders["other"])


def test_an_ingest_under_way_goes_on_under_the_new_model(
    open_two: Callable[[], Any], two: Any, embedders: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it embedded with the old one is embedded with the new one; no chunk lacks its vector."""
    changer, commit, calls = open_two(), two.catalog.store.commit, []

    def overtaken(*given: Any) -> Any:
        if not calls:
            changer.reembed("kb", "other")
        calls.append(given)
        return commit(*given)

    monkeypatch.setattr(two.catalog.store, "commit", overtaken)
    add(two, "late")
    assert [given[2] for given in calls] == ["words-1", "words-2"]
    assert len(texts(two)) == 51
    assert_under(two, embedders["other"])


def test_an_index_of_another_model_stops_at_the_switch(
    open_two: Callable[[], Any], two: Any, embedders: dict[str, Any]
) -> None:
    """A search that began before it may not follow past it: the old index would lack what came since."""
    old = two._indexes.live(two.knowledge_base("kb"))
    open_two().reembed("kb", "other")
    old.catch_up()
    add(open_two(), "late")
    with pytest.raises(ModelChanged):
        old.catch_up()
    assert len(old.vectors) == 50
    open_two().rollback("kb")
    old.catch_up()
    assert len(old.vectors) == 51
    assert_under(two, embedders["words"])


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Queries that any bag of words answers, and one nobody can."""
    folder = tmp_path / "judged"
    folder.mkdir()
    rows = [{"_id": f"q{at}", "text": f"wdoc{at}"} for at in range(5)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    qrels = ["query-id\tcorpus-id\tscore", *(f"q{at}\tdoc{at}\t1" for at in range(5))]
    (folder / "qrels.tsv").write_text("\n".join(qrels))
    return folder


def test_both_models_are_compared_on_judged_queries(two: Any, judged: Path) -> None:
    """nDCG@10 before and after; equal is not better, and another run switches without embedding again."""
    done = two.reembed("kb", "other", judge=judge(judged), only_if_better=True)
    assert (done.before, done.after, done.switched, done.embedded) == (1.0, 1.0, False, 50)
    kb = two.knowledge_base("kb")
    assert (kb.embedder, kb.building, kb.previous) == ("words", "other", None)
    done = two.reembed("kb", "other", judge=judge(judged))
    assert (done.switched, done.embedded) == (True, 0)


def test_the_judge_asks_each_model_in_its_own_index(two: Any) -> None:
    """The scores it sees are those of the model it judges."""
    seen: list[SearchResult] = []

    def ask(search: Callable[..., SearchResult]) -> float:
        seen.append(search("pump wdoc1", top_k=100, mode="dense"))
        return float(len(seen))

    done = two.reembed("kb", "other", judge=ask, only_if_better=True)
    assert (done.before, done.after, done.switched) == (1.0, 2.0, True)
    embedders = [two.embedder("words"), two.embedder("other")]
    assert [is_of(one, "pump wdoc1", found.hits) for one, found in zip(embedders, seen, strict=True)] == [
        True,
        True,
    ]
    assert [len(found.hits) for found in seen] == [50, 50]


def test_judgments_of_other_documents_are_refused(two: Any, judged: Path) -> None:
    """Nothing was found that they judge, so they can decide nothing."""
    (judged / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tnowhere\t1\n")
    with pytest.raises(InvalidInput, match="corpus-ids"):
        two.reembed("kb", "other", judge=judge(judged))
    assert two.knowledge_base("kb").embedder == "words"


def test_forgetting_frees_vectors_and_indexes(two: Any, embedders: dict[str, Any]) -> None:
    """Of the previous model; a rollback is over then."""
    two.reembed("kb", "other")
    folder = two.settings.indexes_dir / two.knowledge_base("kb").id
    two.rollback("kb")
    two.rollback("kb")
    add(two, "late")
    assert two.forget("kb") == ["words"]
    assert list(stored(two)) == ["words-2"]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["lexical", "words-2"]
    assert_under(two, embedders["other"])
    with pytest.raises(NotFound, match="no previous model"):
        two.rollback("kb")
    assert two.forget("kb") == []


def test_a_second_change_drops_the_model_before(two: Any, embedders: dict[str, Any], fakes: Any) -> None:
    """One previous model is kept at most."""
    third = type("Third", (fakes.OtherEmbedder,), {"fingerprint": "words-3", "salt": "third "})()
    embedders["third"] = third
    two.reembed("kb", "other")
    two.reembed("kb", "third")
    assert sorted(stored(two)) == ["words-2", "words-3"]
    assert two.knowledge_base("kb").previous == "other"
    assert not (two.settings.indexes_dir / two.knowledge_base("kb").id / "words-1").exists()
    assert_under(two, third)


def test_other_knowledge_bases_keep_their_vectors(two: Any, embedders: dict[str, Any]) -> None:
    """A text that stands in another one under the old model needs its vector still."""
    two.create_knowledge_base("twin", embedder="words", chunking=ChunkingPolicy(16))
    blob = Blob("doc1", json.dumps({"title": "", "text": "pump doc1 valve wdoc1"}).encode())
    two.level(two.knowledge_base("twin"), "test:", [blob], EntryParser())
    two.reembed("kb", "other")
    two.forget("kb")
    assert stored(two)["words-1"] == {text_hash("pump doc1 valve wdoc1")}
    assert two.search("wdoc1", ["twin"], mode="dense").hits[0].uri == "doc1"


def test_what_cannot_be_done_says_why(two: Any) -> None:
    """The model it is under, a decision without judgments, two runs at a time, nothing to return to."""
    with pytest.raises(InvalidInput, match="already"):
        two.reembed("kb", "words")
    with pytest.raises(InvalidInput, match="judged"):
        two.reembed("kb", "other", only_if_better=True)
    with pytest.raises(NotFound, match="no previous"):
        two.rollback("kb")
    with (
        FileLock(two.settings.indexes_dir / two.knowledge_base("kb").id / "reembed.lock"),
        pytest.raises(DataFolderInUse, match="already"),
    ):
        two.reembed("kb", "other")


def test_a_model_that_reads_less_than_a_chunk_is_remarked_upon(two: Any, embedders: dict[str, Any]) -> None:
    """The change is made, and what it means is said."""
    embedders["other"].max_tokens = 8
    done = two.reembed("kb", "other")
    assert done.remark is not None
    assert "16 tokens and the model reads 8" in done.remark
    assert two.rollback("kb").remark is None


def test_a_check_knows_the_models(two: Any) -> None:
    """What is kept is no finding; what is left of a model that is gone is, and goes."""
    two.reembed("kb", "other")
    assert two.check().found == ()
    kb = two.knowledge_base("kb")
    shutil.copytree(two.settings.indexes_dir / kb.id / "words-2", two.settings.indexes_dir / kb.id / "gone")
    assert [one.kind for one in two.check().found] == ["leftover"]
    assert two.check(repair=True).left == ()
    assert not (two.settings.indexes_dir / kb.id / "gone").exists()
    assert two.rollback("kb").embedded == 0
