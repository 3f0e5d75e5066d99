"""Web search by the Brave Search API, as its reference has it; never tried with a key of our own."""

import re
from pathlib import Path

from kb.errors import InvalidInput
from kb.types import Domains, UserLocation, WebHit
from kb.web.domains import with_operators
from kb.web.engine import asked, hits_of
from kb.web.guard import Guard

URL = "https://api.search.brave.com/res/v1/web/search"
# Of one request; the reference names the first three.
_MOST, _CHARACTERS, _WORDS = 20, 400, 50
_COUNTRY = re.compile(r"[A-Za-z]{2}")


class BraveSearch:
    """A `WebSearch`. key_file: holds the key, and is read for every request, so that a changed one counts."""

    def __init__(self, key_file: Path, url: str = URL, guard: Guard | None = None) -> None:
        self._key_file, self._url = key_file, url
        self._guard = guard or Guard()

    async def search(
        self, query: str, *, count: int, domains: Domains, location: UserLocation | None = None
    ) -> list[WebHit]:
        """See `WebSearch`. Of a location it takes the country. Raises InvalidInput without a key."""
        full = with_operators(_cut(query, _WORDS // 2, _CHARACTERS // 2), domains)
        parameters = {
            # Domains are asked for as far as they fit; what is outside of them is left out in any case.
            "q": _cut(full, _WORDS, _CHARACTERS),
            "count": str(_MOST if domains.allowed or domains.blocked else min(count, _MOST)),
            "result_filter": "web",
            "text_decorations": "false",
        }
        if location and location.country and _COUNTRY.fullmatch(location.country):
            parameters["country"] = location.country.upper()
        found = await asked(self._guard, "Brave Search", self._url, parameters, self._headers())
        web = found.get("web")
        results = web.get("results") if isinstance(web, dict) else None
        return hits_of(results, "description", ("page_age",), domains)[:count]

    def _headers(self) -> dict[str, str]:
        try:
            key = self._key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            message = f"the key of Brave Search, {self._key_file}, cannot be read: {error}"
            raise InvalidInput(message, param="KB_WEB_SEARCH_KEY_FILE") from error
        return {"x-subscription-token": key}


def _cut(text: str, words: int, characters: int) -> str:
    """Whole words from the beginning."""
    cut = " ".join(text.split()[:words])
    return cut if len(cut) <= characters else cut[: characters + 1].rsplit(" ", 1)[0][:characters]
