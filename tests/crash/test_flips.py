"""A flipped bit and a file cut short, anywhere in any kind of file: noticed before anything parses it."""

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.judge import judge
from harness.trips import NAME

from kb.embed.folder import DEFAULT_MODEL, ExportedModel, exported
from kb.errors import InvalidInput, KbError, ModelUnavailable
from kb.index import checkpoint, lexical, manifest
from kb.index.faiss_index import FaissIndex
from kb.service import Service
from kb.settings import Settings
from kb.upkeep.backup import verified

FEW, MANY = 15, 1000


def damaged(good: bytes, chance: random.Random) -> bytes:
    """One bit flipped, or, one time in five, cut short."""
    if chance.random() < 0.2:
        return good[: chance.randrange(len(good))]
    at = chance.randrange(len(good))
    return good[:at] + bytes([good[at] ^ (1 << chance.randrange(8))]) + good[at + 1 :]


def service(root: Path) -> Service:
    """Over a root's data folder."""
    return Service(Settings(root / "data", f"sqlite:///{root / 'data' / 'catalog.db'}"))


def kinds(folder: Path) -> dict[str, Path]:
    """One file of each kind that an index wrote, whatever the kinds are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "lock" not in path.name and path.stat().st_size:
            named = path.name if path.suffix in ("", ".json") else path.suffix
            found[f"{'lexical' if path.parent.name == 'lexical' else 'dense'}/{named}"] = path
    return found


def flips(count: int, start: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Damage each kind of index file that often; a few times a kind, all is rebuilt and judged."""
    import faiss

    read, really = [], faiss.read_index

    def spied(*given: Any) -> Any:
        read.append(given[0])
        return really(*given)

    monkeypatch.setattr(faiss, "read_index", spied)
    chance, tried = random.Random(9), Counter[str]()
    with service(start.root) as opened:
        target = opened.knowledge_base(NAME)
    source = start.root / "data" / "indexes" / target.id
    for kind, path in kinds(source).items():
        good, folder = path.read_bytes(), scratch / "indexes"
        for number in range(count):
            root = start.copied(scratch / "root") if number % 300 == 0 else None
            shutil.copytree(source, folder)
            (folder / path.relative_to(source)).write_bytes(damaged(good, chance))
            dense = checkpoint.damage(folder / target.fingerprint)
            words = lexical.damage(folder / "lexical")
            assert (dense is None, words is None) == (not kind.startswith("dense"), kind.startswith("dense"))
            if dense:
                index = FaissIndex(
                    folder / target.fingerprint, fingerprint=target.fingerprint, dim=target.dim
                )
                assert (index.seq, read) == (0, []), f"{kind}: used"
            if root is not None:
                shutil.copy(folder / path.relative_to(source), root / path.relative_to(start.root))
                with service(root) as opened:
                    assert [one.kind for one in opened.check().found] == ["index_damaged"]
                    assert opened.check(repair=True).left == ()
                judge(root, start.expected, start.texts)
                shutil.rmtree(root)
                read.clear()
            shutil.rmtree(folder)
            tried[kind] += 1
    return tried


def test_damage_to_an_index_is_noticed(
    starts: Mapping, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of file, before FAISS or tantivy sees it; what was lost comes back from the catalog."""
    tried = flips(FEW, starts["delete"], scratch, monkeypatch)
    assert {"dense/MANIFEST.json", "lexical/SEQ", "lexical/meta.json"} < tried.keys()


@pytest.mark.slow
def test_a_thousand_damages_to_each_kind_are_noticed(
    starts: Mapping, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, a thousand times each."""
    assert set(flips(MANY, starts["delete"], scratch, monkeypatch).values()) == {MANY}


def test_without_the_comparison_nothing_would_be_noticed(
    starts: Mapping, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug of this file: a checksum that nobody compares."""
    monkeypatch.setattr(manifest.check_files, "__code__", (lambda folder, checksums: None).__code__)
    with pytest.raises(AssertionError):
        flips(FEW, starts["delete"], scratch, monkeypatch)


def test_damage_to_a_backup_is_noticed(starts: Mapping, scratch: Path) -> None:
    """Its seal covers every byte of it, those of the zip format too."""
    (good,), chance = [(starts["restore"].documents.parent / "backup.zip").read_bytes()], random.Random(9)
    file = scratch / "b.zip"
    file.write_bytes(good)
    assert verified(file)["counts"]["contents"] == 5
    for _ in range(MANY):
        file.write_bytes(damaged(good, chance))
        with pytest.raises(InvalidInput, match="damaged or no backup"):
            verified(file)


def test_damage_to_a_model_is_noticed(models: Path, scratch: Path) -> None:
    """Before anything parses it. (A small stand-in for the graph: what counts is who compares it.)"""
    from kb.embed.runtime import OnnxEmbedder

    real = exported(DEFAULT_MODEL, models)
    (scratch / "graph.onnx").write_bytes(graph := random.Random(1).randbytes(4000))
    written = ExportedModel.read(real)
    replace(written, graph_sha256=hashlib.sha256(graph).hexdigest()).write(scratch)
    shutil.copy(real / "tokenizer.json", scratch)
    chance = random.Random(9)
    for name in ("model.json", "tokenizer.json", "graph.onnx"):
        good = (scratch / name).read_bytes()
        for _ in range(FEW):
            (scratch / name).write_bytes(damaged(good, chance))
            with pytest.raises(ModelUnavailable, match=f"{name} is damaged"):
                OnnxEmbedder(scratch, runtimes=["onnxruntime"])
        (scratch / name).write_bytes(good)


def catalog_flips(count: int, start: Any, scratch: Path) -> Counter[str]:
    """Damage the catalog that often; what nobody notices must not have changed what a search gives."""
    good, chance, seen = (start.root / "data" / "catalog.db").read_bytes(), random.Random(9), Counter[str]()
    with service(start.root) as opened:
        target = opened.knowledge_base(NAME)
        before = answers(opened)
    for _ in range(count):
        root = start.copied(scratch / "root")
        (root / "data" / "catalog.db").write_bytes(damaged(good, chance))
        try:
            with service(root) as opened:
                if opened.check().found:
                    seen["noticed by fsck"] += 1
                elif opened.knowledge_base(target.id) and answers(opened) == before:
                    seen["without effect on documents"] += 1
                else:
                    raise AssertionError("a search gives something else, and fsck is silent")
        except KbError:
            seen["refused at opening"] += 1
        shutil.rmtree(root)
    return seen


def answers(opened: Any) -> Any:
    """Every chunk as it is found: its span, its text, its document's."""
    hits = opened.search("common", [NAME], mode="lexical", top_k=100).hits
    return sorted(
        (hit.uri, hit.start, hit.end, hit.text, opened.text(hit.content_version_id)) for hit in hits
    )


def test_damage_to_the_catalog_is_noticed_or_harmless(starts: Mapping, scratch: Path) -> None:
    """SQLite has no checksums of its own: its integrity check, the spans and the hashes of texts stand in."""
    assert sum(catalog_flips(FEW, starts["delete"], scratch).values()) == FEW


@pytest.mark.slow
def test_a_thousand_damages_to_the_catalog(starts: Mapping, scratch: Path) -> None:
    """The same, a thousand times."""
    assert sum(catalog_flips(MANY, starts["delete"], scratch).values()) == MANY
