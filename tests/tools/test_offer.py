"""What a run is offered, case by case."""

import pytest

from kb.tools import TOOLS, offered

KB = "kb_0199f3c2a7de7b2f9a4c1d2e3f405162"
OTHER = "kb_0199f3c2a7de7b2f9a4c1d2e3f405163"
VERSION = "ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"
NAMED = "ver_0199f3c2b1057a1c9d20f1e2d3c4b5a7"
ALL = set(TOOLS)


@pytest.mark.parametrize(
    ("metadata", "prompt", "withheld", "defaults"),
    [
        ({}, "", set(), {}),
        ({}, "Which knowledge bases are there?", set(), {}),
        ({"knowledge_base_id": "handbook"}, "", set(), {"knowledge_base_id": "handbook"}),
        ({"knowledge_base_id": KB}, f"in {OTHER}", set(), {"knowledge_base_id": KB}),
        ({}, f"Search {KB} for pumps", set(), {"knowledge_base_id": KB}),
        ({}, f"Search {KB}, and {KB} again", set(), {"knowledge_base_id": KB}),
        ({}, f"Compare {KB} with {OTHER}", set(), {}),
        ({}, "knowledge_base_id: handbook", set(), {"knowledge_base_id": "handbook"}),
        ({}, '{"knowledge_base_id": "handbook"}', set(), {"knowledge_base_id": "handbook"}),
        ({}, f"knowledge_base_id={KB}", set(), {"knowledge_base_id": KB}),
        ({}, f"xkb_{KB[3:]} is no id, nor is {KB}0", set(), {}),
        (
            {"source_connection_content_version_id": VERSION},
            "What is it about?",
            {"list_content_sources"},
            {"source_connection_content_version_id": VERSION},
        ),
        (
            {"content_version_id": VERSION},
            "",
            {"list_content_sources"},
            {"source_connection_content_version_id": VERSION},
        ),
        ({}, f"Summarise {NAMED}", set(), {}),
        (
            {"content_version_id": VERSION},
            f"Compare with {NAMED}",
            set(),
            {"source_connection_content_version_id": VERSION},
        ),
        (
            {"knowledge_base_id": KB, "content_version_id": VERSION},
            "",
            {"list_content_sources"},
            {"knowledge_base_id": KB, "source_connection_content_version_id": VERSION},
        ),
        ({"knowledge_base_id": "", "content_version_id": ""}, "", set(), {}),
    ],
)
def test_what_a_run_is_offered(
    metadata: dict[str, str], prompt: str, withheld: set[str], defaults: dict[str, str]
) -> None:
    """By what its metadata and its prompt name."""
    offer = offered(metadata, prompt)
    assert {tool.name for tool in offer.tools} == ALL - withheld
    assert offer.defaults == defaults


def test_a_function_does_not_require_what_has_a_default() -> None:
    """The model may leave it out, and sees what it then is; the registry's own schema stays as it is."""
    functions = {one["name"]: one for one in offered({"content_version_id": VERSION}).functions()}
    peek = functions["peek_content"]["parameters"]
    assert peek["required"] == []
    assert peek["properties"]["source_connection_content_version_id"]["default"] == VERSION
    assert functions["search_knowledge_base"]["parameters"]["required"] == ["query"]
    assert TOOLS["peek_content"].parameters["required"] == ["source_connection_content_version_id"]
