"""A question to the web: what an engine finds is read, cut into passages, and the best of them are kept."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kb.content.fence import visible
from kb.errors import KbError
from kb.ingest.chunk import chunk, default_policy
from kb.language import language_of
from kb.protocols import Embedder, WebSearch
from kb.search.duplicates import Kept, wording
from kb.tokens import count_tokens
from kb.types import ANYWHERE, Chunk, Domains, UserLocation, WebHit
from kb.web.domains import admits
from kb.web.guard import shown
from kb.web.page import Pages, WebPage
from kb.web.ranking import Candidate, ranked

MOST_PAGES = 6
"""Read for one question."""

PER_PAGE = 3
"""Passages of one page at the most."""

READ_SECONDS = 20.0
"""After which the pages that are still not read are done without."""

# Chunks of one page that are looked at: its first 12,000 tokens.
_MOST_CHUNKS = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebPassage:
    """What was found: page.text[start:end]."""

    page: WebPage
    start: int
    end: int
    heading: str | None

    @property
    def text(self) -> str:
        """The quote."""
        return self.page.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Unread:
    """A page that was found and could not be read, and why."""

    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Passages, best first, and the pages that gave none for a reason."""

    query: str
    passages: tuple[WebPassage, ...]
    unread: tuple[Unread, ...]


class Research:
    """Web search down to passages. Nothing of it enters a knowledge base.

    embedder: the model that passages are compared by, loaded when it is first asked for.
    """

    def __init__(
        self, engine: WebSearch, pages: Pages, embedder: Callable[[], Embedder], dense_weight: float = 0.5
    ) -> None:
        self._engine, self.pages = engine, pages
        self._embedder, self._dense_weight = embedder, dense_weight

    async def find(
        self,
        query: str,
        budget: int,
        *,
        domains: Domains = ANYWHERE,
        location: UserLocation | None = None,
    ) -> Findings:
        """The passages that answer best, in so many tokens. Raises what the engine does."""
        hits = await self._engine.search(query, count=MOST_PAGES, domains=domains, location=location)
        read, unread = await self._read(hits[:MOST_PAGES])
        # Also where a page of an allowed domain led elsewhere.
        inside = {page.id: page for page in read if admits(domains, page.url)}
        unread += [Unread(page.url, "leads outside of the domains") for page in read if page.id not in inside]
        passages = await asyncio.to_thread(self._best, query, list(inside.values()), budget)
        return Findings(query, passages, tuple(unread))

    async def _read(self, hits: Sequence[WebHit]) -> tuple[list[WebPage], list[Unread]]:
        """All at once; whatever is not there in time is not waited for."""
        tasks = [asyncio.ensure_future(self.pages.read(hit.url)) for hit in hits]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=READ_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
        read: list[WebPage] = []
        unread: list[Unread] = []
        for hit, came in zip(hits, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            match came:
                case WebPage():
                    read.append(came)
                case KbError():
                    log.info("%s was found and cannot be read: %s", shown(hit.url), came)
                    unread.append(Unread(hit.url, str(came)))
                case asyncio.CancelledError():
                    unread.append(Unread(hit.url, f"took longer than {READ_SECONDS:g} s"))
                case _:
                    raise came
        return read, unread

    def _best(self, query: str, pages: Sequence[WebPage], budget: int) -> tuple[WebPassage, ...]:
        places, candidates = [], []
        embedder = self._embedder()
        for number, page in enumerate(pages):
            language = language_of(page.text)
            for part in _chunks(page, embedder):
                places.append(WebPassage(page, part.start, part.end, part.heading))
                candidates.append(Candidate(part.context + places[-1].text, number, language))
        kept, per_page, room = Kept(), Counter[str](), budget
        best: list[WebPassage] = []
        for at in ranked(query, candidates, embedder, self._dense_weight).tolist():
            passage = places[at]
            if per_page[passage.page.id] == PER_PAGE:
                continue
            said, size = wording(passage.text), count_tokens(visible(passage.text))
            if size > room or kept.first_like(said) is not None:
                continue
            kept.add(said, at)
            per_page[passage.page.id] += 1
            room -= size
            best.append(passage)
        return tuple(best)


def _chunks(page: WebPage, embedder: Embedder) -> list[Chunk]:
    policy = default_policy(embedder.max_tokens)
    return chunk(
        page.document, policy, embedder.token_starts, title=page.title, max_tokens=embedder.max_tokens
    )[:_MOST_CHUNKS]
