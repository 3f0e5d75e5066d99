"""What a server says of its tools, judged: what cannot be offered is refused with a reason."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kb.content.fence import visible
from kb.remote.approval import canonical, digest
from kb.remote.server import RemoteServer, RemoteTool

MOST_TOOLS = 128
"""Of one server, of those that are allowed."""

MOST_DESCRIPTION_BYTES = 10_000
MOST_SCHEMA_BYTES = 64_000

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Refused:
    """A tool that is not offered. name: as far as it can be shown."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ToolList:
    """Those of one server that can be called, in its order."""

    tools: tuple[RemoteTool, ...]
    refused: tuple[Refused, ...] = ()


def judged(server: RemoteServer, listed: Sequence[Mapping[str, Any]]) -> ToolList:
    """listed: tools as the protocol has them. Those that are not allowed are left out without a word."""
    tools: list[RemoteTool] = []
    refused: list[Refused] = []
    times = Counter(one["name"] for one in listed)
    for one in listed:
        name, said = one["name"], one.get("description") or ""
        read_only = (one.get("annotations") or {}).get("readOnlyHint") is True
        if not all(allowed.matches(name, read_only) for allowed in server.allowed):
            continue
        if reason := _fault(one, said, times[name]) or (
            f"only {MOST_TOOLS} of a server are offered; name those that are needed in allowed_tools"
            if len(tools) == MOST_TOOLS
            else None
        ):
            refused.append(Refused(visible(name[:_LONGEST_SHOWN]), reason))
            continue
        schema = one["inputSchema"]
        fingerprint = digest([server.identity, name, said, schema, read_only])
        tools.append(RemoteTool(name, visible(said), _shown(schema), read_only, fingerprint))
    return ToolList(tuple(tools), tuple(refused))


def _shown(schema: Any) -> Any:
    """A schema as a model may read it: its descriptions, names and values are a server's words as well."""
    if isinstance(schema, str):
        return visible(schema)
    if isinstance(schema, Mapping):
        return {visible(name): _shown(one) for name, one in schema.items()}
    return [_shown(one) for one in schema] if isinstance(schema, list) else schema


def _fault(tool: Mapping[str, Any], said: str, times: int) -> str | None:
    if not _NAME.fullmatch(tool["name"]):
        return "its name is not 1 to 64 of A-Z, a-z, 0-9, _, . and -"
    if times > 1:
        # Which of them a call would reach is the server's choice.
        return f"its server lists {times} tools of this name"
    if len(said.encode(errors="surrogatepass")) > MOST_DESCRIPTION_BYTES:
        return f"its description has more than {MOST_DESCRIPTION_BYTES:,} bytes"
    schema = tool["inputSchema"]
    if schema.get("type") != "object":
        return "its arguments are no object"
    if len(canonical(schema)) > MOST_SCHEMA_BYTES:
        return f"the schema of its arguments has more than {MOST_SCHEMA_BYTES:,} bytes"
    return None
