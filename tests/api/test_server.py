"""The main path, over a real socket to a real process."""

from collections.abc import Callable
from typing import Any


def test_documents_go_in_are_found_opened_and_deleted(serve: Callable[[], Any], documents: list[Any]) -> None:
    """Files and texts go in, each is found, its span opens to its text, a deleted one never returns."""
    client = serve().client
    assert client.post("/v1/knowledge_bases", json={"name": "handbook"}).status_code == 201
    base = "/v1/knowledge_bases/handbook"
    files = [
        ("files", ("alarm.txt", "Alarm E17 means the brine is too warm.", "text/plain")),
        ("files", ("table.csv", "part,price\nblade,12\nseal,3\n", "text/csv")),
        ("files", ("broken.pdf", b"%PDF-1.7 and then nothing", "application/pdf")),
    ]
    form = client.post(
        f"{base}/documents",
        params={"wait": "true"},
        files=files,
        data={"attributes": '{"team":"operations"}'},
    )
    assert form.status_code == 200, form.text
    assert form.json()["status"] == "succeeded"
    assert form.json()["report"]["added"] == 2
    assert [failure["uri"] for failure in form.json()["report"]["failures"]] == ["broken.pdf"]
    assert (
        client.post(f"{base}/documents?wait=true", json={"documents": documents}).json()["report"]["added"]
        == 3
    )

    for query, uri in [("Alarm E17", "alarm.txt"), ("Frost", "winter.md"), ("open the valve", "startup.md")]:
        hits = client.post(f"{base}/search", json={"query": query, "top_k": 50}).json()["hits"]
        assert hits[0]["uri"] == uri
        for hit in hits:
            span = {"start": hit["start"], "end": hit["end"]}
            opened = client.get(f"/v1/contents/{hit['content_version_id']}", params=span).json()
            assert opened["content_version_id"] == hit["content_version_id"]
            assert (opened["start"], opened["end"], opened["text"]) == (hit["start"], hit["end"], hit["text"])

    alarm = next(one for one in client.get(f"{base}/documents").json()["data"] if one["uri"] == "alarm.txt")
    assert alarm["attributes"] == {"team": "operations"}
    assert client.delete(f"{base}/documents/{alarm['id']}").json() == {"id": alarm["id"], "deleted": True}
    for mode in ("hybrid", "dense", "lexical"):
        hits = client.post(f"{base}/search", json={"query": "Alarm E17", "top_k": 1000, "mode": mode}).json()[
            "hits"
        ]
        assert alarm["id"] not in {hit["content_id"] for hit in hits}
    assert client.get(f"/v1/contents/{alarm['content_version_id']}").status_code == 404


def test_what_was_acknowledged_outlives_a_kill(serve: Callable[[], Any], until: Callable[..., Any]) -> None:
    """After kill -9 and a new start: what was searchable is at once, what was answered with 202 soon."""
    first = serve()
    base = "/v1/knowledge_bases/k"
    first.client.post("/v1/knowledge_bases", json={"name": "k"})
    waited = {"documents": [{"name": "a.txt", "text": "Brine freezes at minus twenty-one degrees."}]}
    assert first.client.post(f"{base}/documents?wait=true", json=waited).status_code == 200
    texts = [{"name": f"{n}.txt", "text": f"Valve number {n} opens at {n} bar."} for n in range(40)]
    accepted = first.client.post(f"{base}/documents", json={"documents": texts})
    first.kill()
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"/v1/jobs/{accepted.json()['id']}"

    again = serve().client
    hits = again.post(f"{base}/search", json={"query": "freezing point of brine"}).json()["hits"]
    assert hits[0]["uri"] == "a.txt"
    done = until(lambda: (job := again.get(accepted.headers["location"]).json())["finished_at"] and job)
    assert (done["status"], done["files"], done["report"]["failed"]) == ("succeeded", 40, 0)
    assert again.get(base).json()["documents"] == 41
    hits = again.post(f"{base}/search", json={"query": "Valve number 17", "mode": "lexical"}).json()["hits"]
    assert hits[0]["uri"] == "17.txt"
