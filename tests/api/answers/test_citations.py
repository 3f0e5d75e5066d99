"""Citations of real documents: what goes out is, character for character, what stands in the source."""

from typing import Any

import httpx2
import pytest
from openai import OpenAI
from streams import whole
from upstream import Answer, Then, Upstream, replies

MODEL = "gpt-4.1-mini"
QUESTION = "How is the pump started?"
# Cut where it hurts; the second quote is not there, the third stands in no passage that was given.
DELTAS = (
    'First the valve [1: "Open the  brine ',
    'valve first"]',
    '. Then close it [1: "close the valve"], or not [9',
    "9]. Wait [",
    '1: "\U0001f6a7 Wait for 3',
    ' bar."].',
)
SAID = "First the valve [1]. Then close it, or not. Wait [1]."
QUOTES = ["Open the brine valve first", "\U0001f6a7 Wait for 3 bar."]


def search(name: str) -> Any:
    """The tool."""
    return [{"type": "file_search", "vector_store_ids": [name]}]


def annotations(response: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the last message."""
    found: list[dict[str, Any]] = response["output"][-1]["content"][0]["annotations"]
    return found


@pytest.fixture
def moving(house: Any, request: pytest.FixtureRequest) -> Any:
    """A knowledge base of one document that will change: its name, and a client without a SDK around it."""
    head = {"authorization": f"Bearer {house.keys['ann']}"}
    with httpx2.Client(base_url=f"{house.url}/v1", headers=head, timeout=60) as http:
        name = request.node.name
        assert http.post("/knowledge_bases", json={"name": name}).status_code == 201
        put(http, name, "Open the brine valve first, then start the pump.")
        yield name, http


def put(http: httpx2.Client, name: str, text: str) -> None:
    """Put the document in, or another version of it."""
    sent = {"documents": [{"name": "startup.md", "text": text}]}
    assert http.post(f"/knowledge_bases/{name}/documents?wait=true", json=sent).status_code == 200


@pytest.mark.parametrize("streams", [False, True])
def test_quotes_are_the_source_s_characters(
    client: OpenAI, upstream: Upstream, house: Any, model: str, streams: bool
) -> None:
    """Those that are not are gone, and counted; markers stand where the annotations say."""
    upstream.script(replies.says(Answer(deltas=DELTAS)))
    made = client.responses.create(model=model, input=QUESTION, tools=search("handbook"), stream=streams)
    response = whole(made) if streams else made.to_dict()
    assert response["output"][-1]["content"][0]["text"] == SAID
    assert response["citations"] == {"verified": 2, "dropped": 2}
    cited = annotations(response)
    assert [one["quote"] for one in cited] == QUOTES
    for one in cited:
        assert (one["type"], one["filename"]) == ("file_citation", "startup.md")
        assert SAID[one["index"] : one["end_index"]] == "[1]"
        opened = client.get(
            f"/contents/{one['content_version_id']}?start={one['start']}&end={one['end']}", cast_to=object
        )
        assert opened["text"] == one["quote"]  # type: ignore[index]


def test_answers_in_json_have_none(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Brackets are JSON there, and stay."""
    said = '{"list": [1], "text": "the valve [1: \\"nothing\\"]"}'
    upstream.script(replies.says(Answer(deltas=tuple(said))))
    form: Any = {"format": {"type": "json_object"}}
    response = whole(
        client.responses.create(model=model, input=QUESTION, tools=search("handbook"), text=form, stream=True)
    )
    assert response["output"][-1]["content"][0]["text"] == said
    assert annotations(response) == []


def test_a_document_that_goes_meanwhile(client: OpenAI, upstream: Upstream, moving: Any) -> None:
    """Is cited no more: found and given to the model, deleted before that answers."""
    name, http = moving
    upstream.script(replies.stream(lambda events: [Then.HOLD, *events, Then.END], Answer(deltas=DELTAS[:2])))
    (listed,) = http.get(f"/knowledge_bases/{name}/documents").json()["data"]

    def delete() -> None:
        assert "Open the brine valve first" in str(upstream.request().body)
        assert http.delete(f"/knowledge_bases/{name}/documents/{listed['id']}").status_code == 200
        upstream.request().go_on()

    response = meanwhile(client, name, delete)
    assert response["output"][-1]["content"][0]["text"] == "First the valve"
    assert (annotations(response), response["citations"]) == ([], {"verified": 0, "dropped": 1})


def test_a_document_that_is_replaced_meanwhile(client: OpenAI, upstream: Upstream, moving: Any) -> None:
    """Is cited as the model read it: that version keeps its text."""
    name, http = moving
    upstream.script(replies.stream(lambda events: [Then.HOLD, *events, Then.END], Answer(deltas=DELTAS[:2])))

    def replace() -> None:
        upstream.request()
        put(http, name, "The pump starts by itself.")
        upstream.request().go_on()

    (one,) = annotations(meanwhile(client, name, replace))
    assert one["quote"] == "Open the brine valve first"
    opened = http.get(f"/contents/{one['content_version_id']}?start={one['start']}&end={one['end']}").json()
    assert opened["text"] == one["quote"]
    (now,) = http.get(f"/knowledge_bases/{name}/documents").json()["data"]
    assert now["content_version_id"] != one["content_version_id"]


def meanwhile(client: OpenAI, name: str, change: Any) -> dict[str, Any]:
    """The answer to a question, something having changed between its search and its first word."""
    begun = client.responses.create(model=MODEL, input=QUESTION, tools=search(name), background=True)
    change()
    return whole(client.responses.retrieve(begun.id, stream=True))
