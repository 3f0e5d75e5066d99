"""`kb ask` and `kb.ask`: answers, their sources, their price; without an endpoint the passages."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from upstream import Answer, Then, Upstream, Used, replies

import kb
from kb.catalog.paging import Page
from kb.cli import app
from kb.errors import NoEndpoint, UpstreamFailed

QUESTION = "How is the pump started?"
PUMP = "# Pump\n\nThe pump is started with the green lever.\nPull it twice.\n"
SAYS = Answer(
    deltas=(
        'Use the lever [1: "green',
        ' lever"].',
        ' Twice [1: "Pull it twice"], never thrice [1: "thrice"].',
    ),
    used=Used(400, 20, cached=100),
)
TEXT = "Use the lever [1]. Twice [1], never thrice."
# (300 * 5.32 + 100 * 1.33 + 20 * 21.28) / 1000
CREDITS = "2.1546"

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A data folder with the knowledge base `plant`, for the whole module."""
    made = tmp_path_factory.mktemp("data")
    (made / "models").symlink_to(models)
    documents = tmp_path_factory.mktemp("documents")
    (documents / "pump.md").write_text(PUMP)
    with kb.open(made) as service:
        service.ingest(documents, "plant")
    return made


@pytest.fixture
def endpoint(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """The scripted endpoint, named in KB_ENDPOINTS."""
    _name(tmp_path, upstream.url, monkeypatch)
    upstream.script(replies.says(SAYS))
    return upstream


def _name(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, model: str = "gpt-4.1-mini") -> None:
    file = folder / "endpoints.toml"
    models = f'{{"gpt-4.1-mini" = "{model}"}}'
    file.write_text(
        f'[[endpoint]]\nname = "here"\nbase_url = "{url}"\nkind = "chat"\nmodels = {models}\nretries = 0\n'
    )
    monkeypatch.setenv("KB_ENDPOINTS", str(file))


@pytest.fixture
def run(data: Path) -> Run:
    """`kb ask QUESTION --kb plant` with more arguments."""
    return lambda *more: CliRunner().invoke(
        app, ["ask", QUESTION, "--kb", "plant", "--data-dir", str(data), *more]
    )


def _last(data: Path) -> Any:
    with kb.open(data) as service:
        return service.ledger.calls(Page(1)).items[0]


def test_an_answer_is_printed_with_its_sources_and_its_price(
    run: Run, endpoint: Upstream, data: Path
) -> None:
    """The number as in the answer; of each place that it cites the exact line; what did not hold is told."""
    done = run()
    assert done.stdout == (
        f"{TEXT}\n"
        "\n[1] Pump  pump.md\n"
        "    line 3\n"
        "    The pump is started with the green lever.\n"
        "    line 4\n"
        "    Pull it twice.\n"
        f"gpt-4.1-mini, standard: 400 tokens in (100 cached), 20 out, {CREDITS} credits; "
        "citations: 2 hold, 1 dropped\n"
    )
    assert (done.exit_code, done.stderr) == (0, "")
    row = _last(data)
    assert (row.status, row.credits, row.endpoint) == ("completed", Decimal(CREDITS), "here")
    assert row.knowledge_base_ids != ()


def test_a_stream_prints_the_same(run: Run, endpoint: Upstream) -> None:
    """Whether words come at once or at the end."""
    assert run("--stream").stdout == run("--no-stream").stdout


def test_json_is_the_response(run: Run, endpoint: Upstream) -> None:
    """As POST /v1/responses gives it."""
    response = json.loads(run("--json", "--stream").stdout)
    assert (response["object"], response["status"], response["store"]) == ("response", "completed", False)
    assert response["usage"]["credits"] == CREDITS
    assert response["citations"] == {"verified": 2, "dropped": 1}


def test_options_reach_the_call(run: Run, endpoint: Upstream) -> None:
    """Its tier and its limit, and the passages, of which fewer tokens are asked for."""
    shown = run("--tier", "priority", "--max-output-tokens", "50", "-k", "1", "--max-context-tokens", "200")
    assert shown.exit_code == 0
    body = endpoint.request(0).body
    assert (body["service_tier"], body["max_tokens"]) == ("priority", 50)
    assert "green lever" in body["messages"][1]["content"]
    refused = run("--filter", "{")
    assert (refused.exit_code, refused.stderr.startswith("error: filter is not JSON")) == (1, True)


def test_the_context_can_be_shown(run: Run, endpoint: Upstream) -> None:
    """Numbered, with file and lines, before the answer."""
    text = run("--show-context").stdout
    assert text.startswith("\n[1] Pump  pump.md  lines 1-4\n    # Pump\n    \n    The pump is started")
    assert text.index("Pull it twice") < text.index(TEXT)


def test_without_an_endpoint_the_passages_are_printed_and_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the better half of the answer; the exit code says that there is no other."""
    monkeypatch.delenv("KB_ENDPOINTS", raising=False)
    done = run()
    assert done.exit_code == 1
    assert done.stdout.startswith("\n[1] Pump  pump.md  lines 1-4\n    # Pump\n")
    assert done.stderr.startswith("error: no model can be called yet: name a file in KB_ENDPOINTS")
    told = json.loads(run("--json").stdout)
    assert told["error"]["type"] == "NoEndpoint"
    assert "green lever" in told["context"]["text"]
    assert [one["uri"] for one in told["context"]["passages"]] == ["pump.md"]


def test_an_answer_that_is_cut_off_is_printed_and_told(run: Run, endpoint: Upstream) -> None:
    """What there is of it, and an exit code that is not 0."""
    endpoint.script(replies.says(Answer(deltas=("Use the",), cut_short=True)))
    done = run()
    assert (done.exit_code, done.stdout.splitlines()[0]) == (1, "Use the")
    assert done.stderr == "the answer is incomplete: max_output_tokens\n"


def test_an_endpoint_that_fails_is_told(run: Run, endpoint: Upstream) -> None:
    """In one line."""
    endpoint.script(replies.refuses(500, message="out of order"))
    done = run()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: here failed (500): out of order\n"


def test_ctrl_c_stops_the_call_and_the_ledger_has_it(data: Path, endpoint: Upstream, tmp_path: Path) -> None:
    """The endpoint is hung up on, and what was written until then is paid."""
    endpoint.script(replies.breaks_off(2, [Then.HOLD], Answer(deltas=("Use the ", "lever"))))
    command = [sys.executable, "-m", "kb.cli", "ask", QUESTION, "--kb", "plant", "--stream"]
    environment = {**os.environ, "KB_DATA_DIR": str(data)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"Use"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told == b"\nstopped; what it cost until then is in `kb usage`\n"
    assert endpoint.deserted()
    row = _last(data)
    assert (row.status, row.output, row.estimated) == ("cancelled", 3, True)


def test_a_model_is_asked_from_python(data: Path, endpoint: Upstream) -> None:
    """Also where an event loop is running, as in a notebook; the text comes in pieces, and whole."""
    pieces: list[str] = []

    async def cell() -> kb.Answer:
        with kb.open(data) as service:
            return kb.ask(service, QUESTION, ["plant"], on_text=pieces.append)

    answer = asyncio.run(cell())
    assert "".join(pieces) == answer.text == TEXT
    assert [(one.number, one.quote, PUMP[one.start : one.end]) for one in answer.citations] == [
        (1, "green lever", "green lever"),
        (1, "Pull it twice", "Pull it twice"),
    ]
    assert (answer.dropped, answer.status, answer.reason, answer.tier) == (1, "completed", None, "standard")
    assert (answer.usage.input, answer.usage.cached, str(answer.credits)) == (400, 100, CREDITS)
    assert endpoint.deserted()


def test_what_on_text_raises_stops_the_call(data: Path, endpoint: Upstream) -> None:
    """As does an endpoint that fails or is not there: it is told by its own error."""

    def full(text: str) -> None:
        raise OSError("no room")

    with kb.open(data) as service:
        with pytest.raises(OSError, match="no room"):
            kb.ask(service, QUESTION, ["plant"], on_text=full)
        assert _last(data).status == "cancelled"
        endpoint.script(replies.refuses(500))
        with pytest.raises(UpstreamFailed):
            kb.ask(service, QUESTION, ["plant"])
    assert _last(data).status == "failed"


def test_from_python_too_an_endpoint_is_needed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the error says how to name one."""
    monkeypatch.delenv("KB_ENDPOINTS", raising=False)
    with kb.open(data) as service, pytest.raises(NoEndpoint, match="KB_ENDPOINTS"):
        kb.ask(service, QUESTION, ["plant"])


def test_a_real_model_answers(
    run: Run, data: Path, tmp_path: Path, local_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 3 270M, which says little that is true: what it says is counted by itself, and paid."""
    _name(tmp_path, local_model, monkeypatch, "gemma-3-270m")
    done = run("--max-output-tokens", "12", "--stream")
    assert "gpt-4.1-mini, standard: " in done.stdout
    row = _last(data)
    assert (row.endpoint, row.estimated, row.output) == ("here", False, 12)
    assert row.credits > 0


def test_models_are_listed_with_where_they_are_called(data: Path, endpoint: Upstream) -> None:
    """The first endpoint that has a model is asked first."""
    where = ["--data-dir", str(data)]
    assert "called at here" in CliRunner().invoke(app, ["models", *where]).stdout
    (mini,) = json.loads(CliRunner().invoke(app, ["models", "--json", *where]).stdout)
    assert mini["called_at"] == ["here"]
