"""The catalogue of language models over HTTP and on the command line."""

import json

from starlette.testclient import TestClient
from typer.testing import CliRunner

from kb.cli import app


def test_models_are_listed_and_shown(client: TestClient) -> None:
    """In the form of OpenAI's list, with what a caller needs to size and price a call."""
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    mini = client.get("/v1/models/gpt-4.1-mini").json()
    assert mini in listed["data"]
    assert (mini["object"], mini["created"]) == ("model", 1744588800)
    assert (mini["context_window"], mini["max_output_tokens"]) == (1_047_576, 8_192)
    assert mini["credits_per_1000_tokens"] == {
        "cache_hit": "1.33",
        "standard": {"input": "5.32", "output": "21.28"},
        "priority": {"input": "9.31", "output": "37.24"},
    }
    missing = client.get("/v1/models/gpt-4.1-minni")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert "did you mean 'gpt-4.1-mini'" in missing.json()["error"]["message"]


def test_models_are_listed_on_the_command_line(tmp_path: object) -> None:
    """One a line, or as JSON."""
    where = ["--data-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, ["models", *where])
    assert "gpt-4.1-mini  reads 1,047,576 tokens, writes 8,192" in shown.stdout
    assert "standard 5.32 in, 21.28 out; priority 9.31 in, 37.24 out; cache hit 1.33" in shown.stdout
    (mini,) = json.loads(CliRunner().invoke(app, ["models", "--json", *where]).stdout)
    assert mini["credits"]["standard"] == {"input": "5.32", "output": "21.28"}
