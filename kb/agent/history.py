"""What was said before: how many tokens it takes, and what of it stays where not all fits."""

import json
from collections.abc import Mapping, Sequence

from kb.agent.toolbox import model_name
from kb.agent.web_tool import is_own_search
from kb.catalog.steps import Step
from kb.gateway.events import Item
from kb.tokens import count_tokens

# What an endpoint adds to each item: its role and the marks around it.
_AROUND = 8
# Of a picture, at the most that models of this window take for one.
_IMAGE = 2_500


def tokens_of(items: Sequence[Item]) -> int:
    """Tokens that items take in a call, as counted here."""
    return sum(_tokens(item) for item in items)


def as_calls(items: Sequence[Item], searches: Mapping[str, Step]) -> list[Item]:
    """Calls that the service made for the model, as a model knows calls: each with its output behind it.

    searches: those of the web, by the id of their item. What else only the service's own items
    tell (lists of tools, searches before the model was called, requests for a yes) is left out.
    """
    told: list[Item] = []
    for item in items:
        match item.get("type", "message"):
            case "mcp_call":
                name = model_name(item["server_label"], item["name"])
                call = {"call_id": item["id"], "name": name, "arguments": item["arguments"]}
                error = item.get("error") or {"content": ()}
                output = item.get("output") or "\n".join(part["text"] for part in error["content"])
                told += _call(call, output)
            case "web_search_call" if is_own_search(item):
                if step := searches.get(item["id"]):
                    call = {"call_id": item["id"], "name": step.name, "arguments": step.arguments}
                    told += _call(call, step.output or "")
            case "mcp_list_tools" | "mcp_approval_request" | "mcp_approval_response" | "file_search_call":
                pass
            case _:
                told.append(item)
    return told


def _call(call: Item, output: str) -> list[Item]:
    output_of = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
    return [{"type": "function_call", **call}, output_of]


def newest(items: Sequence[Item], room: int) -> list[Item]:
    """As many whole turns from the end as take `room` tokens; the last turn always.

    A turn begins with what the user says, so that no call is parted from its output.
    """
    begins = [at for at, item in enumerate(items) if item.get("role") == "user"] or [0]
    for at in begins[:-1]:
        if tokens_of(items[at:]) <= room:
            return list(items[at:])
    return list(items[begins[-1] :])


def questions_of(items: Sequence[Item]) -> tuple[str, ...]:
    """What to search for: what the user said last, and the same behind what they said before.

    A question that goes on from another one ("and how long does it take?") names its subject only there.
    """
    said = [text for item in items if item.get("role") == "user" and (text := text_of(item).strip())]
    if not said:
        return ()
    return (said[-1],) if len(said) == 1 else (said[-1], f"{said[-2]}\n{said[-1]}")


def has_pictures(items: Sequence[Item]) -> bool:
    """Whether some message shows one."""
    return any(_pictures(item) for item in items)


def text_of(item: Item) -> str:
    """The texts of a message, one behind the other."""
    content = item.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in content)


def _tokens(item: Item) -> int:
    if item.get("type", "message") != "message":
        return count_tokens(json.dumps(item, ensure_ascii=False)) + _AROUND
    return count_tokens(text_of(item)) + _pictures(item) * _IMAGE + _AROUND


def _pictures(item: Item) -> int:
    content = item.get("content") or ""
    return 0 if isinstance(content, str) else sum(part["type"] == "input_image" for part in content)
