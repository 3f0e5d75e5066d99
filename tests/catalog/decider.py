"""A process that says a word and goes on: python decider.py URL APPROVAL yes|no NAME

As soon as a line comes in. Prints what came of each: "said" or "refused", then "goes on" or "late".
"""

import sys

from kb.catalog import Catalog
from kb.catalog.responses import StoredResponse
from kb.errors import AlreadyExists


def main(url: str, approval_id: str, word: str, name: str) -> None:
    """Once."""
    catalog = Catalog(url)
    body = {"id": name, "status": "in_progress", "output": []}
    response = StoredResponse(name, None, "resp_asks", "now", body, [], expires_at="2999")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        catalog.approvals.decide(approval_id, None, approve=word == "yes", reason=name)
    except AlreadyExists:
        print("refused", flush=True)
        return
    print("said", flush=True)
    try:
        catalog.responses.create(response, [approval_id])
    except AlreadyExists:
        print("late", flush=True)
    else:
        print("goes on", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
