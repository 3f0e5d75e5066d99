"""The summary of a soak, as Markdown."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.soak.__main__ import Run


def summary(run: "Run", clients: int, kbs: int, workers: int) -> str:
    """Rates and latencies by operation, memory at each quarter, disturbances, counts, violations."""
    seconds = run.end - run.start
    ledger = run.ledger
    lines = [
        f"{clients} clients, {kbs} knowledge bases, {workers} server processes, {seconds:.0f} s",
        "",
        "| | answers | a second | p50 ms | p99 ms | longest ms |",
        "|---|---|---|---|---|---|",
    ]
    for operation in sorted(ledger.latencies):
        spent = np.array(ledger.latencies[operation])
        p50, p99 = np.percentile(spent, [50, 99])
        cells = (len(spent), f"{len(spent) / seconds:.1f}", f"{p50:.0f}", f"{p99:.0f}", f"{spent.max():.0f}")
        lines.append(f"| {operation} | " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| memory, MB | at 25 % | 50 % | 75 % | 100 % |", "|---|---|---|---|---|"]
    quarters = [_at(run, part / 4) for part in (1, 2, 3, 4)]
    for label, name in (("of all, shared pages once (PSS)", "pss"), ("largest process (RSS)", "largest")):
        lines.append(f"| {label} | " + " | ".join(f"{getattr(one, name):.0f}" for one in quarters) + " |")
    lines += ["", f"growth over the undisturbed half (PSS, regression): {growth_mb(run):+.1f} MB", ""]
    lines += [f"- {how} at {at - run.start:.0f} s: {end - at:.1f} s" for how, at, end in run.calm.windows]
    lines += [f"- {what}: {count}" for what, count in sorted(ledger.counts.items())]
    lines += ["", f"violations: {ledger.violated}", *(f"- {what}" for what in ledger.violations)]
    return "\n".join(lines)


def growth_mb(run: "Run") -> float:
    """What the regression line through the memory of the undisturbed half gains from its start to its end."""
    middle = max([(run.start + run.end) / 2, *(end for _, _, end in run.calm.windows)])
    late = [sample for sample in run.memory if sample.at > middle]
    if len(late) < 2:
        return 0.0
    slope = np.polyfit([sample.at for sample in late], [sample.pss for sample in late], 1)[0]
    return float(slope * (run.end - middle))


def _at(run: "Run", part: float) -> object:
    moment = run.start + part * (run.end - run.start)
    return min(run.memory, key=lambda sample: abs(sample.at - moment))
