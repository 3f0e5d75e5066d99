"""Documents that cannot be taken in get the right status and the name of the field at fault."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.deps import MAX_JSON
from api.routes import documents

KB = "/v1/knowledge_bases"
SEARCH = f"{KB}/handbook/search"
SEND = f"{KB}/handbook/documents"


def _error(answer: Any) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    return answer.status_code, error["param"], error["code"]


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"text": "b"}, "name"),
        ({"name": "", "text": "b"}, "name"),
        ({"name": " ", "text": "b"}, "name"),
        ({"name": "x" * 513, "text": "b"}, "name"),
        ({"name": "a"}, "text"),
        ({"name": "a", "text": ""}, "text"),
        ({"name": "a", "text": "b", "path": "/etc"}, "path"),
        ({"name": "a", "text": "b", "attributes": {"k": None}}, "attributes.k"),
        ({"name": "a", "text": "b", "attributes": {"k": ["x"]}}, "attributes.k"),
        ({"name": "a", "text": "b", "attributes": {"k": "x" * 513}}, "attributes.k"),
        ({"name": "a", "text": "b", "attributes": {"k": 2**60}}, "attributes.k"),
        ({"name": "a", "text": "b", "attributes": {str(n): n for n in range(17)}}, "attributes"),
    ],
)
def test_a_bad_document_names_its_place(handbook: TestClient, document: dict[str, Any], param: str) -> None:
    """Nothing of the request is taken in."""
    good = {"name": "good.txt", "text": "good"}
    answer = handbook.post(SEND, json={"documents": [good, document]})
    assert _error(answer) == (422, f"documents.1.{param}", "invalid_input")
    assert handbook.get(KB).json()["data"][0]["documents"] == 3


@pytest.mark.parametrize(
    ("files", "data", "param"),
    [
        ([("files", ("a.txt", b"x"))], {"attributes": "{"}, "attributes"),
        ([("files", ("a.txt", b"x"))], {"attributes": '{"k": null}'}, "attributes.k"),
        ([("files", ("a.txt", b"x"))], {"folder": "y"}, "folder"),
        ([("document", ("a.txt", b"x"))], {}, "document"),
        ([("files", ("x" * 513, b"x"))], {}, "documents.0.name"),
    ],
)
def test_a_bad_form_names_its_field(
    handbook: TestClient, files: Any, data: dict[str, str], param: str
) -> None:
    """Unknown fields, broken attributes and over-long names are refused before anything is stored."""
    assert _error(handbook.post(SEND, files=files, data=data))[:2] == (422, param)


def test_too_many_files_are_refused(handbook: TestClient) -> None:
    """1,001 of them, in either form."""
    many = [("files", (f"{n}.txt", b"x")) for n in range(documents.MAX_DOCUMENTS + 1)]
    assert _error(handbook.post(SEND, files=many)) == (422, "files", "invalid_form")
    texts = [{"name": str(n), "text": "x"} for n in range(documents.MAX_DOCUMENTS + 1)]
    assert _error(handbook.post(SEND, json={"documents": texts})) == (422, "documents", "invalid_input")


def test_a_broken_form_is_422(handbook: TestClient) -> None:
    """A broken form is the sender's fault, not ours."""
    headers = {"content-type": "multipart/form-data"}
    assert _error(handbook.post(SEND, content=b"--x", headers=headers)) == (422, "files", "invalid_form")


def test_a_body_too_large_is_413(handbook: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its declared length at once, and without one as soon as it is seen."""
    monkeypatch.setattr(documents, "MAX_UPLOAD", 50_000)
    long = {"documents": [{"name": "a", "text": "x" * 60_000}]}
    assert _error(handbook.post(SEND, json=long)) == (413, None, "too_large")
    assert _error(handbook.post(SEND, files=[("files", ("a.txt", b"x" * 60_000))])) == (
        413,
        None,
        "too_large",
    )

    def undeclared() -> Iterator[bytes]:
        yield from [b'{"documents": [{"name": "a", "text": "', *[b"x" * 10_000] * 6, b'"}]}']

    headers = {"content-type": "application/json"}
    assert _error(handbook.post(SEND, content=undeclared(), headers=headers)) == (413, None, "too_large")
    question = json.dumps({"query": "a", "filters": {"type": "x" * MAX_JSON}})
    assert _error(handbook.post(SEARCH, content=question, headers=headers)) == (413, None, "too_large")


def test_one_refused_document_alone_is_422(client: TestClient) -> None:
    """With wait, its reason is the answer, and it stands in quarantine; among others it is only reported."""
    client.post(KB, json={"name": "k"})
    broken = ("files", ("a.pdf", b"%PDF-1.7 nothing"))
    alone = client.post(f"{KB}/k/documents?wait=true", files=[broken])
    assert _error(alone) == (422, "documents.0", "document_refused")
    (failure,) = client.get(f"{KB}/k/failures").json()["data"]
    assert failure == {"uri": "a.pdf", "reason": alone.json()["error"]["message"], "kind": "broken"}
    both = client.post(f"{KB}/k/documents?wait=true", files=[broken, ("files", ("b.txt", b"fine"))])
    assert both.status_code == 200
    assert (both.json()["report"]["added"], both.json()["report"]["failed"]) == (1, 1)
