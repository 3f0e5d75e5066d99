"""The face of the library, and what importing it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import kb

HEAVY = [
    "torch",
    "sentence_transformers",
    "transformers",
    "faiss",
    "fastapi",
    "sqlalchemy",
    "alembic",
    "onnxruntime",
    "openvino",
    "tantivy",
    "gcld3",
    "tokenizers",
    "pypdfium2",
    "openpyxl",
    "uvicorn",
    "mcp",
    "httpx2",
]


@pytest.mark.parametrize(
    "module", ["kb", "kb.cli", "kb.types", "kb.errors", "kb.protocols", "kb.remote.listing", "kb.web.guard"]
)
def test_importing_is_light(module: str) -> None:
    """Nothing heavy is imported until it is used."""
    code = f"import sys, {module}; print(*({HEAVY!r} & sys.modules.keys()))".replace("[", "{").replace(
        "]", "}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_a_server_loads_the_mcp_sdk_when_it_is_first_asked() -> None:
    """It takes as long to import as the rest of a start."""
    code = "import sys, api.app; print('fastapi' in sys.modules, 'mcp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "False"]


def test_the_face_is_what_is_promised() -> None:
    """`__all__` is these names, every one resolves, and nothing else does by accident."""
    assert kb.__all__ == [
        "ChunkingPolicy",
        "Hit",
        "IngestReport",
        "KbError",
        "KnowledgeBase",
        "Rerank",
        "SearchResult",
        "Service",
        "Settings",
        "open",
        "parse_filter",
    ]
    for name in kb.__all__:
        assert getattr(kb, name).__module__.startswith("kb.")
        assert getattr(kb, name).__name__ == name
    with pytest.raises(AttributeError, match="missing"):
        kb.missing  # noqa: B018


def test_each_heavy_library_has_one_home() -> None:
    """Each is imported by the file that owns it, tantivy by two."""
    homes: dict[str, set[str]] = {
        name: set()
        for name in ("faiss", "tantivy", "torch", "sentence_transformers", "onnxruntime", "openvino", "gcld3")
    }
    root = Path(kb.__file__).parent
    for path in root.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from") and words[1].split(".")[0] in homes:
                homes[words[1].split(".")[0]].add(path.relative_to(root).as_posix())
    assert homes == {
        "faiss": {"index/segment.py"},
        "tantivy": {"index/analysis.py", "index/lexical.py"},
        "gcld3": {"language.py"},
        "torch": {"embed/export.py"},
        "sentence_transformers": {"embed/export.py"},
        "onnxruntime": {"embed/runtime.py"},
        "openvino": {"embed/openvino_graph.py"},
    }
