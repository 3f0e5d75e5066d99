"""Evaluation: trec_eval's measures on rankings whose values are known by hand, and whole runs."""

import json
from math import log2
from pathlib import Path
from typing import Any

import pytest

from kb.errors import InvalidInput
from kb.evaluate import evaluate, measure, percentiles, ranking, read
from kb.ingest.parse import parse
from kb.types import Hit, SearchResult


def test_measures_are_those_of_trec_eval() -> None:
    """One query answered at rank 1, one at rank 3, one not at all."""
    judged = {"a": {"x": 1}, "b": {"y": 1}, "c": {"z": 1}}
    found = {"a": ["x", "q"], "b": ["q", "r", "y"], "c": ["q"]}
    assert measure(found, judged) == {
        "ndcg@10": round((1 + 1 / log2(4)) / 3, 5),
        "recall@10": round(2 / 3, 5),
        "recall@100": round(2 / 3, 5),
        "mrr@10": round((1 + 1 / 3) / 3, 5),
    }


def test_grades_weigh_and_the_cuts_hold() -> None:
    """A document at rank 11 counts for recall@100 alone; a better grade gains more."""
    judged = {"a": {"x": 1, "y": 2}}
    found = {"a": ["y", *(f"n{i}" for i in range(9)), "x"]}
    ideal = 2 + 1 / log2(3)
    assert measure(found, judged) == {
        "ndcg@10": round(2 / ideal, 5),
        "recall@10": 0.5,
        "recall@100": 1.0,
        "mrr@10": 1.0,
    }
    late = {"a": [*(f"n{i}" for i in range(10)), "x"]}
    assert measure(late, judged)["mrr@10"] == 0.0


def hit(uri: str) -> Hit:
    """A hit in a document."""
    return Hit("kb", 1, "ver", "doc", "t", uri, "x", 0, 1, None, None, 1.0, {}, {})


def test_a_document_ranks_once_at_its_best_chunk() -> None:
    """Files are known by their path, or by their name where the judgments use it."""
    result = SearchResult(tuple(hit(uri) for uri in ("pdfs/a.pdf", "b.md", "pdfs/a.pdf", "c/d.md")), {})
    assert ranking(result, {"a.pdf": 1, "c/d.md": 1}) == ["a.pdf", "b.md", "c/d.md"]


def test_percentiles_of_known_numbers() -> None:
    """Interpolated between neighbours; one value stands for all."""
    assert percentiles([float(n) for n in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([7.0]) == {"p50": 7.0, "p95": 7.0, "p99": 7.0}


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A collection of three documents in BEIR layout."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    corpus = [
        {"_id": "d1", "title": "Pump", "text": "The pump is started with the green lever."},
        {"_id": "d2", "title": "Valve", "text": "The valve closes at twelve bar."},
        {"_id": "d3", "title": "", "text": "Soup is served on Monday."},
    ]
    queries = [{"_id": "q1", "text": "How do I start the pump?"}, {"_id": "q2", "text": "What is for lunch?"}]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text(
        "\n".join(map(json.dumps, [*queries, {"_id": "q3", "text": "unjudged"}]))
    )
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td3\t1\n")
    return folder


@pytest.mark.parametrize("whole", [True, False])
def test_a_beir_folder_is_measured(service: Any, beir: Path, whole: bool) -> None:
    """Every judged query, and only those; the second run embeds nothing."""
    first = evaluate(service, beir, mode="dense", whole_documents=whole)
    assert (first["documents"], first["queries"], first["ingest"]["embedded"]) == (3, 2, 3)
    assert (first["ndcg@10"], first["mrr@10"], first["recall@100"]) == (1.0, 1.0, 1.0)
    assert set(first["latency_ms"]) == {"p50", "p95", "p99"}
    again = evaluate(service, beir, mode="hybrid", whole_documents=whole)
    assert again["ingest"]["embedded"] == 0


def test_an_entry_without_a_title_is_embedded_as_its_text_alone(service: Any, beir: Path) -> None:
    """An id is no title: it would be part of what the model reads."""
    evaluate(service, beir, mode="dense", whole_documents=True)
    kb = service.catalog.knowledge_bases.get(f"eval {beir.parent.name} tiny whole")
    (step,) = service.catalog.feed.after(kb.id, 0, kb.fingerprint, kb.dim)
    assert step.texts == [
        "Pump The pump is started with the green lever.",
        "Valve The valve closes at twelve bar.",
        "Soup is served on Monday.",
    ]


def test_a_changed_corpus_is_followed(service: Any, beir: Path) -> None:
    """A document that left the corpus is not found any more."""
    evaluate(service, beir, mode="dense", whole_documents=True)
    lines = (beir / "corpus.jsonl").read_text().splitlines()
    (beir / "corpus.jsonl").write_text("\n".join(lines[1:]))
    after = evaluate(service, beir, mode="dense", whole_documents=True)
    assert (after["documents"], after["recall@100"]) == (2, 0.5)


def test_a_folder_of_files_is_measured(service: Any, tmp_path: Path) -> None:
    """The collection's own files are no documents."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pump.md").write_text("# Pump\n\nThe pump is started with the green lever.")
    (tmp_path / "docs" / "soup.txt").write_text("Soup is served on Monday.")
    (tmp_path / "queries.jsonl").write_text('{"_id":"q","text":"starting the pump"}')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tdocs/pump.md\t1\n")
    result = evaluate(service, tmp_path, mode="lexical")
    assert (result["documents"], result["mrr@10"]) == (2, 1.0)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1 d1 1\n", "qrels.tsv:2"),
        ("queries.jsonl", '{"_id": "q1"}\n', "queries.jsonl:1"),
        ("corpus.jsonl", "[]\n", "corpus.jsonl:1"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nother\td1\t1\n", "no query"),
    ],
)
def test_a_malformed_collection_names_file_and_line(beir: Path, file: str, text: str, message: str) -> None:
    """Nobody has to search ten thousand lines."""
    (beir / file).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read(beir)


def test_the_handbook_is_answered() -> None:
    """The sample collection: every answer stands where it says, in a document that is judged."""
    data = Path(__file__).parents[1] / "data"
    answers = [json.loads(line) for line in (data / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    collection = read(data)
    assert {answer["query_id"] for answer in answers} == set(collection.queries)
    assert len(answers) == 72
    texts: dict[str, str] = {}
    for answer in answers:
        uri = answer["document"]
        if uri not in texts:
            texts[uri] = parse((data / uri).read_bytes(), Path(uri).name).text
        assert texts[uri][answer["start"] : answer["end"]] == answer["quote"]
        assert collection.judgments[answer["query_id"]][uri] >= 1
