"""The MCP server over HTTP, as it meets strangers: hosts, origins, keys, bodies, too many at once."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import auth

NEWEST = "2026-07-28"
HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": NEWEST}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the catalog says of keys is believed for no time at all."""
    monkeypatch.setattr(auth, "_BELIEVED_SECONDS", 0.0)


@pytest.fixture
def exposed(open_app: Callable[..., TestClient]) -> Iterator[TestClient]:
    """A running application on an address that others reach."""
    with open_app(open_to="0.0.0.0", base_url="http://192.0.2.7:8000") as client:
        yield client


def ask(client: TestClient, method: str = "tools/list", headers: Any = None, **params: Any) -> Any:
    """One request of the newest protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": NEWEST,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    named = {"mcp-name": params["name"]} if "name" in params else {}
    return client.post(
        "/mcp", json=body, headers={**HEADERS, "mcp-method": method, **named, **(headers or {})}
    )


def refused(answer: Any) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


def test_a_program_of_this_machine_needs_no_key_until_one_is_made(client: TestClient, soon: None) -> None:
    """Then one that is missing, or not known, is asked for."""
    assert len(ask(client).json()["result"]["tools"]) == 7
    _, secret = client.app.state.service.catalog.keys.create("test")  # type: ignore[attr-defined]
    missing = ask(client)
    assert refused(missing) == (401, "missing_api_key")
    assert missing.headers["www-authenticate"] == "Bearer"
    unknown = ask(client, headers={"authorization": "Bearer kb_nobody"})
    assert refused(unknown) == (401, "invalid_api_key")
    assert unknown.headers["www-authenticate"] == "Bearer"
    assert ask(client, headers={"authorization": f"Bearer {secret}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", ""]
)
def test_a_request_for_another_host_is_misdirected_with_a_key_as_without(
    client: TestClient, soon: None, host: str
) -> None:
    """421: a name that was made to resolve to this address, or a proxy that nobody told us of."""
    assert refused(ask(client, headers={"host": host})) == (421, "foreign_host")
    _, secret = client.app.state.service.catalog.keys.create("test")  # type: ignore[attr-defined]
    keyed = ask(client, headers={"host": host, "authorization": f"Bearer {secret}"})
    assert refused(keyed) == (421, "foreign_host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]:8000", "localhost:1234"])
def test_loopback_goes_by_its_names(client: TestClient, host: str) -> None:
    """With any port."""
    assert ask(client, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"]
)
def test_a_page_of_another_site_may_not_call(client: TestClient, soon: None, origin: str) -> None:
    """With a key as without; a page of this machine may."""
    assert refused(ask(client, headers={"origin": origin})) == (403, "foreign_origin")
    assert ask(client, headers={"origin": "http://localhost:6274"}).status_code == 200
    _, secret = client.app.state.service.catalog.keys.create("test")  # type: ignore[attr-defined]
    keyed = ask(client, headers={"origin": origin, "authorization": f"Bearer {secret}"})
    assert refused(keyed) == (403, "foreign_origin")


def test_names_and_pages_are_added_by_settings(open_app: Callable[..., TestClient]) -> None:
    """They need a key, since they may be reached by others."""
    listed = {"allowed_hosts": ("kb.example.org",), "allowed_origins": ("https://app.example.org",)}
    with open_app(open_to="0.0.0.0", base_url="http://kb.example.org", **listed) as client:
        assert refused(ask(client)) == (401, "missing_api_key")
        _, secret = client.app.state.service.catalog.keys.create("test")  # type: ignore[attr-defined]
        key = {"authorization": f"Bearer {secret}"}
        assert ask(client, headers=key).status_code == 200
        assert ask(client, headers={**key, "origin": "https://app.example.org"}).status_code == 200
        assert refused(ask(client, headers={**key, "origin": "https://app.example.org:8443"}))[0] == 403
        assert refused(ask(client, headers={**key, "origin": "http://app.example.org"}))[0] == 403
        assert refused(ask(client, headers={**key, "host": "192.0.2.7"}))[0] == 421


def test_the_lists_are_read_from_the_environment(tmp_path: Any) -> None:
    """With commas between; what cannot be a name or an origin is refused with what is expected."""
    from kb.errors import InvalidInput
    from kb.settings import Settings

    given = {"KB_ALLOWED_HOSTS": "KB.example.org, 192.0.2.7", "KB_ALLOWED_ORIGINS": "https://app.example.org"}
    read = Settings.read(tmp_path, given)
    assert read.allowed_hosts == ("kb.example.org", "192.0.2.7")
    assert read.allowed_origins == ("https://app.example.org",)
    assert Settings.read(tmp_path, {}).allowed_hosts == ()
    for name, foul in (
        ("KB_ALLOWED_HOSTS", "https://kb.example.org"),
        ("KB_ALLOWED_HOSTS", "*"),
        ("KB_ALLOWED_ORIGINS", "app.example.org"),
        ("KB_ALLOWED_ORIGINS", "https://app.example.org/page"),
        ("KB_ALLOWED_ORIGINS", "*"),
    ):
        with pytest.raises(InvalidInput, match=name):
            Settings.read(tmp_path, {name: foul})


def test_a_browser_is_told_which_pages_may_call(open_app: Callable[..., TestClient]) -> None:
    """Before they send a key."""
    listed = {"allowed_hosts": ("kb.example.org",), "allowed_origins": ("https://app.example.org",)}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with open_app(open_to="0.0.0.0", base_url="http://kb.example.org", **listed) as client:
        for origin in ("https://app.example.org", "http://localhost:6274"):
            told = client.options("/mcp", headers={**asks, "origin": origin})
            assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, origin)
            assert told.headers["access-control-allow-headers"] == "authorization"
        foreign = client.options("/mcp", headers={**asks, "origin": "https://evil.example"})
        assert refused(foreign) == (403, "foreign_origin")


def test_the_address_that_it_listens_on_is_a_name_of_its_own(open_app: Callable[..., TestClient]) -> None:
    """But for 0.0.0.0, which is the name of none."""
    for open_to, status in (("192.0.2.7", 401), ("0.0.0.0", 421)):
        with open_app(open_to=open_to, base_url="http://192.0.2.7:8000") as client:
            assert ask(client).status_code == status


def test_what_is_no_request_is_refused_as_the_protocol_has_it(client: TestClient) -> None:
    """And the next one is answered."""
    post = {**HEADERS, "content-type": "application/json"}

    def code(body: bytes, **headers: str) -> tuple[int, Any]:
        answer = client.post("/mcp", content=body, headers={**post, **headers})
        return answer.status_code, answer.json()["error"]["code"]

    assert code(b"{") == (400, -32700)
    assert code(b'{"a": ' * 5000) == (400, -32700)
    assert code(b"[]") == (400, -32600)
    assert code(b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}') == (400, -32600)
    assert (
        client.post("/mcp", content=b"{}", headers={**post, "content-type": "text/plain"}).status_code == 400
    )
    assert client.post("/mcp", content=b"x" * 2_000_001, headers=post).status_code == 413
    assert client.post("/mcp", content=b"{}", headers={**post, "accept": "text/html"}).status_code == 406
    assert ask(client, "tools/eat").json()["error"]["code"] == -32601
    for method in ("GET", "DELETE", "PUT"):
        answer = client.request(method, "/mcp", headers=HEADERS)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert ask(client).status_code == 200


def test_a_search_through_mcp_stands_in_the_line_of_all_searches(client: TestClient) -> None:
    """Where there is no room it is refused in words, and the request itself where too many talk at once."""
    from api.admission import Count
    from api.errors import ApiError

    admission = client.app.state.admission  # type: ignore[attr-defined]
    client.post("/v1/knowledge_bases", json={"name": "k"})
    search = {"name": "search_knowledge_base", "arguments": {"query": "valve"}}
    grep = {"name": "grep_content", "arguments": {"pattern": "valve", "knowledge_base_id": "k"}}
    assert ask(client, "tools/call", **search).json()["result"]["isError"] is False
    admission.searches._places, admission.searches._most = 0, 0
    assert "come again in" in _text(ask(client, "tools/call", **search))
    assert ask(client, "tools/call", **grep).json()["result"]["isError"] is False
    admission.others = Count(0, lambda seconds: ApiError(429, "overloaded", f"come again in {seconds} s"))
    assert "come again in" in _text(ask(client, "tools/call", **grep))
    listed = ask(client, "resources/list").json()["error"]
    assert (listed["code"], listed["message"]) == (-32603, "come again in 1 s")
    admission.conversations.taken = 256
    full = ask(client)
    assert refused(full) == (429, "overloaded")
    assert full.headers["retry-after"] == "1"
    admission.conversations.taken = 0


def test_what_was_counted_is_given_back(client: TestClient) -> None:
    """Requests, bodies and work, after answers and refusals alike."""
    admission = client.app.state.admission  # type: ignore[attr-defined]
    for _ in range(3):
        ask(client)
        ask(client, "tools/call", name="grep_content", arguments={"pattern": "("})
        ask(client, "resources/read", uri="kb://a/b", headers={"mcp-name": "kb://a/b"})
        client.post("/mcp", content=b"{", headers=HEADERS)
    counts = (admission.conversations, admission.others, admission.other_bodies)
    assert [count.taken for count in counts] == [0, 0, 0]
    assert admission.searches.at_work == 0


def test_requests_are_measured_under_their_path(client: TestClient) -> None:
    """As those of any other route."""
    ask(client)
    assert 'route="/mcp"' in client.get("/metrics").text


def _text(answer: Any) -> str:
    result = answer.json()["result"]
    assert result["isError"] is True, json.dumps(result)
    return str(result["content"][0]["text"])
