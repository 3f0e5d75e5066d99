"""The command line, as a shell sees it: output, exit codes, and what `--json` prints."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kb.catalog import Catalog
from kb.catalog.database import Database
from kb.cli import app
from kb.index.policy import Effort
from kb.index.tune import Cost, Tuned
from kb.service import Service

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A data folder for the whole module."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "models").symlink_to(models)
    return folder


@pytest.fixture(scope="module")
def kb(data: Path) -> Run:
    """Run `kb` in a process of its own."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kb.cli", *arguments],
            env={**os.environ, "KB_DATA_DIR": str(data), "COLUMNS": "200", **more},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def here(data: Path) -> Run:
    """The same in this process, which spares it a second of imports."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner(env={"KB_DATA_DIR": str(data), "COLUMNS": "200"}).invoke(app, arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good files and a broken one."""
    docs = tmp_path_factory.mktemp("docs")
    (docs / "pump.md").write_text("# Pump\n\nThe pump is started with the green lever.\n")
    (docs / "sub").mkdir()
    (docs / "sub" / "valve.txt").write_text("The valve closes at 12 bar.\n")
    (docs / "menu.csv").write_text("day,meal\nMonday,soup\nTuesday,fish\n")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing else")
    return docs


@pytest.fixture(scope="module")
def ingested(kb: Run, folder: Path) -> subprocess.CompletedProcess[str]:
    """The folder, taken into `plant`."""
    return kb(
        "ingest",
        str(folder),
        "--kb",
        "plant",
        "--attributes",
        "site=north",
        "--attributes",
        "year=2024",
        "--json",
    )


def test_ingest_prints_counts_and_says_by_its_exit_code_that_a_file_was_refused(
    ingested: subprocess.CompletedProcess[str],
) -> None:
    """The good files are in, the broken one is named with its reason, the exit code is 3."""
    counts = json.loads(ingested.stdout)
    assert (counts["documents"], counts["chunks"], counts["embedded"], counts["reused"]) == (3, 3, 3, 0)
    assert (counts["failed"], [failure["uri"] for failure in counts["failures"]]) == (1, ["broken.pdf"])
    assert counts["seconds"] > 0
    assert ingested.returncode == 3


def test_a_second_ingest_embeds_nothing(
    here: Run, folder: Path, ingested: subprocess.CompletedProcess[str]
) -> None:
    """Nothing changed, so nothing is done; the broken file is tried and refused again."""
    done = here("ingest", str(folder), "--kb", "plant", "--json")
    counts = json.loads(done.stdout)
    assert (counts["documents"], counts["unchanged"], counts["embedded"], counts["failed"]) == (3, 3, 0, 1)
    assert done.returncode == 3


def test_search_prints_the_shape_of_the_http_answer(
    kb: Run, ingested: subprocess.CompletedProcess[str]
) -> None:
    """Hits with exact spans, scores by part, attributes; and timings."""
    done = kb("search", "How do I start the pump?", "--kb", "plant", "-k", "2", "--json")
    answer = json.loads(done.stdout)
    hit = answer["hits"][0]
    assert set(hit) == {
        "attributes", "chunk_id", "content_id", "content_version_id", "duplicates", "end", "heading",
        "knowledge_base_id", "matches", "page", "query", "ranks", "score", "scores", "start", "text", "title",
        "uri",
    }  # fmt: skip
    assert (hit["uri"], hit["title"], hit["heading"]) == ("pump.md", "Pump", "Pump")
    assert hit["text"] == "# Pump\n\nThe pump is started with the green lever."
    assert (hit["start"], hit["end"]) == (0, len(hit["text"]))
    assert hit["attributes"] == {"site": "north", "year": 2024}
    assert set(hit["scores"]) == {"dense", "lexical"}
    assert (len(answer["hits"]), answer["timings_ms"]["total"] > 0, done.returncode) == (2, True, 0)


@pytest.mark.parametrize(
    ("where", "uris"),
    [
        ('{"type":"eq","key":"site","value":"north"}', {"pump.md", "sub/valve.txt", "menu.csv"}),
        ('{"type":"gt","key":"year","value":2024}', set()),
    ],
)
def test_search_filters(
    here: Run, ingested: subprocess.CompletedProcess[str], where: str, uris: set[str]
) -> None:
    """A filter keeps exactly the documents that satisfy it."""
    done = here("search", "valve", "--kb", "plant", "--mode", "dense", "--filter", where, "--json")
    assert {hit["uri"] for hit in json.loads(done.stdout)["hits"]} == uris


def test_people_read_title_place_and_text(here: Run, ingested: subprocess.CompletedProcess[str]) -> None:
    """Without --json a hit shows where it stands and what it says."""
    done = here("search", "valve pressure", "--kb", "plant", "--mode", "lexical")
    assert "sub/valve.txt  [0:27]" in done.stdout
    assert "The valve closes at 12 bar." in done.stdout


def test_search_takes_shapes_and_several_questions(
    here: Run, ingested: subprocess.CompletedProcess[str]
) -> None:
    """The options of HTTP, one by one."""
    asked = (
        "search",
        "start the pump",
        "what is for Tuesday",
        "--kb",
        "plant",
        "-k",
        "2",
        "--max-per-document",
        "1",
    )
    done = here(
        *asked, "--by-document", "--expand", "section", "--collapse-duplicates", "--explain", "--json"
    )
    answer = json.loads(done.stdout)
    assert [(one["uri"], one["hits"][0]["query"]) for one in answer["documents"]] in (
        [("pump.md", 0), ("menu.csv", 1)],
        [("menu.csv", 1), ("pump.md", 0)],
    )
    assert answer["documents"][0]["hits"][0]["ranks"]["fused"] == 1
    shown = here(*asked, "--expand", "2", "--by-document", "--explain").stdout
    assert "2 documents in" in shown
    assert "fused" in shown
    assert "embed" in shown


def test_explain_tells_where_a_document_left(here: Run, ingested: subprocess.CompletedProcess[str]) -> None:
    """For people a line for each chunk, for scripts the answer of HTTP."""
    hits = json.loads(here("search", "start the pump", "--kb", "plant", "--json").stdout)["hits"]
    ids = {hit["uri"]: hit["content_id"] for hit in hits}
    told = json.loads(
        here("explain", "start the pump", ids["menu.csv"], "--kb", "plant", "-k", "1", "--json").stdout
    )
    assert (told["uri"], told["stage"], told["chunks"][0]["rank"] > 1) == ("menu.csv", "top_k", True)
    shown = here("explain", "start the pump", ids["pump.md"], "--kb", "plant").stdout
    assert "returned: it is returned with hit 1" in shown
    where = ("--filter", '{"type":"eq","key":"site","value":"south"}')
    assert (
        "site eq 'south' does not hold (it is 'north')"
        in here("explain", "pump", ids["pump.md"], "--kb", "plant", *where).stdout
    )


def test_tune_shows_and_sets_the_recall_target(here: Run, ingested: subprocess.CompletedProcess[str]) -> None:
    """For people in words, for scripts the whole cost before and after; a small index is exact at any."""
    shown = here("tune", "plant").stdout.splitlines()
    assert shown == [
        "recall target of plant: 0.99",
        "its index is not written yet: every vector is scanned, which is exact at any target",
    ]
    assert (
        here("tune", "plant", "--recall", "0.999").stdout.splitlines()[0] == "recall target of plant: 0.999"
    )
    assert json.loads(here("show", "plant", "--json").stdout)["recall"] == 0.999
    assert json.loads(here("tune", "plant", "--recall", "0.95", "--json").stdout) == {
        "recall": 0.95, "before": None, "after": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "recall", "lines"),
    [
        ("flat", 0.95, [
            "scanned",
            "exact at any target; the target counts above 10000 vectors",
            "before  exact; best 10 in 0.200 ms; best 100 in 0.300 ms",
            "now     exact; best 10 in 0.200 ms; best 100 in 0.300 ms",
        ]),
        ("codes", 0.95, [
            "by two-bit codes",
            "before  for 0.99; best 10 in 0.200 ms (codes); best 100 in 0.300 ms (codes); "
            "40 and 250 codes refined",
            "now     for 0.95; best 10 in 0.200 ms (codes); best 100 in 0.300 ms (codes); "
            "29 and 181 codes refined",
        ]),
        ("graph", None, [
            "by a graph, under filters also by codes",
            "now     for 0.95; best 10 in 0.200 ms (beam 42); best 100 in 0.300 ms (codes); "
            "29 and 181 codes refined",
        ]),
    ],
)  # fmt: skip
def test_tune_tells_what_it_found(
    kind: Any, recall: float | None, lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a search takes, and took before where the target was set."""
    efforts = [Effort(0.99, 50000, 40, 250, 112, 300), Effort(0.95, 50000, 29, 181, 42, 50000)]
    before, after = (Cost(kind, 50000, None if kind == "flat" else effort, 0.2, 0.3) for effort in efforts)
    monkeypatch.setattr(Service, "tune", lambda self, kb, recall: Tuned(0.95, before, after))
    asked = () if recall is None else ("--recall", str(recall))
    done = CliRunner().invoke(app, ["tune", "plant", *asked, "--data-dir", str(tmp_path)])
    first, *rest = lines
    assert done.stdout.splitlines() == [
        "recall target of plant: 0.95",
        f"index: 50000 vectors, {first}",
        *rest,
    ]


def test_list_and_show(here: Run, ingested: subprocess.CompletedProcess[str]) -> None:
    """Both name the knowledge base with its counts; show lists what was refused."""
    listed = json.loads(here("list", "--json").stdout)["data"]
    assert [(one["name"], one["documents"], one["chunks"]) for one in listed] == [("plant", 3, 3)]
    shown = json.loads(here("show", "plant", "--json").stdout)
    assert (shown["id"], shown["failures"][0]["uri"]) == (listed[0]["id"], "broken.pdf")
    assert "plant" in here("list").stdout
    assert "refused broken.pdf" in here("show", "plant").stderr


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("search", "x", "--kb", "nowhere"), "no knowledge base 'nowhere'", 1),
        (("search", " ", "--kb", "plant"), "the query is empty", 1),
        (("search", "x" * 9000, "--kb", "plant"), "at most 8192", 1),
        (("search", "x", "--kb", "plant", "-k", "0"), "top_k must be 1 to 1000", 1),
        (("search", "x", "--kb", "plant", "-k", "1001"), "top_k must be 1 to 1000", 1),
        (("search", "x", "--kb", "plant", "--rerank"), "KB_RERANKER", 1),
        (("search", "x", "--kb", "plant", "--rerank", "--rerank-depth", "0"), "rerank_depth", 1),
        (("search", "x", "--kb", "plant", "--mode", "magic"), "magic", 2),
        (("search", "x", "--kb", "plant", "--filter", "{"), "filter is not JSON", 1),
        (("search", "x", "--kb", "plant", "--filter", '{"type":"eq","value":1}'), "filter.key", 1),
        (("search", "x", "--kb", "plant", "--expand", "page"), 'expand must be "section"', 1),
        (("search", "x", "--kb", "plant", "--expand", "11"), "neighbours must be 1 to 10", 1),
        (("search", "x", "--kb", "plant", "--max-per-document", "0"), "max_per_document must be", 1),
        (("explain", "x", "doc_0", "--kb", "plant"), "no document 'doc_0'", 1),
        (("ingest", "no/such/folder", "--kb", "plant"), "does not exist", 1),
        (("show", "nowhere"), "there are: plant", 1),
        (("delete", "plant"), "say --yes", 1),
        (("tune", "plant", "--recall", "1"), "recall must be 0.9 to 0.9999", 1),
        (("tune", "nowhere"), "no knowledge base 'nowhere'", 1),
        (("eval", "no/such/folder"), "qrels.tsv is missing", 1),
        (("serve", "--host", "0.0.0.0"), "kb keys create", 1),
        (("keys", "delete", "key_1"), "no key 'key_1'", 1),
        (("ingest", "x", "--kb", "plant", "--attributes", "novalue"), "key=value", 2),
    ],
)
def test_bad_input_gets_a_message_and_an_exit_code(
    here: Run, ingested: subprocess.CompletedProcess[str], arguments: tuple[str, ...], message: str, code: int
) -> None:
    """Nobody sees a traceback."""
    done = here(*arguments)
    assert (message in done.stderr, done.returncode) == (True, code), done.stderr


def test_errors_are_json_when_asked(here: Run, ingested: subprocess.CompletedProcess[str]) -> None:
    """A script reads the same shape that HTTP answers."""
    done = here("search", "x", "--kb", "plant", "-k", "0", "--json")
    error = json.loads(done.stdout)["error"]
    assert (error["param"], error["type"], done.returncode) == ("top_k", "InvalidInput", 1)


def test_an_empty_folder_changes_nothing(
    here: Run, tmp_path: Path, ingested: subprocess.CompletedProcess[str]
) -> None:
    """An unmounted disk must not empty a knowledge base."""
    done = here("ingest", str(tmp_path), "--kb", "plant")
    assert (done.returncode, "holds no files" in done.stderr) == (1, True)
    assert json.loads(here("show", "plant", "--json").stdout)["documents"] == 3


def test_a_second_server_on_the_folder_is_refused(here: Run, data: Path) -> None:
    """One server a data folder; the message says what to do."""
    from filelock import FileLock

    data.mkdir(exist_ok=True)
    with FileLock(data / "serve.lock"):
        done = here("serve", "--port", "1")
    assert (done.returncode, "runs on" in done.stderr) == (1, True)


def test_keys_are_shown_once(here: Run, data: Path) -> None:
    """The secret is printed when made, admits, and is stored nowhere."""
    made = json.loads(here("keys", "create", "laptop", "--json").stdout)
    assert made["key"].startswith("kb_")
    listed = json.loads(here("keys", "list", "--json").stdout)["data"]
    assert [(one["id"], one["name"]) for one in listed] == [(made["id"], "laptop")]
    assert made["key"].encode() not in b"".join(path.read_bytes() for path in data.glob("catalog.db*"))
    catalog = Catalog(f"sqlite:///{data / 'catalog.db'}")
    assert catalog.keys.admits(made["key"])
    catalog.close()
    assert here("keys", "delete", made["id"]).returncode == 0
    assert json.loads(here("keys", "list", "--json").stdout)["data"] == []


def test_delete_removes_everything(here: Run, data: Path, folder: Path) -> None:
    """Rows, texts and index files of a deleted knowledge base are gone."""
    here("ingest", str(folder / "sub"), "--kb", "gone")
    kb_id = json.loads(here("show", "gone", "--json").stdout)["id"]
    assert (data / "indexes" / kb_id).is_dir()
    assert here("delete", "gone", "--yes").returncode == 0
    assert here("show", "gone").returncode == 1
    assert not (data / "indexes" / kb_id).exists()
    database = Database(f"sqlite:///{data / 'catalog.db'}")
    with database.read() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM contents WHERE kb_id = ?", (kb_id,)).scalar()
    database.close()
    assert left == 0


def test_help_imports_nothing_heavy() -> None:
    """`kb --help` stays quick because these stay out."""
    code = (
        "import sys\nfrom kb.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'sqlalchemy', 'torch', 'faiss', 'onnxruntime', 'openvino', 'fastapi', 'tantivy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
