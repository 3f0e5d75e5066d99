"""Contexts over HTTP."""

from typing import Any

import pytest
from starlette.testclient import TestClient

ASK: dict[str, Any] = {"query": "start the pump", "knowledge_base_ids": ["handbook"], "max_tokens": 1000}


def test_a_receipt_tells_what_was_packed_and_what_it_would_cost(handbook: TestClient) -> None:
    """Every passage is the text at its span; the next call begins with it."""
    receipt = handbook.post("/v1/context", json=ASK).json()
    assert 0 < receipt["tokens"] <= receipt["window"]["context"] == 1000
    assert [one["number"] for one in receipt["passages"]] == list(range(1, len(receipt["passages"]) + 1))
    for one in receipt["passages"]:
        span = {"start": one["start"], "end": one["end"]}
        text = handbook.get(f"/v1/contents/{one['content_version_id']}", params=span).json()["text"]
        assert text in receipt["text"]
        assert f'[{one["number"]}] "{one["title"]}" in "{one["uri"]}"' in receipt["text"]
    assert receipt["cached_tokens"] == 0
    assert float(receipt["credits"]["standard"]["input"]) == receipt["tokens"] * 532 / 100_000
    before = [
        {name: one[name] for name in ("content_version_id", "start", "end")} for one in receipt["passages"]
    ]
    again = handbook.post("/v1/context", json={**ASK, "query": "winter", "before": before}).json()
    assert again["text"].startswith(receipt["text"])
    assert again["cached_tokens"] == receipt["tokens"]
    assert float(again["credits"]["standard"]["input"]) < float(receipt["credits"]["standard"]["input"])


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "gpt-5"}, 404, "model"),
        ({"knowledge_base_ids": ["hand"]}, 404, "knowledge_base"),
        ({"max_output_tokens": 10_000}, 422, "max_output_tokens"),
        ({"max_tokens": 100}, 422, "max_tokens"),
        ({"before": [{"content_version_id": "ver_1", "start": 0}]}, 422, "before.0.end"),
        ({"filters": {"type": "no"}}, 422, "filters.type"),
    ],
)
def test_what_cannot_be_packed_is_refused(
    handbook: TestClient, change: dict[str, Any], status: int, param: str
) -> None:
    """With the field at fault."""
    answer = handbook.post("/v1/context", json={**ASK, **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
