"""Search of the web, as a run calls it by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kb.agent.toolbox import Numbers, Outcome, digest_of
from kb.content.fence import visible
from kb.errors import KbError
from kb.types import ANYWHERE, Domains, UserLocation
from kb.web.research import Research
from kb.web.tool import BUDGETS, FUNCTION, MAX_QUERY, NAME, shown

WEB = "web"
"""The label of the tool, which belongs to no server."""


@dataclass(frozen=True)
class WebTool:
    """`web_search`, which reads and changes nothing. domains, location: as the request has them, fixed for
    the run, so that the model chooses the words alone. budget: tokens of the passages of one call."""

    research: Research
    domains: Domains = ANYWHERE
    location: UserLocation | None = None
    budget: int = BUDGETS["medium"]
    label: str = WEB
    needs_approval: bool = False

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
        try:
            found = await self.research.find(query, self.budget, domains=self.domains, location=self.location)
        except KbError as error:
            return Outcome(visible(str(error)), is_error=True)
        return Outcome(shown(found, numbers.add_pages(found.passages)))
