"""Web search by a SearXNG of one's own (or searx): GET /search?format=json, as its documentation has it.

`json` must be among `search.formats` of its settings.
"""

from kb.errors import RemoteFailed
from kb.types import Domains, UserLocation, WebHit
from kb.web.addresses import PRIVATE
from kb.web.domains import with_operators
from kb.web.engine import asked, hits_of
from kb.web.guard import Guard

_NAME = "SearXNG"
# Of results; each has about ten.
_MOST_PAGES = 3


class SearxngSearch:
    """A `WebSearch`. url: where it answers, by the operator's word: it may be on a private network."""

    def __init__(self, url: str, guard: Guard | None = None) -> None:
        self._url = f"{url.rstrip('/')}/search"
        self._guard = guard or Guard(allow=PRIVATE)

    async def search(
        self, query: str, *, count: int, domains: Domains, location: UserLocation | None = None
    ) -> list[WebHit]:
        """See `WebSearch`. It takes no location. Raises RemoteFailed also where none of its own answers."""
        hits: dict[str, WebHit] = {}
        for page in range(1, _MOST_PAGES + 1):
            parameters = {"q": with_operators(query, domains), "format": "json", "pageno": str(page)}
            found = await asked(self._guard, _NAME, self._url, parameters, {})
            silent = found.get("unresponsive_engines")
            if not found.get("results") and silent and page == 1:
                raise RemoteFailed(f"{_NAME} has no engine that answers: {str(silent)[:300]}")
            dates = ("publishedDate", "pubdate")
            new = [
                hit for hit in hits_of(found.get("results"), "content", dates, domains) if hit.url not in hits
            ]
            hits.update((hit.url, hit) for hit in new)
            # An engine without pages gives the same ones again.
            if len(hits) >= count or not new:
                break
        return list(hits.values())[:count]
