"""What `collapse_duplicates` takes for one passage, over a large collection of short ones.

    python -m benchmarks.duplicates [FILE.jsonl.gz] [--show 60]

Walks the passages in order, as a search walks its ranking, and counts those that collapse: by the measure of
kb/search/duplicates.py, and by the usual one, nine tenths or four fifths of the three-word runs in common
(Jaccard), with the same numbers. `--show` prints as many pairs of each, drawn with seed 1, with what they
do not have in common, to be judged by eye. The default collection is ../shared/data/scale.
"""

import argparse
import gzip
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path

from kb.search.duplicates import Kept, wording

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "scale" / "passages-100k.jsonl.gz"

Pair = tuple[int, int]


def by_ends(texts: Sequence[str]) -> Iterator[Pair]:
    """Pairs of a kept passage and one that collapses into it, by the measure of the product."""
    kept = Kept()
    for place, text in enumerate(texts):
        said = wording(text)
        twin = kept.first_like(said)
        if twin is None:
            kept.add(said, place)
        else:
            yield twin, place


def by_runs(texts: Sequence[str], share: float) -> Iterator[Pair]:
    """The same by shared runs of three words."""
    kept: dict[int, tuple[tuple[str, ...], frozenset[int]]] = {}
    having: defaultdict[int, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        words = re.findall(r"\w+", text.casefold())
        runs = frozenset(hash(tuple(words[at : at + 3])) for at in range(max(1, len(words) - 2)))
        numbers = tuple(word for word in words if not word.isalpha())
        # Sets alike to this share have one of the first few in common, in any fixed order.
        first = sorted(runs)[: int((1 - share) * len(runs)) + 1]
        for twin in sorted({one for run in first for one in having[run]}):
            both = len(runs & kept[twin][1])
            if numbers == kept[twin][0] and both >= share * (len(runs) + len(kept[twin][1]) - both):
                yield twin, place
                break
        else:
            kept[place] = numbers, runs
            for run in first:
                having[run].append(place)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--show", type=int, default=0)
    arguments = parser.parse_args()
    with gzip.open(arguments.file, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    letters = [wording(text).letters for text in texts]
    print("| measure | collapsed | other letters | letters replaced | µs of a core each |")
    print("|---|---|---|---|---|")
    for name, measure in (
        ("one is the other, a tenth more at its ends", by_ends),
        ("runs of three words, 0.9", lambda texts: by_runs(texts, 0.9)),
        ("runs of three words, 0.8", lambda texts: by_runs(texts, 0.8)),
    ):
        start = time.process_time()
        pairs = list(measure(texts))
        each = (time.process_time() - start) / len(texts) * 1e6
        near = [(one, other) for one, other in pairs if letters[one] != letters[other]]
        replaced = [pair for pair in near if letters[pair[0]] not in letters[pair[1]] not in letters[pair[0]]]
        print(f"| {name} | {len(pairs)} | {len(near)} | {len(replaced)} | {each:.0f} |", flush=True)
        for one, other in random.Random(1).sample(near, min(arguments.show, len(near))):
            words = [re.findall(r"\w+", texts[at].casefold()) for at in (one, other)]
            steps = SequenceMatcher(None, *words, autojunk=False).get_opcodes()
            changed = [(words[0][a:b], words[1][c:d]) for kind, a, b, c, d in steps if kind != "equal"]
            print(
                "   ", "; ".join(f"{' '.join(old) or '-'} / {' '.join(new) or '-'}" for old, new in changed)
            )


if __name__ == "__main__":
    main()
