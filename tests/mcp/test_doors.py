"""The same through every door: in memory, over stdio, over HTTP; in the newest and the handshake era."""

from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from kb.tools import TOOLS

ID = "source_connection_content_version_id"
DOORS = ["memory", "stdio", "one_process", "two_processes"]
TEMPLATE = types.ResourceTemplateReference(uri="kb://{kb}/{content}")

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("door", DOORS, indirect=True)
async def test_a_client_finds_calls_reads_and_is_told_what_was_wrong(door: Any, mode: str) -> None:
    """Tools with their schemas and results, progress, resources, prompts, completion, cursors, errors."""
    with anyio.fail_after(60):
        async with Client(door, mode=mode) as client:
            assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
            await _lists_tools(client)
            await _calls_each(client)
            await _tells_progress(client)
            await _reads_resources(client)
            await _fills_prompts(client)
            await _says_what_was_wrong(client)


async def _lists_tools(client: Client) -> None:
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == list(TOOLS)
    for tool in listed:
        assert tool.input_schema == TOOLS[tool.name].parameters
        assert tool.output_schema == TOOLS[tool.name].output
        assert tool.description == TOOLS[tool.name].description
        hints = tool.annotations
        assert hints is not None
        assert (hints.read_only_hint, hints.destructive_hint) == (True, False)
        assert (hints.idempotent_hint, hints.open_world_hint) == (True, False)


async def _calls_each(client: Client) -> None:
    found = await _call(client, "search_knowledge_base", query="start the pump", top_k=3)
    hit = found["hits"][0]
    assert hit["uri"] == "startup.md"
    span = {ID: hit[ID], "start": hit["start"], "end": hit["end"]}
    assert (await _call(client, "peek_content", **span))["text"] == hit["text"]
    listed = await _call(client, "list_knowledge_bases")
    assert [kb["name"] for kb in listed["knowledge_bases"]] == ["hand book"]
    sources = await _call(client, "list_content_sources", knowledge_base_id="hand book", query="winter")
    assert [source["title"] for source in sources["sources"]] == ["Winterbetrieb"]
    stats = await _call(client, "get_content_stats", **{ID: hit[ID]})
    assert [heading["title"] for heading in stats["outline"]] == ["Starting", "Stopping"]
    loaded = await _call(client, "load_content", **{ID: hit[ID]})
    assert loaded["text"][hit["start"] : hit["end"]] == hit["text"]
    grepped = await _call(client, "grep_content", knowledge_base_id="hand book", pattern="brine valve")
    assert [match["text"] for match in grepped["matches"]] == ["brine valve", "brine valve"]


async def _call(client: Client, name: str, **arguments: Any) -> Any:
    """The structured content, which the schema allows and the one text block shows."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    assert block.text
    Draft202012Validator(TOOLS[name].output).validate(result.structured_content)
    return result.structured_content


async def _tells_progress(client: Client) -> None:
    told: list[tuple[float, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    arguments = {"knowledge_base_id": "hand book", "pattern": "pump"}
    await client.call_tool("grep_content", arguments, progress_callback=tell)
    assert told[0] == (0.0, "grep_content at work for 0.0 s")


async def _reads_resources(client: Client) -> None:
    listed = {one.name: one for one in (await client.list_resources()).resources}
    assert set(listed) == {"startup.md", "winter.md", "parts.txt"}
    winter = listed["winter.md"]
    assert winter.uri.startswith("kb://hand%20book/doc_")
    assert (winter.title, winter.mime_type) == ("Winterbetrieb", "text/plain")
    read = (await client.read_resource(winter.uri)).contents[0]
    assert isinstance(read, types.TextResourceContents)
    assert read.text.endswith("Bei Frost läuft die Umwälzpumpe im Dauerbetrieb.")
    assert read.meta == winter.meta
    (template,) = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "kb://{kb}/{content}"
    names = await client.complete(TEMPLATE, {"name": "kb", "value": "BOOK"})
    assert names.completion.values == ["hand book"]
    chosen = {"kb": "hand book"}
    ids = await client.complete(TEMPLATE, {"name": "content", "value": "winter"}, context_arguments=chosen)
    assert ids.completion.values == [winter.uri.rpartition("/")[2]]


async def _fills_prompts(client: Client) -> None:
    listed = (await client.list_prompts()).prompts
    assert [prompt.name for prompt in listed] == ["ask", "summarise"]
    asked = await client.get_prompt("ask", {"question": "How is the pump started?"})
    (message,) = asked.messages
    assert isinstance(message.content, types.TextContent)
    assert "How is the pump started?" in message.content.text
    assert "Open the brine valve first" in message.content.text


async def _says_what_was_wrong(client: Client) -> None:
    wrong = await client.call_tool("search_knowledge_base", {"query": "pump", "topk": 3})
    assert wrong.is_error
    assert "did you mean 'top_k'?" in _text(wrong)
    nowhere = await client.call_tool("search_knowledge_base", {"query": "p", "knowledge_base_id": "handbok"})
    assert nowhere.is_error
    assert _text(nowhere) == "no knowledge base 'handbok'; did you mean 'hand book'? there are: hand book"
    with pytest.raises(MCPError, match="did you mean 'grep_content'") as unknown:
        await client.call_tool("grep_contents", {})
    assert unknown.value.code == types.INVALID_PARAMS
    for listing in (client.list_tools, client.list_resources, client.list_prompts):
        with pytest.raises(MCPError, match="cursor") as foreign:
            await listing(cursor="../x")
        assert foreign.value.code == types.INVALID_PARAMS
    with pytest.raises(MCPError, match="no document"):
        await client.read_resource("kb://hand%20book/doc_0")


def _text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text
