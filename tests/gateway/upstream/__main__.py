"""Paced answers on a port until the standard input ends: a process of its own for benchmarks."""

import argparse
from itertools import cycle

from upstream import Answer, Upstream, Used
from upstream.replies import obeys, paced


def main() -> None:
    """Serve paced answers on a port until the standard input ends, as a process of its own for benchmarks."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--deltas", type=int, default=64)
    parser.add_argument("--first-ms", type=float, default=5.0)
    parser.add_argument("--between-ms", type=float, default=0.0)
    parser.add_argument("--obeys", action="store_true", help="calls and says what the question says")
    given = parser.parse_args()
    pace = (given.first_ms / 1000, given.between_ms / 1000)
    words = cycle(("The valve ", "opens at ", "three bar, ", "then the pump ", "starts. "))
    answer = Answer(tuple(next(words) for _ in range(given.deltas)), used=Used(100, given.deltas))
    upstream = Upstream(obeys(*pace) if given.obeys else paced(answer, *pace), port=given.port)
    try:
        while input():
            pass
    except EOFError:
        upstream.close()


if __name__ == "__main__":
    main()
