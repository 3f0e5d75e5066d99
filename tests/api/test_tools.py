"""The tools over HTTP, and the texts beside them."""

from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

TOOLS = "/v1/tools"


def version_of(client: TestClient, name: str) -> str:
    """The current version of a document of the handbook."""
    (found,) = client.get("/v1/content_sources", params={"query": name}).json()["sources"]
    return str(found["source_connection_content_version_id"])


def test_every_tool_answers_by_its_own_schema(handbook: TestClient) -> None:
    """What is sent and what comes back are what `GET /v1/tools` says."""
    listed = {tool["name"]: tool for tool in handbook.get(TOOLS).json()["data"]}
    version = version_of(handbook, "startup")
    calls: dict[str, dict[str, Any]] = {
        "search_knowledge_base": {"query": "start the pump", "knowledge_base_id": "handbook", "top_k": 2},
        "list_knowledge_bases": {},
        "list_content_sources": {"knowledge_base_id": "handbook"},
        "get_content_stats": {"source_connection_content_version_id": version},
        "load_content": {"source_connection_content_version_id": version},
        "peek_content": {"source_connection_content_version_id": version, "start": 12, "end": 26},
        "grep_content": {"source_connection_content_version_id": version, "pattern": "valve"},
    }
    assert set(listed) == set(calls)
    for name, given in calls.items():
        jsonschema.validate(given, listed[name]["input_schema"])
        answer = handbook.post(f"{TOOLS}/{name}", json=given)
        assert answer.status_code == 200, answer.text
        jsonschema.validate(answer.json(), listed[name]["output_schema"])
        assert listed[name]["function"]["parameters"] == listed[name]["input_schema"]
    peeked = handbook.post(f"{TOOLS}/peek_content", json=calls["peek_content"]).json()
    assert peeked["text"] == "Open the brine"


@pytest.mark.parametrize(
    ("name", "given", "status", "code", "message"),
    [
        ("peek_contents", {}, 404, "not_found", "did you mean 'peek_content'"),
        (
            "search_knowledge_base",
            {"query": "x", "knowledge_base_id": "hanbook"},
            404,
            "not_found",
            "'handbook'",
        ),
        ("search_knowledge_base", {"top_k": 3}, 422, "invalid_input", "query: Field required"),
        ("search_knowledge_base", [], 422, "invalid_input", "should be an object"),
        ("peek_content", {"content_version_id": "ver_1"}, 404, "not_found", "no content version 'ver_1'"),
    ],
)
def test_a_wrong_call_is_answered_with_advice(
    handbook: TestClient, name: str, given: Any, status: int, code: str, message: str
) -> None:
    """In the one form of every error."""
    answer = handbook.post(f"{TOOLS}/{name}", json=given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert message in answer.json()["error"]["message"]


def test_a_text_is_measured_opened_and_looked_through(handbook: TestClient) -> None:
    """By span and by heading, with what the tools say of it."""
    version = version_of(handbook, "startup")
    stats = handbook.get(f"/v1/contents/{version}/stats").json()
    text = handbook.get(f"/v1/contents/{version}").json()["text"]
    assert (stats["characters"], stats["words"], stats["lines"]) == (len(text), len(text.split()), 3)
    assert [(one["title"], one["start"]) for one in stats["outline"]] == [("Starting", 0)]
    found = handbook.get(f"/v1/contents/{version}/grep", params={"pattern": "PUMP"}).json()["matches"]
    assert [(one["start"], one["line"], one["heading"]) for one in found] == [(55, 3, "Starting")]
    part = handbook.get(f"/v1/contents/{version}", params={"heading": "starting"}).json()
    assert (part["start"], part["text"], part["heading"]) == (0, text, "Starting")
    both = handbook.get(f"/v1/contents/{version}", params={"heading": "starting", "start": 3})
    assert (both.status_code, both.json()["error"]["param"]) == (422, "start")


def test_sources_of_an_unknown_knowledge_base_are_not_found(handbook: TestClient) -> None:
    """And those of a known one are its documents."""
    sources = handbook.get("/v1/content_sources", params={"knowledge_base_id": "handbook"}).json()["sources"]
    assert {one["uri"] for one in sources} == {"startup.md", "winter.md", "parts.txt"}
    assert handbook.get("/v1/content_sources", params={"knowledge_base_id": "hand"}).status_code == 404
