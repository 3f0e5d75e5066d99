"""Which calls of others' tools a person must allow first, and what exactly is allowed then."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from kb.remote.server import RemoteServer, RemoteTool


class ToolFilter(BaseModel):
    """Tools of which all that is given holds. read_only: what the server itself says of a tool."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool_names: tuple[str, ...] | None = None
    read_only: bool | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        # It would match every tool, which nobody means who writes `never: {}`.
        if self.tool_names is None and self.read_only is None:
            raise ValueError("tool_names or read_only must be given")
        return self

    def matches(self, name: str, read_only: bool) -> bool:
        """Whether a tool is meant."""
        named = self.tool_names is None or name in self.tool_names
        return named and (self.read_only is None or read_only == self.read_only)


class ApprovalByTool(BaseModel):
    """always wins over never, and counts for what neither names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    always: ToolFilter | None = None
    never: ToolFilter | None = None


Approval = Literal["always", "never"] | ApprovalByTool


def needs_approval(server: "RemoteServer", tool: "RemoteTool") -> bool:
    """Whether a person must say yes to each call: where the caller asks for it, or the operator does."""
    return any(_needs(approval, tool) for approval in server.approvals)


def _needs(approval: Approval, tool: "RemoteTool") -> bool:
    if isinstance(approval, str):
        return approval == "always"
    if approval.always and approval.always.matches(tool.name, tool.read_only):
        return True
    return not (approval.never and approval.never.matches(tool.name, tool.read_only))


def binding(server: "RemoteServer", tool: "RemoteTool", arguments: Mapping[str, Any]) -> str:
    """What a yes is given for, in 64 hex digits: this server, this definition of the tool, these arguments.

    To be compared again, with a list of tools that was read anew, before the call is made.
    """
    return digest([server.identity, tool.fingerprint, arguments])


def digest(value: Any) -> str:
    """SHA-256 of a value of JSON's types, the same in whichever order its keys came."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Its JSON with sorted keys, without blanks; what is no text (half a surrogate pair) is escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
