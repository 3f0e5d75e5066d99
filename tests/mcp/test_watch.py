"""Who listens is told of changes, whichever process made them."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp import Client, types
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

pytestmark = [
    pytest.mark.anyio,
    # What it says of older protocols is what these are about.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    from kb.mcp import watch

    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)


async def _events(listening: Any, count: int) -> list[Any]:
    with anyio.fail_after(10):
        return [await anext(listening) for _ in range(count)]


async def test_a_listener_is_told_when_its_document_changes_and_when_it_goes(
    shelf: Any, standing: Callable[[], Any]
) -> None:
    """By the address that it gave, and of nothing else that changes."""
    shelf.put(shelf.version("a.txt", "old"), shelf.version("b.txt", "old"))
    document = shelf.content("a.txt").id
    by_name, by_id = f"kb://shelf/{document}", f"kb://{shelf.kb.id}/{document}"
    async with Client(standing()) as client, client.listen(resource_subscriptions=[by_name]) as named:
        async with client.listen(resource_subscriptions=[by_id], resources_list_changed=True) as known:
            shelf.put(shelf.version("b.txt", "new"))
            assert await _events(known, 1) == [ResourcesListChanged()]
            shelf.put(shelf.version("a.txt", "new"))
            assert await _events(named, 1) == [ResourceUpdated(by_name)]
            assert await _events(known, 2) == [ResourcesListChanged(), ResourceUpdated(by_id)]
            (read,) = (await client.read_resource(by_name)).contents
            assert read.text == "new"  # type: ignore[union-attr]
        shelf.catalog.store.remove(shelf.kb.id, [document])
        assert await _events(named, 1) == [ResourceUpdated(by_name)]


async def test_the_list_changes_with_a_knowledge_base(shelf: Any, standing: Callable[[], Any]) -> None:
    """Its name is part of every address in it."""
    async with Client(standing()) as client, client.listen(resources_list_changed=True) as listening:
        shelf.catalog.knowledge_bases.change(shelf.kb.id, name="rack")
        assert await _events(listening, 1) == [ResourcesListChanged()]


async def test_nobody_looks_while_nobody_listens(
    shelf: Any, standing: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog is asked from the first listener on, and no more when the last has left."""
    looked = 0
    heads = shelf.catalog.feed.heads

    def counted() -> Any:
        nonlocal looked
        looked += 1
        return heads()

    monkeypatch.setattr(shelf.catalog.feed, "heads", counted)
    async with Client(standing()) as client:
        await client.list_tools()
        assert looked == 0
        async with client.listen(resources_list_changed=True) as listening:
            shelf.put(shelf.version("a.txt", "new"))
            await _events(listening, 1)
        before = looked
        assert before >= 2
        await client.list_tools()
        await anyio.sleep(0.2)
        assert looked <= before + 1


async def test_a_look_that_fails_is_logged_and_the_next_one_tells(
    shelf: Any, standing: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that refuses for a moment ends no subscription."""
    heads = shelf.catalog.feed.heads
    calls = iter(range(100))

    def failing() -> Any:
        if next(calls) == 1:
            raise OSError("the disk refused")
        return heads()

    monkeypatch.setattr(shelf.catalog.feed, "heads", failing)
    async with Client(standing()) as client, client.listen(resources_list_changed=True) as listening:
        shelf.put(shelf.version("a.txt", "new"))
        assert await _events(listening, 1) == [ResourcesListChanged()]
    assert "the disk refused" in caplog.text


async def test_one_listener_names_so_many_documents_at_most(standing: Callable[[], Any]) -> None:
    """Each is looked at after every change."""
    many = [f"kb://shelf/doc_{number}" for number in range(101)]
    async with Client(standing()) as client:
        with pytest.raises(MCPError, match="100 resources at most"):
            async with client.listen(resource_subscriptions=many):
                pass
        async with client.listen(resource_subscriptions=many[:100]) as listening:
            assert listening.honored.resource_subscriptions == many[:100]
    async with Client(standing(), mode="legacy") as client:
        for place in many[:100]:
            await client.subscribe_resource(place)
        with pytest.raises(MCPError, match="100 resources at most"):
            await client.subscribe_resource(many[100])


async def test_in_the_handshake_era_a_client_subscribes_and_is_told_beside_its_answers(
    shelf: Any, standing: Callable[[], Any]
) -> None:
    """Of the list always, of a document until it unsubscribes."""
    shelf.put(shelf.version("a.txt", "old"))
    place = f"kb://shelf/{shelf.content('a.txt').id}"
    send, told = anyio.create_memory_object_stream[str](10)

    async def hear(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            await send.send(message.params.uri)
        elif isinstance(message, types.ResourceListChangedNotification):
            await send.send("list")

    with anyio.fail_after(20), send, told:
        async with Client(standing(), mode="legacy", message_handler=hear) as client:
            assert client.server_capabilities.resources is not None
            assert client.server_capabilities.resources.subscribe
            await client.subscribe_resource(place)
            await client.subscribe_resource(place)
            shelf.put(shelf.version("a.txt", "new"))
            assert [await told.receive(), await told.receive()] == ["list", place]
            await client.unsubscribe_resource(place)
            await client.unsubscribe_resource(place)
            shelf.put(shelf.version("a.txt", "newer"))
            shelf.put(shelf.version("b.txt", "more"))
            assert await told.receive() == "list"
            await client.subscribe_resource(place)
            shelf.put(shelf.version("a.txt", "newest"))
            rest = [await told.receive()]
            while rest[-1] != place:
                rest.append(await told.receive())
            assert set(rest) == {"list", place}


async def test_a_listener_over_http_hears_of_what_another_process_wrote(two_processes: str) -> None:
    """Each server process watches the catalog itself: it does not matter which one a client has reached."""
    import httpx2

    api = two_processes.removesuffix("/mcp") + "/v1/knowledge_bases"
    with anyio.fail_after(30):
        async with httpx2.AsyncClient(timeout=20) as http:
            assert (await http.post(api, json={"name": "watched"})).status_code == 201
            async with (
                Client(two_processes) as client,
                client.listen(resources_list_changed=True) as listening,
            ):
                sent = {"documents": [{"name": "a.txt", "text": "A new valve."}]}
                done = await http.post(f"{api}/watched/documents?wait=true", json=sent)
                assert done.json()["report"]["added"] == 1
                assert await anext(listening) == ResourcesListChanged()
            assert (await http.delete(f"{api}/watched")).status_code == 200
