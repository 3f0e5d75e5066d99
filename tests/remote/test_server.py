"""A server as a request names it: what of that is taken, and what its operator has to say."""

from typing import Any

import pytest

from kb.errors import InvalidInput
from kb.remote.approval import ToolFilter
from kb.remote.connectors import Connector, Connectors
from kb.remote.server import Address, Command, McpServer, RemoteServer
from kb.web.addresses import PRIVATE

URL = "https://tools.example.org/mcp"


def described(connectors: Connectors | None = None, /, **given: Any) -> RemoteServer:
    """An entry of `tools`."""
    return McpServer.parse({"type": "mcp", "server_label": "tools", **given}).described(
        connectors or Connectors()
    )


def test_a_server_at_an_address() -> None:
    """With its credentials, on public networks only, asked about always."""
    server = described(server_url=URL, authorization="t0ken", headers={"X-Team": "a"}, allowed_tools=["x"])
    assert server == RemoteServer(
        "tools",
        Address(URL, {"X-Team": "a", "authorization": "Bearer t0ken"}, ()),
        (ToolFilter(tool_names=("x",)),),
        ("always",),
    )
    assert "t0ken" not in repr(server)


def test_a_connector_has_the_credentials_and_the_word_of_its_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the caller asks for is added, and lifts nothing."""
    monkeypatch.setenv("A_KEY", "s3cret")
    set_up = Connector.model_validate(
        {
            "id": "a", "url": "http://127.0.0.1:9/mcp", "key_env": "A_KEY", "allow_private": True,
            "allowed_tools": ["x", "y"], "require_approval": {"never": {"tool_names": ["x"]}},
            "call_seconds": 7,
        }
    )  # fmt: skip
    server = described(
        Connectors((set_up,)), connector_id="a", require_approval="never", allowed_tools={"read_only": True}
    )
    assert server.at == Address("http://127.0.0.1:9/mcp", {"authorization": "Bearer s3cret"}, PRIVATE)
    assert server.allowed == (ToolFilter(read_only=True), ToolFilter(tool_names=("x", "y")))
    assert server.approvals == (set_up.require_approval, "never")
    assert server.call_seconds == 7
    assert described(Connectors((set_up,)), connector_id="a").approvals == (set_up.require_approval,)


def test_a_connector_reaches_the_public_network_unless_its_operator_says_otherwise() -> None:
    """As an address of a user does."""
    plain = Connector.model_validate({"id": "a", "url": "http://127.0.0.1:9/mcp"})
    assert described(Connectors((plain,)), connector_id="a").at == Address("http://127.0.0.1:9/mcp")


def test_a_command_comes_from_the_operator_alone() -> None:
    """There is no field of a request for it."""
    set_up = Connector.model_validate({"id": "a", "command": "run", "args": ["x"], "env": {"K": "s3cret"}})
    server = described(Connectors((set_up,)), connector_id="a")
    assert server.at == Command("run", ("x",), {"K": "s3cret"})
    assert "s3cret" not in repr(server)
    with pytest.raises(InvalidInput, match="command"):
        described(server_url=URL, command="run")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give server_url or connector_id"),
        ({"server_url": URL, "connector_id": "a"}, "give server_url or connector_id"),
        ({"server_url": "ftp://a.test"}, "must begin with https://"),
        ({"server_url": "file:///etc/passwd"}, "must begin with https://"),
        ({"server_url": "https://user:s3cret@a.test/mcp"}, "a password does not belong into server_url"),
        ({"server_url": "http://a.test", "authorization": "s3cret"}, "credentials go to https:// only"),
        ({"server_url": "http://a.test", "headers": {"x": "s3cret"}}, "credentials go to https:// only"),
        ({"connector_id": "a", "authorization": "s3cret"}, "operator's credentials"),
        ({"server_url": URL, "headers": {"Host": "s3cret"}}, "'Host' cannot be set"),
        ({"server_url": URL, "headers": {"Mcp-Session-Id": "s3cret"}}, "cannot be set"),
        ({"server_url": URL, "headers": {"x y": "s3cret"}}, "cannot be set"),
        ({"server_url": URL, "headers": {"x": "s3cret\r\nhost: b"}}, "cannot be sent"),
        ({"server_url": URL, "authorization": "s3cret\nx: y"}, "on one line"),
        ({"server_url": URL, "server_label": "a b"}, "server_label"),
        ({"server_url": URL, "allowed_tools": {}}, "tool_names or read_only"),
        ({"server_url": URL, "require_approval": "sometimes s3cret"}, "require_approval"),
        ({"server_url": URL, "tunnel_id": "s3cret"}, "tunnel_id"),
        ({"server_url": URL, "type": "function"}, "type"),
    ],
)
def test_what_cannot_be_is_told_without_its_values(given: dict[str, Any], told: str) -> None:
    """One of them may be a key."""
    with pytest.raises(InvalidInput, match=told) as raised:
        described(**given)
    assert "s3cret" not in str(raised.value)


def test_a_server_is_its_address_whatever_it_is_called_and_asked_with() -> None:
    """Another address or command is another server, other credentials are not."""
    first = described(server_url=URL)
    again = described(server_url=URL, server_label="other", authorization="t")
    assert first.identity == again.identity
    others = [
        described(server_url=URL + "/"),
        RemoteServer("tools", Command("run")),
        RemoteServer("tools", Command("run", ("x",))),
        RemoteServer("tools", Command(URL)),
    ]
    assert len({first.identity, *(one.identity for one in others)}) == 5
