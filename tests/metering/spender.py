"""A process that makes calls of 1 credit each: python spender.py URL KEY THREADS [stay]

Prints the id of each call that was let in. Settles them, unless it is to stay: then it waits to be killed.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from kb.catalog import Catalog
from kb.errors import InsufficientCredits
from kb.metering.ledger import Intent, Ledger
from kb.metering.rates import Usage
from kb.models.registry import Model, ModelCatalog, Rates

ONE = Model(
    id="one",
    context_window=100_000,
    max_output_tokens=1_000,
    input=("text",),
    output=("text",),
    tools=False,
    endpoints=("chat",),
    tokenizer="o200k_base",
    credits=Rates.model_validate({"cache_hit": "0", "standard": {"input": "1", "output": "1"}}),
)


def main(url: str, key: str, threads: int, *, stay: bool) -> None:
    """All at once, as soon as a line comes in."""
    catalog = Catalog(url)
    ledger = Ledger(catalog.calls, catalog.usage, ModelCatalog({"one": ONE}))
    together = threading.Barrier(threads)

    def call(_: int) -> str | None:
        together.wait()
        try:
            made = ledger.reserve(Intent(ONE, "standard", "test", Usage(600, 400), 60.0, key_id=key))
        except InsufficientCredits:
            return None
        if not stay:
            ledger.settle(made.call_id, status="completed", usage=Usage(600, 400), tier="standard")
        return made.call_id

    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(threads) as at_once:
        for made in at_once.map(call, range(threads)):
            if made:
                print(made, flush=True)
    print("done", flush=True)
    if stay:
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), stay="stay" in sys.argv[4:])
