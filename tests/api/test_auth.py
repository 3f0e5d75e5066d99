"""Keys, and browsers of other sites."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request
from starlette.testclient import TestClient

from api import auth
from api.deps import caller_key

KB = "/v1/knowledge_bases"
OPEN = ("/healthz", "/readyz")
PAGES = ("/metrics", "/docs", "/openapi.json")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the catalog says of keys is believed for no time at all."""
    monkeypatch.setattr(auth, "_BELIEVED_SECONDS", 0.0)


@pytest.fixture
def exposed(open_app: Callable[..., TestClient]) -> Iterator[TestClient]:
    """A running application on an address that others reach."""
    with open_app(open_to="0.0.0.0", base_url="http://192.0.2.7:8000") as client:
        yield client


def _new_key(client: TestClient) -> tuple[str, str]:
    key, secret = client.app.state.service.catalog.keys.create("test")  # type: ignore[attr-defined]
    return key.id, secret


def _refused(answer: Any) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["code"]


def test_on_loopback_no_key_is_needed_until_one_is_made(client: TestClient, soon: None) -> None:
    """Then every call needs it, in either header; the pages for people and programs here stay open."""
    assert client.get(KB).status_code == 200
    assert client.get(KB, headers={"authorization": "Bearer anything"}).status_code == 200
    _, secret = _new_key(client)
    missing = client.get(KB)
    assert _refused(missing) == (401, "authentication_error", "missing_api_key")
    assert missing.headers["www-authenticate"] == "Bearer"
    assert _refused(client.get("/v1/nothing")) == (401, "authentication_error", "missing_api_key")
    for headers in (
        {"authorization": f"Bearer {secret}"},
        {"authorization": f"bearer  {secret}"},
        {"x-api-key": secret},
    ):
        assert client.get(KB, headers=headers).status_code == 200
    for headers in ({"authorization": f"Basic {secret}"}, {"authorization": secret}, {"x-api-key": ""}):
        assert _refused(client.get(KB, headers=headers))[2] == "missing_api_key"
    for wrong in (secret + "x", secret[:-1], "ü"):
        headers = {"authorization": f"Bearer {wrong}".encode()}
        assert _refused(client.get(KB, headers=headers)) == (401, "authentication_error", "invalid_api_key")
    for path in OPEN + PAGES:
        assert client.get(path).status_code == 200


def test_a_key_in_the_query_is_no_key(client: TestClient, soon: None) -> None:
    """Query strings end up in logs."""
    _, secret = _new_key(client)
    assert client.get(KB, params={"api_key": secret, "x-api-key": secret}).status_code == 401


def test_an_exposed_server_without_keys_admits_nobody(exposed: TestClient) -> None:
    """Only liveness and readiness answer; it fails closed."""
    for path in (KB, *PAGES, "/v1/nothing"):
        assert _refused(exposed.get(path))[2] == "missing_api_key"
        assert _refused(exposed.get(path, headers={"x-api-key": "x"}))[2] == "invalid_api_key"
    for path in OPEN:
        assert exposed.get(path).status_code == 200


def test_an_exposed_server_admits_keys_only(exposed: TestClient) -> None:
    """Also to its documentation and metrics, and whatever the Host header says."""
    _, secret = _new_key(exposed)
    for path in (KB, *PAGES):
        assert exposed.get(path).status_code == 401
        assert exposed.get(path, headers={"host": "127.0.0.1"}).status_code == 401
        assert exposed.get(path, headers={"x-api-key": secret}).status_code == 200


def test_a_wrong_open_to_opens_nothing(open_app: Callable[..., TestClient]) -> None:
    """A socket that is not loopback needs a key though the application was told otherwise."""
    with open_app(open_to="127.0.0.1", base_url="http://192.0.2.7:8000") as client:
        assert client.get(KB, headers={"host": "localhost"}).status_code == 401


def test_a_revoked_key_is_refused(client: TestClient, soon: None) -> None:
    """Once the few seconds are over for which it is believed."""
    keep, secret = _new_key(client)[1], _new_key(client)
    assert client.get(KB, headers={"x-api-key": secret[1]}).status_code == 200
    client.app.state.service.catalog.keys.delete(secret[0])  # type: ignore[attr-defined]
    assert client.get(KB, headers={"x-api-key": secret[1]}).status_code == 401
    assert client.get(KB, headers={"x-api-key": keep}).status_code == 200


def test_a_key_is_not_looked_up_for_every_request(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read serves many requests."""
    _, secret = _new_key(client)
    keyring = client.app.state.keyring  # type: ignore[attr-defined]
    keyring._exist_until = 0.0
    asked: list[str] = []
    admits = keyring._keys.admits
    monkeypatch.setattr(keyring._keys, "admits", lambda given: asked.append(given) or admits(given))
    for _ in range(5):
        assert client.get(KB, headers={"x-api-key": secret}).status_code == 200
    assert asked == [secret]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "", "[::1"]
)
def test_another_host_name_is_refused_on_loopback(handbook: TestClient, host: str) -> None:
    """A page whose name was made to resolve to this machine (DNS rebinding) reads nothing."""
    for path in (KB, *PAGES):
        assert _refused(handbook.get(path, headers={"host": host})) == (
            403,
            "permission_error",
            "foreign_host",
        )


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost@evil.example"],
)
def test_another_site_may_not_post(handbook: TestClient, origin: str) -> None:
    """A page elsewhere cannot have the browser send documents here."""
    answer = handbook.post(KB, json={"name": "x"}, headers={"origin": origin})
    assert _refused(answer) == (403, "permission_error", "foreign_origin")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "127.8.0.1", "LOCALHOST"])
def test_names_of_loopback_are_welcome(handbook: TestClient, name: str) -> None:
    """With and without a port, as Host and as Origin."""
    for host in (name, f"{name}:8000"):
        assert handbook.get(KB, headers={"host": host, "origin": f"http://{host}"}).status_code == 200


def test_a_key_admits_behind_a_proxy(client: TestClient, soon: None) -> None:
    """A reverse proxy on this machine passes its own name along; a key is enough then."""
    _, secret = _new_key(client)
    headers = {"host": "kb.example", "x-api-key": secret}
    assert client.get(KB, headers=headers).status_code == 200
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/metrics", headers={"host": "kb.example"}).status_code == 403


def test_no_secret_reaches_a_log(client: TestClient, soon: None, caplog: pytest.LogCaptureFixture) -> None:
    """Neither from a header nor from a query string, admitted or not, nor when the server fails."""
    caplog.set_level(logging.DEBUG)
    _, secret = _new_key(client)
    client.get(KB, headers={"authorization": f"Bearer {secret}"})
    client.get(KB, headers={"x-api-key": "wrong-secret"}, params={"key": "query-secret"})
    client.app.state.service.knowledge_bases = None  # type: ignore[attr-defined]
    assert client.get(KB, headers={"authorization": f"Bearer {secret}"}).status_code == 500
    ours = "\n".join(
        caplog.handler.format(record) for record in caplog.records if not record.name.startswith("httpx")
    )
    assert f"GET {KB} 200" in ours
    assert "Traceback" in ours
    for hidden in (secret, "wrong-secret", "query-secret"):
        assert hidden not in ours


def test_a_request_knows_its_key(client: TestClient, soon: None) -> None:
    """By its id; without any key there is none, also if something was sent as one."""
    seen: list[str | None] = []

    @client.app.get("/v1/whose")  # type: ignore[attr-defined]
    async def whose(request: Request) -> None:
        seen.append(caller_key(request))

    client.get("/v1/whose", headers={"x-api-key": "anything"})
    (first, secret), (second, other) = _new_key(client), _new_key(client)
    for given in (secret, other, secret):
        client.get("/v1/whose", headers={"x-api-key": given})
    assert seen == [None, first, second, first]
