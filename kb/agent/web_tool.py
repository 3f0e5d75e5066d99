"""Search of the web, as a run calls it by itself, or as a model's endpoint does."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kb.agent.asked import WebUse
from kb.agent.numbers import Numbers
from kb.agent.toolbox import Outcome, digest_of
from kb.content.fence import visible
from kb.errors import InvalidInput, KbError
from kb.web.research import Research
from kb.web.tool import BUDGETS, FUNCTION, MAX_QUERY, NAME, shown

WEB = "web"
"""The label of the tool, which belongs to no server."""

ITEM = "wsc"
"""What ids of its calls begin with; those that endpoints make of theirs begin otherwise."""

# Of the window, that the passages of one call may take.
_SHARE = 16


@dataclass(frozen=True)
class WebTool:
    """`web_search`, which reads and changes nothing. use: as the request has it, fixed for the run, so that
    the model chooses the words alone. window: tokens that the model reads."""

    research: Research
    use: WebUse
    window: int
    label: str = WEB
    needs_approval: bool = False
    only_reads: bool = True

    @property
    def name(self) -> str:
        """As it is called."""
        return NAME

    @property
    def function(self) -> Mapping[str, Any]:
        """See `kb.agent.toolbox.ServerTool`."""
        return FUNCTION

    def digest(self, arguments: str) -> str:
        """See `kb.agent.toolbox.ServerTool`."""
        return digest_of(self.label, self.function, arguments)

    async def call(self, arguments: Mapping[str, Any], numbers: Numbers) -> Outcome:
        """See `kb.agent.toolbox.ServerTool`. Passages can be cited, for as long as their pages are kept."""
        query = arguments.get("query")
        if (
            set(arguments) != {"query"}
            or not isinstance(query, str)
            or not 0 < len(query.strip()) <= MAX_QUERY
        ):
            message = f"web_search takes one argument, query, a text of 1 to {MAX_QUERY} characters."
            return Outcome(message, is_error=True)
        use, budget = self.use, min(BUDGETS[self.use.size], self.window // _SHARE)
        try:
            found = await self.research.find(query, budget, domains=use.domains, location=use.location)
        except KbError as error:
            return Outcome(visible(str(error)), is_error=True)
        pages = tuple(dict.fromkeys(one.page.url for one in found.passages))
        return Outcome(shown(found, numbers.add_pages(found.passages)), pages=pages)


def is_own_search(item: Mapping[str, Any]) -> bool:
    """Whether an item is of a search that this service made, not an endpoint."""
    return item.get("type") == "web_search_call" and str(item.get("id")).startswith(f"{ITEM}_")


def hosted(use: WebUse) -> dict[str, Any]:
    """The same as a tool of the Responses API, for an endpoint that searches by itself.

    Raises InvalidInput for what that API has no words for.
    """
    if use.domains.blocked:
        message = "the model's endpoint searches by itself and blocks no domains: name those that are allowed"
        raise InvalidInput(message, param="tools")
    tool: dict[str, Any] = {"type": "web_search", "search_context_size": use.size}
    if use.domains.allowed:
        tool["filters"] = {"allowed_domains": list(use.domains.allowed)}
    if use.location:
        place = {name: value for name, value in asdict(use.location).items() if value is not None}
        tool["user_location"] = {"type": "approximate", **place}
    return tool
