"""An OpenAI-compatible endpoint on loopback that answers by a script, and remembers what it was asked.

Every fault is one of the socket. In tests it is the fixture `upstream`, for benchmarks `python -m upstream`.
"""

from upstream.answers import Answer, Call, Cited, Used
from upstream.server import Head, Pause, Reply, Request, Step, Then, Upstream, deaf, refusing

__all__ = [
    "Answer",
    "Call",
    "Cited",
    "Head",
    "Pause",
    "Reply",
    "Request",
    "Step",
    "Then",
    "Upstream",
    "Used",
    "deaf",
    "refusing",
]
