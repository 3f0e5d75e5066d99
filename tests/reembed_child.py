"""Run by test_reembed: another model for a knowledge base under fake embedders, killed at a given moment.

python reembed_child.py FAKES DATA_DIR MOMENT; MOMENT: the nth batch to embed, or before or after the switch.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kb.catalog.models import Models
from kb.embed.loaded import LoadedModels
from kb.service import Service
from kb.settings import Settings


def main(fakes_path: str, data: str, moment: str) -> None:
    """Reembed `kb`; the process kills itself at the moment."""
    spec = importlib.util.spec_from_file_location("kb_test_fakes", fakes_path)
    assert spec is not None
    assert spec.loader is not None
    fakes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fakes)
    other, batches, switch = fakes.OtherEmbedder(), 0, Models.switch

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Mortal(fakes.OtherEmbedder):  # type: ignore[misc, name-defined]
        def embed_passages(self, texts: Any) -> Any:
            nonlocal batches
            batches += 1
            if str(batches) == moment:
                kill()
            return other.bags(texts)

    def switched(self: Any, *given: Any) -> bool:
        if moment == "before":
            kill()
        done = switch(self, *given)
        if moment == "after":
            kill()
        return done

    Models.switch = switched  # type: ignore[method-assign]
    embedders = {"words": fakes.WordEmbedder(), "other": Mortal()}
    LoadedModels.embedder = lambda self, model: embedders[model]  # type: ignore[method-assign, assignment]
    with Service(Settings(Path(data), f"sqlite:///{data}/catalog.db")) as service:
        service.reembed("kb", "other")


if __name__ == "__main__":
    main(*sys.argv[1:])
