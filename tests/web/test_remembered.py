"""Answers of engines are kept for some minutes."""

import asyncio

import pytest

from kb.errors import RemoteFailed
from kb.types import ANYWHERE, Domains, UserLocation, WebHit
from kb.web import remembered as room
from kb.web.remembered import FRESH_SECONDS, RememberedSearch


class Engine:
    """Answers with what it was asked, or fails. asked: how often."""

    asked = 0
    fails = False

    async def search(
        self, query: str, *, count: int, domains: Domains, location: UserLocation | None = None
    ) -> list[WebHit]:
        """One hit, another each time."""
        self.asked += 1
        if self.fails:
            raise RemoteFailed("gone")
        return [WebHit(f"http://a.example/{self.asked}", query, "")]


def test_an_answer_is_given_again_while_it_is_fresh() -> None:
    """To the same question alone: other domains or another place are another one."""
    engine, now = Engine(), [0.0]
    search = RememberedSearch(engine, lambda: now[0])

    def ask(query: str, domains: Domains = ANYWHERE, location: UserLocation | None = None) -> str:
        (hit,) = asyncio.run(search.search(query, count=6, domains=domains, location=location))
        return hit.url[-1]

    assert [ask("a"), ask("a"), ask("b"), ask("a")] == ["1", "1", "2", "1"]
    assert ask("a", Domains(allowed=("a.example",))) == "3"
    assert ask("a", location=UserLocation("DE")) == "4"
    now[0] = FRESH_SECONDS - 1
    assert ask("a") == "1"
    now[0] = FRESH_SECONDS
    assert [ask("a"), ask("a")] == ["5", "5"]


def test_a_failure_is_asked_again() -> None:
    """It may have passed."""
    engine = Engine()
    engine.fails = True
    search = RememberedSearch(engine)
    for _ in range(2):
        with pytest.raises(RemoteFailed):
            asyncio.run(search.search("a", count=6, domains=ANYWHERE))
    assert engine.asked == 2


def test_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory is bounded."""
    monkeypatch.setattr(room, "_MOST", 2)
    engine = Engine()
    search = RememberedSearch(engine)
    for query in ("a", "b", "c", "c", "b", "a"):
        asyncio.run(search.search(query, count=6, domains=ANYWHERE))
    assert engine.asked == 4
