"""Which kind of base suits a size, and which way through it suits a query.

The figures behind every constant are in benchmarks/README.md, "Dense index". Costs are microseconds of one
thread of an AVX-512 machine; only their ratios decide, and those differ little between machines.
"""

from dataclasses import asdict, dataclass
from typing import Literal, Self

from kb.types import RECALL

# Up to here an exact scan takes less than a millisecond, and is exact.
FLAT_UNTIL = 10_000
# From here the graph saves more time a query than its building costs; below, the codes are scanned.
GRAPH_FROM = 40_000

# HNSW's links a node and beam while building, and its codes' bits: 4 bits need half as much beam again,
# 8 a tenth more time (benchmarks/README.md, "Dense index").
LINKS = 32
BUILD_BEAM = 200
# A graph keeps its removed nodes as way marks; past this share it is built anew without them.
WAY_MARKS = 0.2

# No effort is less than this, whatever the trials say: in a collection full of copies every question made of
# its rows is an easy one, and people's are not. The beam grows with the base as the walk does.
_LEAST_REFINE = {10: 40, 100: 250}
_LEAST_BEAM = {10: 104, 100: 300}
# These are for RECALL. For another target they follow what real questions needed, by powers of the share
# that may be missed: a tenth of it takes 4 times the beam and 1.6 times the codes (benchmarks/README.md,
# "Targets").
_BEAM_POWER, _REFINE_POWER = 0.6, 0.2

_ROW = 2.3  # one stored vector read and scored
_CODE = 0.0125  # one code scored in a scan of all
_CODE_PICKED = 0.025  # one code scored among others that are passed over
_PASSED = 0.001  # one code passed over
_STEP = 3.2  # one node of the beam, its neighbours scored

Way = Literal["rows", "codes", "graph"]


@dataclass(frozen=True, slots=True)
class Effort:
    """What a base needs to keep its recall, found out by trying when it is built.

    recall: the target that these reach, found out on a base of `rows`. refine_10, refine_100: how many of a
    code scan's best are scored again by their stored vectors. beam_10, beam_100: HNSW's efSearch for the
    best 10 and 100.
    """

    recall: float
    rows: int
    refine_10: int
    refine_100: int
    beam_10: int = 0
    beam_100: int = 0

    @classmethod
    def read(cls, stored: dict[str, float]) -> Self:
        """As `stored` wrote it."""
        return cls(**stored)  # type: ignore[arg-type]

    def stored(self) -> dict[str, float]:
        """For a manifest."""
        return asdict(self)

    def refine(self, k: int) -> int:
        """Candidates of a code scan for the best k."""
        return _between(k, self.refine_10, self.refine_100)

    def beam(self, k: int, share: float = 1.0) -> int:
        """efSearch for the best k among a share of all, which are about the best k / share of all."""
        return _between(round(k / share), self.beam_10, self.beam_100)


def way(total: int, kept: int, k: int, effort: Effort, *, graph: bool) -> Way:
    """The cheapest way to the best k of `kept` among `total` rows. Only "rows" is exact."""
    refined = _ROW * min(kept, effort.refine(k))
    picked = _CODE * total if kept == total else _PASSED * total + _CODE_PICKED * kept
    costs: dict[Way, float] = {"rows": _ROW * kept, "codes": picked + refined}
    if graph:
        costs["graph"] = _STEP * effort.beam(k, kept / total) + _ROW * graph_refine(k)
    return min(costs, key=costs.__getitem__)


def least_refine(k: int, recall: float) -> int:
    """The fewest candidates of a code scan for the best k, 10 or 100, at a recall target."""
    return round(_LEAST_REFINE[k] * _harder(recall, _REFINE_POWER))


def least_beam(k: int, rows: int, recall: float) -> int:
    """The narrowest beam for the best k, 10 or 100, of so many rows, at a recall target."""
    return int(_LEAST_BEAM[k] * max(1.0, rows / 100_000) ** 0.35 * _harder(recall, _BEAM_POWER))


def graph_refine(k: int) -> int:
    """Candidates of the graph that are scored again: its 6-bit codes misplace few, and not far."""
    return k + max(10, k // 4)


def _harder(recall: float, power: float) -> float:
    """How many times the effort for RECALL another target takes."""
    return float(((1 - RECALL) / (1 - recall)) ** power)


def _between(k: int, at_10: int, at_100: int) -> int:
    """On the line through both measured points, but never fewer than are asked for; below 10 as at 10."""
    return max(k, at_10 + max(0, round((k - 10) * (at_100 - at_10) / 90)))
