"""A gateway over scripted endpoints, its ledger, and what came of a call through it."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kb.catalog import Catalog
from kb.catalog.calls import Call
from kb.catalog.paging import Page
from kb.gateway.core import Gateway
from kb.gateway.endpoints import Endpoint, Endpoints
from kb.gateway.events import Ended, ModelCall, Part, TextDelta
from kb.metering.ledger import Ledger
from kb.models.registry import ModelCatalog

MODEL = "gpt-4.1-mini"


@dataclass
class Outcome:
    """What the caller got, and the rows that it left in the ledger, oldest first."""

    parts: list[Part] = field(default_factory=list)
    ended: Ended | None = None
    error: Exception | None = None
    rows: list[Call] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the model said."""
        return "".join(part.text for part in self.parts if isinstance(part, TextDelta))

    @property
    def ends(self) -> list[tuple[str, str | None]]:
        """How each try ended: its status and its error."""
        return [(row.status, row.error) for row in self.rows]

    @property
    def tokens(self) -> list[tuple[int, int, bool]]:
        """What each try is taken to have cost: input, output, whether that is estimated."""
        return [(row.input, row.output, row.estimated) for row in self.rows]


class Desk:
    """Asks, each time through a gateway of its own, and sees to it that none leaves anything behind."""

    def __init__(self, catalog: Catalog) -> None:
        self.models = ModelCatalog.read()
        self.ledger = Ledger(catalog.calls, catalog.usage, self.models)

    def rows(self) -> list[Call]:
        """All of the ledger, oldest first."""
        return list(self.ledger.calls(Page(100, newest_first=False)).items)

    def call(self, text: str = "How is the pump started?", **more: Any) -> ModelCall:
        """A call of 1,000 counted tokens."""
        items = [{"role": "user", "content": text}]
        given = {"items": items, "input_tokens": 1000, "max_output_tokens": 100}
        return ModelCall(**{"model": self.models.get(MODEL), **given, **more})

    def ask(
        self,
        *endpoints: Endpoint,
        call: ModelCall | None = None,
        leave_after: int | None = None,
        cancel_when: Callable[[], object] | None = None,
    ) -> Outcome:
        """One call. leave_after: so many parts. cancel_when: when it returns the caller is cancelled."""
        before = len(self.rows())
        outcome = Outcome()

        async def talk(gateway: Gateway) -> None:
            async with gateway.call(call or self.call()) as answer:
                async for event in answer:
                    if isinstance(event, Ended):
                        outcome.ended = event
                    else:
                        outcome.parts.append(event)
                    if len(outcome.parts) == leave_after:
                        return

        async def main(gateway: Gateway) -> None:
            talking = asyncio.ensure_future(talk(gateway))
            if cancel_when is not None:
                await asyncio.to_thread(cancel_when)
                talking.cancel()
            (error,) = await asyncio.gather(talking, return_exceptions=True)
            outcome.error = error

        self.run(main, *endpoints)
        outcome.rows = self.rows()[before:]
        return outcome

    def run(self, main: Callable[[Gateway], Awaitable[None]], *endpoints: Endpoint) -> None:
        """Anything with a gateway, which leaves no task and no row open."""

        async def inside() -> None:
            gateway = Gateway(Endpoints(endpoints), self.ledger, b"secret")
            try:
                await main(gateway)
            finally:
                await gateway.close()
            # Generators of httpx that nobody reads to their end are closed by the loop in its next turns.
            for _ in range(10):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(inside())
        assert [row.id for row in self.rows() if row.status == "open"] == []


@pytest.fixture
def desk(blank_catalog: Path, tmp_path: Path) -> Iterator[Desk]:
    """Over an empty ledger."""
    shutil.copy(blank_catalog, tmp_path)
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    yield Desk(catalog)
    catalog.close()


@pytest.fixture(params=["responses", "chat"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of endpoint."""
    return str(request.param)


@pytest.fixture
def at(kind: str) -> Callable[..., Endpoint]:
    """Makes endpoints of a kind."""

    def make(url: str, name: str = "first", **more: Any) -> Endpoint:
        given = {"name": name, "base_url": url, "kind": kind, "models": [MODEL], "total_seconds": 30}
        return Endpoint.model_validate({**given, **more})

    return make
