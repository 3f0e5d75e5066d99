"""Tools of other people's MCP servers, as a run calls them: connected when it starts, and until it ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kb.agent.numbers import Numbers
from kb.agent.toolbox import Outcome, model_name, strict_json
from kb.content.fence import visible
from kb.errors import KbError
from kb.remote.approval import binding, needs_approval
from kb.remote.server import RemoteServer, RemoteTool

if TYPE_CHECKING:
    from kb.remote.session import Session

_SHARE, _LEAST_BUDGET = 64, 256


@dataclass(frozen=True)
class ConnectedTool:
    """A tool of a server that the run is connected to. window: tokens that its reader has."""

    server: RemoteServer
    tool: RemoteTool
    session: "Session"
    window: int
    only_reads: bool = False

    @property
    def label(self) -> str:
        """What the run calls the server."""
        return self.server.label

    @property
    def name(self) -> str:
        """As the server calls it."""
        return self.tool.name

    @property
    def function(self) -> Mapping[str, Any]:
        """See `kb.agent.toolbox.ServerTool`."""
        return {
            "type": "function",
            "name": model_name(self.label, self.name),
            "description": self.tool.description,
            "parameters": self.tool.input_schema,
            "strict": False,
        }

    @property
    def needs_approval(self) -> bool:
        """Whether the caller or the operator wants a person to be asked."""
        return needs_approval(self.server, self.tool)

    def digest(self, arguments: str) -> str:
        """See `kb.agent.toolbox.ServerTool`. What is no JSON object is bound to as the text that it is."""
        try:
            given = strict_json(arguments or "{}")
        except ValueError:
            given = None
        return binding(self.server, self.tool, given if isinstance(given, dict) else {"": arguments})

    async def call(self, arguments: Mapping[str, Any], numbers: Numbers) -> Outcome:
        """See `kb.agent.toolbox.ServerTool`. What others say has no place in a document to be cited by."""
        budget = max(_LEAST_BUDGET, self.window // _SHARE)
        try:
            result = await self.session.call(self.tool, arguments, max_tokens=budget)
        except KbError as error:
            return Outcome(visible(str(error)), is_error=True)
        return Outcome(result.text, is_error=result.is_error)
