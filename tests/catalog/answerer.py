"""A process that makes a response: python answerer.py URL ID

For each line that comes in it streams one more event and tells whether it is to stop; `end` ends it.
"""

import sys

from kb.catalog import Catalog
from kb.catalog.responses import StoredResponse

UNTIL = "2026-01-01T00:01:00.000Z"


def main(url: str, response_id: str) -> None:
    """Until it is to stop, is told to end, or is killed."""
    kept = Catalog(url).responses
    body = {"id": response_id, "status": "queued", "output": []}
    kept.create(StoredResponse(response_id, None, None, "now", body, [], expires_at=UNTIL))
    events: list[dict[str, object]] = []
    print("made", flush=True)
    for line in sys.stdin:
        events.append({"type": "response.output_text.delta", "sequence_number": len(events), "delta": line})
        if line == "end\n":
            kept.finish(response_id, {**body, "status": "completed"}, events)
        else:
            kept.append_events(response_id, events[-1:])
        print(kept.touch(response_id, UNTIL), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
