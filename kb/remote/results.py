"""What a tool of others gave, as a model is to read it: quoted, visible, and no longer than it may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kb.content.fence import NOTICE, named, quoted
from kb.remote.approval import canonical
from kb.tokens import count_tokens

# No text has more characters for a token but by blanks; what is longer is not even counted.
_CHARACTERS_PER_TOKEN = 8
_CUT = "It was longer, and is cut here; ask the tool for less."


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """text: for a model, fenced. is_error: whether the tool says so. structured: as it came, for programs."""

    text: str
    is_error: bool
    structured: Mapping[str, Any] | None


def read(tool: str, answer: Mapping[str, Any], max_tokens: int) -> RemoteResult:
    """answer: a CallToolResult as the protocol has it. max_tokens: of the text, 200 or more."""
    structured = answer.get("structuredContent")
    structured = structured if isinstance(structured, dict) else None
    parts = [_shown(one) for one in answer.get("content", ())]
    if not parts and structured is not None:
        parts = [canonical(structured)]
    failed = answer.get("isError") is True
    text = "\n\n".join(parts) or "(nothing)"
    head = f"The tool {tool} {'failed' if failed else 'answered'}. {NOTICE}"
    return RemoteResult(_within(head, text, max_tokens), failed, structured)


def _within(head: str, text: str, max_tokens: int) -> str:
    """head, the text between fences, and a word about what was cut; never more tokens than that."""
    kept = text[: max_tokens * _CHARACTERS_PER_TOKEN]
    while True:
        made = "\n".join([head, quoted(kept), *([_CUT] if len(kept) < len(text) else [])])
        used = count_tokens(made)
        if used <= max_tokens or not kept:
            return made
        kept = kept[: min(len(kept) - 1, len(kept) * max_tokens // used)]


def _shown(part: Mapping[str, Any]) -> str:
    """A block of content. What is no text is named: nothing is loaded for it, no link is followed."""
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "image" | "audio" as kind:
            return f"[{kind} of type {part.get('mimeType')}, not shown]"
        case "resource_link":
            return f"[resource {named(str(part.get('name', '')))} at {part.get('uri')}, not read]"
        case "resource":
            inside = part.get("resource") or {}
            if isinstance(inside.get("text"), str):
                return f"[resource {inside.get('uri')}]\n{inside['text']}"
            return f"[resource {inside.get('uri')} of type {inside.get('mimeType')}, not shown]"
        case other:
            return f"[content of the unknown type {str(other)[:40]!r}]"
