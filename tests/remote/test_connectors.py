"""The operator's file: what it takes, what it refuses, and that no secret comes out of it."""

from pathlib import Path

import pytest

from kb.errors import InvalidInput
from kb.remote.approval import ApprovalByTool, ToolFilter
from kb.remote.connectors import Connector, Connectors

FILE = """
[[connector]]
id = "tickets"
url = "https://tickets.example.org/mcp"
headers = { x-team = "operations" }
key_env = "TICKETS_KEY"
allowed_tools = ["search", "read"]
require_approval = { never = { read_only = true } }

[[connector]]
id = "clock"
command = "python"
args = ["-m", "mcp_server_time"]
env = { TOKEN = "s3cret" }
call_seconds = 5
"""


def read(tmp_path: Path, text: str) -> Connectors:
    """Of a file with that text."""
    (tmp_path / "connectors.toml").write_text(text, encoding="utf-8")
    return Connectors.read(tmp_path / "connectors.toml")


def test_a_file_becomes_connectors(tmp_path: Path) -> None:
    """At a URL, or started here."""
    found = read(tmp_path, FILE)
    assert [one.id for one in found.all] == ["tickets", "clock"]
    tickets, clock = found.all
    assert tickets.allowed_tools == ToolFilter(tool_names=("search", "read"))
    assert tickets.require_approval == ApprovalByTool(never=ToolFilter(read_only=True))
    assert (tickets.allow_private, tickets.call_seconds, tickets.connect_seconds) == (False, 120, 30)
    assert (clock.command, clock.args, clock.require_approval) == (
        "python",
        ("-m", "mcp_server_time"),
        "always",
    )
    assert found.get("clock") is clock


def test_no_file_is_no_connector() -> None:
    """And the way to one is told."""
    with pytest.raises(InvalidInput, match=r"no connector is set up here: name a file in KB_CONNECTORS"):
        Connectors.read(None).get("tickets")


def test_an_unknown_connector_is_told_with_those_there_are(tmp_path: Path) -> None:
    """By id."""
    with pytest.raises(
        InvalidInput, match=r"there is no connector 'mail'; there are: clock, tickets"
    ) as raised:
        read(tmp_path, FILE).get("mail")
    assert raised.value.param == "connector_id"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connector = 's3cret'", "connector"),
        ("", "connector"),
        ("[[connector]]\nid = 'a'", "give url or command"),
        ("[[connector]]\nid = 'a'\nurl = 'https://a.test'\ncommand = 's3cret'", "give url or command"),
        ("[[connector]]\nid = 'a'\ncommand = 'x'\nkey_env = 's3cret'", "go with url"),
        ("[[connector]]\nid = 'a'\ncommand = 'x'\nallow_private = true", "go with url"),
        ("[[connector]]\nid = 'a'\nurl = 'https://a.test'\nargs = ['s3cret']", "go with command"),
        ("[[connector]]\nid = 'a'\nurl = 's3cret'", "connector.0.url"),
        ("[[connector]]\nid = 'a'\nurl = 'https://a.test'\nkey = 's3cret'", "connector.0.key"),
        (
            "[[connector]]\nid = 'a'\nurl = 'https://a.test'\nkey_env = 's'\nkey_file = 's3cret'",
            "not in both",
        ),
        ("[[connector]]\nid = 'a'\nurl = 'https://a.test'\nrequire_approval = 's3cret'", "require_approval"),
        (
            "[[connector]]\nid = 'a'\nurl = 'https://a.test'\nrequire_approval = {never = {}}",
            "tool_names or read_only",
        ),
        ("[[connector]]\nid = 'a'\ncommand = 'x'\n" * 2, "'a' stands in it twice"),
        ("[[connector]", "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_told_without_its_values(text: str, told: str, tmp_path: Path) -> None:
    """One of them may be a key."""
    with pytest.raises(InvalidInput, match=told) as raised:
        read(tmp_path, text)
    assert "s3cret" not in str(raised.value)
    assert raised.value.param == "KB_CONNECTORS"


def test_a_key_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a variable or a file; one that is not there is told by its name."""
    by_variable = Connector.model_validate({"id": "a", "url": "https://a.test", "key_env": "A_KEY"})
    by_file = Connector.model_validate({"id": "b", "url": "https://a.test", "key_file": tmp_path / "key"})
    with pytest.raises(InvalidInput, match="connector a: the variable A_KEY is not set"):
        by_variable.key()
    with pytest.raises(InvalidInput, match=r"connector b: .*cannot be read"):
        by_file.key()
    for key in ("one", "two"):
        monkeypatch.setenv("A_KEY", key)
        (tmp_path / "key").write_text(f"{key}\n")
        assert (by_variable.key(), by_file.key()) == (key, key)
    assert Connector.model_validate({"id": "c", "url": "https://a.test"}).key() is None
