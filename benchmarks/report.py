"""What a run prints and keeps: the table, the ratios, the plot, the machine."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

FIGURES = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "queries_per_second_at_8": "queries/s at 8",
    "documents_per_second": "documents/s in",
    "cold_start_s": "cold start s",
    "memory_mb": "memory MB",
}

# What a run is judged by: the ratio, and the least or the most it may be.
BOUNDS = {
    "p50 / HTTP limit": ("at most", 1.1),
    "hybrid p50 / HTTP limit": ("at most", 1.3),
    "throughput at 8 / session in batches": ("at least", 0.9),
}


def table(result: dict[str, Any]) -> str:
    """The columns as a Markdown table, and the ratios below."""
    lines = ["| | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for label, column in result["columns"].items():
        lines.append(f"| {label} | " + " | ".join(str(column.get(name, "–")) for name in FIGURES) + " |")
    lines.append("")
    for name, value in result["ratios"].items():
        lines.append(f"{name}: {value}" + (" ({} {})".format(*BOUNDS[name]) if name in BOUNDS else ""))
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """One small bar chart per figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(FIGURES), figsize=(3 * len(FIGURES), 2.6), layout="constrained")
    for axis, (name, title) in zip(axes, FIGURES.items(), strict=True):
        shown = {label: column[name] for label, column in result["columns"].items() if name in column}
        colours = ["#1f5fa8" if label.startswith("kb") else "#b9bec6" for label in shown]
        bars = axis.barh(list(shown), list(shown.values()), color=colours)
        axis.bar_label(bars, padding=2, fontsize=7)
        axis.set_title(title, fontsize=9)
        axis.invert_yaxis()
        axis.margins(x=0.25)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def ratios(columns: dict[str, dict[str, float]]) -> dict[str, float]:
    """This service against the limits; `BOUNDS` says what some of them may be."""
    mine, http, bare = columns["kb"], columns["HTTP limit"], columns["in-process limit"]
    loaded = mine["queries_per_second_at_8"]
    found = {
        "p50 / HTTP limit": mine["p50_ms"] / http["p50_ms"],
        "hybrid p50 / HTTP limit": columns["kb, hybrid"]["p50_ms"] / http["p50_ms"],
        "HTTP limit p50 / in-process limit": http["p50_ms"] / bare["p50_ms"],
        "throughput at 8 / HTTP limit": loaded / http["queries_per_second_at_8"],
        "throughput at 8 / session in batches": loaded
        / columns["session in batches"]["queries_per_second_at_8"],
        "ingest / in-process limit": mine["documents_per_second"] / bare["documents_per_second"],
    }
    return {name: round(ratio, 3) for name, ratio in found.items()}


def machine() -> dict[str, Any]:
    """The processor as the system names it, its cores, and what decides the speed of a matrix product."""
    name = platform.processor() or platform.machine()
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        text = info.read_text()
        name = next(
            (line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), name
        )
        flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in flags]
    return {"cpu": name, "cores": os.cpu_count(), "features": found, "python": platform.python_version()}


def commit() -> str:
    """The revision measured; -dirty where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return done.stdout.strip()
