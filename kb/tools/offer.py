"""Which tools a run is offered, and what their arguments default to."""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from kb.tools.arguments import CONTENT_VERSION, KNOWLEDGE_BASE, SHORT_CONTENT_VERSION
from kb.tools.registry import TOOLS, Tool

_KNOWLEDGE_BASE = re.compile(
    rf"""\bkb_[0-9a-f]{{32}}\b | \b{KNOWLEDGE_BASE}\b["']?\s*[:=]\s*["']?([^\s"',;}}]+)""", re.VERBOSE
)
_VERSION = re.compile(r"\bver_[0-9a-f]{32}\b")


@dataclass(frozen=True, slots=True)
class Offer:
    """Tools, and the arguments that `kb.tools.call` fills in where they are not given."""

    tools: tuple[Tool, ...]
    defaults: Mapping[str, str]

    def functions(self) -> list[dict[str, Any]]:
        """As OpenAI's Responses API takes them; what has a default is not required."""
        return [self._function(tool) for tool in self.tools]

    def _function(self, tool: Tool) -> dict[str, Any]:
        function = deepcopy(tool.function)
        parameters = function["parameters"]
        for name, value in self.defaults.items():
            if name in parameters["properties"]:
                parameters["properties"][name]["default"] = value
        required = [name for name in parameters.get("required", []) if name not in self.defaults]
        parameters["required"] = required
        return function


def offered(metadata: Mapping[str, str], prompt: str = "") -> Offer:
    """The tools of one run, by what its metadata and its prompt name.

    A knowledge base in the metadata, or the only one that the prompt names, is the default of
    knowledge_base_id. A content version in the metadata is the default of the content tools, and then
    list_content_sources is left out, unless the prompt names one as well: whoever names one may want others.
    """
    defaults: dict[str, str] = {}
    named = {found[1] or found[0] for found in _KNOWLEDGE_BASE.finditer(prompt)}
    if given := metadata.get(KNOWLEDGE_BASE):
        defaults[KNOWLEDGE_BASE] = given
    elif len(named) == 1:
        defaults[KNOWLEDGE_BASE] = named.pop()
    tools = list(TOOLS.values())
    if version := metadata.get(CONTENT_VERSION) or metadata.get(SHORT_CONTENT_VERSION):
        defaults[CONTENT_VERSION] = version
        if not _VERSION.search(prompt):
            tools.remove(TOOLS["list_content_sources"])
    return Offer(tuple(tools), defaults)
