"""A short soak is green; with a bug seeded into the server it is red, and says why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALTERED = Path(__file__).with_name("altered_server.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc and kills process groups"),
]


def soak(models: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one under the session's models."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--models", str(models), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_nothing_acknowledged_is_lost(models: Path) -> None:
    """Eight clients on two processes, through a kill, a stop and two kills of everything.

    Bases of the dense index are rewritten all the while, and adopted by the other process.
    """
    options = ("--seconds", "20", "--clients", "8", "--workers", "2", "--kbs", "4")
    done = soak(models, *options, "--server", str(ALTERED), "eager-checkpoints")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations: 0" in done.stdout
    assert done.stdout.count("kill -9 at") == 2


@pytest.mark.parametrize(
    ("bug", "seen"),
    [
        ("wrong-index", "a search in kb"),
        ("deaf-process", "and dense does not find it"),
        ("lost-deletion", "was deleted, and lexical finds it"),
        ("slipped-span", "the hit said"),
    ],
)
def test_a_bug_is_found(bug: str, seen: str, models: Path) -> None:
    """The violation names what went wrong."""
    options = ("--seconds", "8", "--clients", "8", "--workers", "2", "--kbs", "4", "--undisturbed")
    done = soak(models, *options, "--server", str(ALTERED), bug)
    assert done.returncode == 1, done.stdout
    assert seen in done.stdout
