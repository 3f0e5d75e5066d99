"""A model is looked for on this machine and nowhere else, whatever it is called."""

import os
import subprocess
import sys

import pytest
from inside import Site

LOOK = """
import sys
from kb.embed.folder import locate
from kb.errors import ModelUnavailable
try:
    locate(sys.argv[1])
except ModelUnavailable as error:
    print(error)
"""
# The same library, asked without that limit.
FETCH = """
import sys
from huggingface_hub import snapshot_download
try:
    snapshot_download(sys.argv[1], max_workers=1)
except Exception as error:
    print(error)
"""


def run(script: str, name: str, canary: Site) -> str:
    """What a script says, on a machine that may ask and to which the canary is where models come from."""
    there = f"http://127.0.0.1:{canary.port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", script, name],
        env={**kept, "HF_ENDPOINT": there, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize(
    "name", ["somebody/some-model", "http://127.0.0.1:{port}/model", "https://[::1]:{port}/"]
)
def test_no_model_is_fetched(name: str, canary: Site) -> None:
    """By a name of a hub, or by an address."""
    said = run(LOOK, name.format(port=canary.port), canary)
    assert "on this machine" in said
    assert canary.hits == 0


def test_the_canary_sings(canary: Site) -> None:
    """Where the same name may be asked for."""
    run(FETCH, "somebody/some-model", canary)
    assert canary.hits > 0
