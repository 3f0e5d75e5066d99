"""Search of the web within an answer: by the engine that is set, or by the model's own endpoint."""

import json
from typing import Any

import pytest
from conftest import House
from openai import OpenAI, UnprocessableEntityError
from site_of_pages import HOURS, RENTAL, Site
from streams import whole, whole_chat
from test_tools import OWN, SEARCH, calls, offered, outputs
from upstream import Answer, Call, Cited, Upstream, replies

WEB = {"type": "web_search"}
HANDBOOK = {"type": "file_search", "vector_store_ids": ["handbook"]}
ASK = Call("web_search", ('{"query": "When does ', 'the shop open?"}'))
QUOTED = 'It opens at nine [1: "opens at nine in', ' the morning"]. [7] [1: "at ten"]'


def says(*deltas: str) -> Any:
    """A reply that is one text."""
    return replies.says(Answer(deltas=deltas))


def ended(client: OpenAI, model: str, **more: Any) -> dict[str, Any]:
    """The response that a stream of checked events ends with."""
    asked = {"model": model, "input": "When does the shop open?", "tools": [WEB], **more}
    return whole(client.responses.create(**asked, stream=True))


def annotations(response: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the last text."""
    found: list[dict[str, Any]] = response["output"][-1]["content"][0]["annotations"]
    return found


def test_it_searches_reads_and_cites_pages(
    house: House, client: OpenAI, upstream: Upstream, site: Site, model: str
) -> None:
    """The quote stands in the page, at the offsets told; what does not is dropped; each round is paid."""
    query = f"When does the shop open, {model}?"
    upstream.script(calls(Call("web_search", (json.dumps({"query": query}),))), says(*QUOTED))
    response = ended(client, model, include=["web_search_call.action.sources"])
    assert set(site.asked) == {query}
    search, message = response["output"]
    action = search["action"]
    assert (search["type"], search["status"]) == ("web_search_call", "completed")
    assert (action["type"], action["query"]) == ("search", query)
    assert {one["url"] for one in action["sources"]} == {site.page("hours"), site.page("rental")}
    assert message["content"][0]["text"] == "It opens at nine [1]."
    (cited,) = annotations(response)
    assert (cited["type"], cited["url"]) == ("url_citation", site.page("hours"))
    assert (cited["title"], cited["quote"]) == ("Opening hours", "opens at nine in the morning")
    (source,) = [one for one in response["sources"] if one["number"] == 1]
    assert source["text"][cited["start"] - source["start"] : cited["end"] - source["start"]] == cited["quote"]
    assert cited["quote"] in HOURS
    assert response["citations"] == {"verified": 1, "dropped": 2}
    assert offered(upstream.requests[0].body) == ["web_search"]
    assert HOURS in outputs(upstream)["call_0"]
    assert [row["status"] for row in house.rows(response["id"])] == ["completed", "completed"]


def test_pages_are_told_of_where_that_is_asked_for(client: OpenAI, upstream: Upstream, site: Site) -> None:
    """As the API has it."""
    upstream.script(calls(ASK), says("At nine."))
    assert "sources" not in ended(client, "gpt-4.1-mini")["output"][0]["action"]


@pytest.mark.parametrize("stream", [True, False])
def test_in_chat_completions(
    client: OpenAI, upstream: Upstream, site: Site, model: str, stream: bool
) -> None:
    """The rounds are not seen, their answer is."""
    upstream.script(replies.says(Answer(deltas=("Let me ", "look."), calls=(ASK,))), says(*QUOTED))
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "When does the shop open?"}],
        "web_search_options": {"search_context_size": "low"},
    }
    if stream:
        message = whole_chat(client.chat.completions.create(**asked, stream=True))
    else:
        choice = client.chat.completions.create(**asked).choices[0]
        message = {**choice.message.to_dict(), "finish_reason": choice.finish_reason}
    # What it said before is of another message, and the places are those in all of it.
    said = "Let me look.\n\nIt opens at nine [1]."
    assert (message["content"], message["finish_reason"]) == (said, "stop")
    (annotation,) = message["annotations"]
    cited = annotation["url_citation"]
    assert message["content"][cited["start_index"] : cited["end_index"]] == "[1]"
    assert (cited["url"], cited["quote"]) == (site.page("hours"), "opens at nine in the morning")


@pytest.mark.parametrize(
    "filters", [{"allowed_domains": ["example.org"]}, {"blocked_domains": ["127.0.0.9"]}]
)
def test_domains_hold_whatever_the_engine_gives(
    client: OpenAI, upstream: Upstream, site: Site, filters: dict[str, Any]
) -> None:
    """The model is told that nothing was found, and cites nothing."""
    upstream.script(calls(ASK), says(*QUOTED))
    response = ended(client, "gpt-4.1-mini", tools=[{**WEB, "filters": filters}])
    assert outputs(upstream)["call_0"] == "No page was found that answers."
    assert response["citations"] == {"verified": 0, "dropped": 3}


def test_a_page_of_the_inside_is_not_read(client: OpenAI, upstream: Upstream, site: Site) -> None:
    """The engine may name it; the model is told why there is nothing."""
    site.found.append(site.url.replace("127.0.0.9", "127.0.0.1") + "/hours")
    upstream.script(calls(Call("web_search", ('{"query": "What is inside?"}',))), says("Nothing."))
    ended(client, "gpt-4.1-mini")
    assert "Not read:" in outputs(upstream)["call_0"]
    assert "opens at nine" not in outputs(upstream)["call_0"]


def test_a_call_that_cannot_be_made_is_shown_as_failed(
    client: OpenAI, upstream: Upstream, site: Site
) -> None:
    """With what the model is told of it."""
    upstream.script(calls(Call("web_search", ('{"q": 1}',))), says("I do not know."))
    search = ended(client, "gpt-4.1-mini")["output"][0]
    assert (search["status"], search["action"]["query"]) == ("failed", "")
    assert search["error"].startswith("web_search takes one argument")
    assert site.asked == []


def test_the_next_turn_reads_it_again_under_its_numbers(
    client: OpenAI, upstream: Upstream, site: Site, model: str
) -> None:
    """In any process: what is found then is numbered behind it, and both can be cited."""
    upstream.script(calls(ASK), says("At nine [1]."))
    first = ended(client, model)
    found = outputs(upstream)["call_0"]
    known = len(first["sources"])
    upstream.script(calls(ASK), says(f'Nine [1: "opens at nine"], again [{known + 1}: "at nine in the"].'))
    second = ended(client, model, input="And again?", previous_response_id=first["id"])
    assert found in list(outputs(upstream).values())
    assert [one["number"] for one in second["sources"]] == [known + at for at in range(1, known + 1)]
    assert [(one["number"], one["quote"]) for one in annotations(second)] == [
        (1, "opens at nine"),
        (known + 1, "at nine in the"),
    ]


def test_own_tools_go_on_with_their_numbers_too(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Two turns, two searches: no number stands for two passages."""
    upstream.script(calls(SEARCH), says('Open it [1: "Open the brine valve"].'))
    asked = {"model": model, "input": "How is it started?", "tools": [OWN]}
    first = whole(client.responses.create(**asked, stream=True))
    known = len(first["sources"])
    upstream.script(calls(SEARCH), says(f'As said [1: "Wait for 3 bar"], [{known + 1}: "Open the brine"].'))
    more = {"input": "And then?", "previous_response_id": first["id"]}
    second = whole(client.responses.create(**{**asked, **more}, stream=True))
    assert second["citations"] == {"verified": 2, "dropped": 0}
    shown = [
        line.split()[0] for one in outputs(upstream).values() for line in one.splitlines() if line[:1] == "["
    ]
    assert shown == [f"[{number}]" for number in range(1, 2 * known + 1)]


def test_beside_passages_of_documents(client: OpenAI, upstream: Upstream, site: Site) -> None:
    """They are numbered first; in the next turn they come behind what the search showed."""
    upstream.script(calls(ASK), says('Valve [1: "Open the brine valve"], nine [4: "opens at nine"].'))
    first = ended(client, "gpt-4.1-mini", tools=[HANDBOOK, WEB])
    packed = [one["number"] for one in first["context"]["passages"]]
    numbers = [one["number"] for one in first["sources"]]
    assert packed == list(range(1, len(packed) + 1))
    assert numbers == list(range(len(packed) + 1, len(packed) + 1 + len(numbers)))
    second = ended(
        client,
        "gpt-4.1-mini",
        input="And the brine valve?",
        tools=[HANDBOOK],
        previous_response_id=first["id"],
    )
    assert min(one["number"] for one in second["context"]["passages"]) == numbers[-1] + 1


def test_a_choice_of_it_is_one_of_a_function(client: OpenAI, upstream: Upstream, site: Site) -> None:
    """In the first round alone, and of nothing where there is no such tool."""
    upstream.script(calls(ASK), says("At nine."))
    ended(client, "gpt-4.1-mini", tool_choice={"type": "web_search_preview"})
    bodies = [request.body for request in upstream.requests]
    assert bodies[0]["tool_choice"] == {"type": "function", "name": "web_search"}
    assert "tool_choice" not in bodies[1]
    stop = {"type": "function", "name": "stop", "parameters": {"type": "object"}}
    ended(client, "gpt-4.1-mini", tools=[stop], tool_choice={"type": "web_search_preview"})
    assert "tool_choice" not in upstream.requests[-1].body


def test_a_function_of_that_name_is_refused(client: OpenAI, upstream: Upstream, site: Site) -> None:
    """Nobody could tell who is called."""
    function = {"type": "function", "name": "web_search", "parameters": {"type": "object"}}
    with pytest.raises(UnprocessableEntityError, match="give your function another name"):
        ended(client, "gpt-4.1-mini", tools=[WEB, function])
    assert upstream.requests == []


@pytest.fixture(params=["seeking", "seeking-chat"])
def seeking(request: pytest.FixtureRequest) -> str:
    """A model whose endpoint searches the web itself, of each kind."""
    return str(request.param)


FOUND = Cited("https://shop.example/hours", "Hours", 12, 16)


def test_an_endpoint_searches_by_itself(client: OpenAI, upstream: Upstream, site: Site, seeking: str) -> None:
    """It is given the tool; what it looked for and cites is passed on, and nothing is claimed of it."""
    upstream.script(replies.says(Answer(deltas=("It opens at nine.",), searched="hours", cited=(FOUND,))))
    tool = {"type": "web_search", "user_location": {"type": "approximate", "country": "DE"}}
    response = ended(client, seeking, tools=[tool])
    body = upstream.requests[0].body
    if seeking == "seeking":
        assert body["tools"] == [{**tool, "search_context_size": "medium"}]
        assert response["output"][0]["action"]["query"] == "hours"
    else:
        place = {"type": "approximate", "approximate": {"country": "DE"}}
        assert body["web_search_options"] == {"search_context_size": "medium", "user_location": place}
    assert annotations(response) == [
        {
            "type": "url_citation",
            "url": FOUND.url,
            "title": "Hours",
            "start_index": 12,
            "end_index": 16,
        }
    ]
    assert response["output"][-1]["content"][0]["text"][12:16] == " nine"[1:]
    assert "citations" not in response
    assert site.asked == []


def test_its_searches_are_given_back_to_it(client: OpenAI, upstream: Upstream) -> None:
    """As it made them: reasoning that led to them would be refused without."""
    upstream.script(replies.says(Answer(deltas=("It opens at nine.",), searched="hours", cited=(FOUND,))))
    first = ended(client, "seeking")
    ended(client, "seeking", input="And then?", previous_response_id=first["id"])
    kinds = [one.get("type", one.get("role")) for one in upstream.requests[-1].body["input"]]
    assert kinds == ["user", "web_search_call", "assistant", "user"]


def test_its_citations_move_with_the_text(client: OpenAI, upstream: Upstream, seeking: str) -> None:
    """Markers of passages become shorter, and what stands behind them comes nearer."""
    text = 'Open it [1: "Open the brine valve"]. The shop opens at nine [9].'
    at = text.index("opens at nine")
    cited = Cited(FOUND.url, FOUND.title, at, at + len("opens at nine"))
    upstream.script(replies.says(Answer(deltas=(text[:20], text[20:]), searched="hours", cited=(cited,))))
    response = ended(client, seeking, tools=[HANDBOOK, WEB])
    said = response["output"][-1]["content"][0]["text"]
    assert said == "Open it [1]. The shop opens at nine."
    own, theirs = annotations(response)
    assert own["quote"] == "Open the brine valve"
    assert said[theirs["start_index"] : theirs["end_index"]] == "opens at nine"
    assert response["citations"] == {"verified": 1, "dropped": 1}


def test_its_chat_completions_too(client: OpenAI, upstream: Upstream, seeking: str) -> None:
    """With its annotations."""
    upstream.script(replies.says(Answer(deltas=("It opens at nine.",), searched="hours", cited=(FOUND,))))
    messages: Any = [{"role": "user", "content": "When?"}]
    made = client.chat.completions.create(model=seeking, messages=messages, web_search_options={})
    (annotation,) = made.choices[0].message.annotations or ()
    assert annotation.url_citation.to_dict() == {
        "url": FOUND.url,
        "title": "Hours",
        "start_index": 12,
        "end_index": 16,
    }
    assert json.loads(made.to_json())["choices"][0]["message"]["content"] == "It opens at nine."


def test_rental_is_found_as_well(client: OpenAI, upstream: Upstream, site: Site) -> None:
    """Pages are ranked against the question, not in the engine's order."""
    upstream.script(calls(Call("web_search", ('{"query": "rent a bicycle"}',))), says("Yes [1]."))
    response = ended(client, "gpt-4.1-mini")
    assert annotations(response)[0]["url"] == site.page("rental")
    assert annotations(response)[0]["quote"] in f"# Rental\n\n{RENTAL}"
