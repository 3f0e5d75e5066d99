"""Documents per second into an empty index: the session alone, the service, and torch."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss

import kb
from kb.embed.folder import DEFAULT_MODEL, locate
from kb.embed.runtime import OnnxEmbedder
from kb.evaluate import EntryParser
from kb.ingest.source import Blob
from kb.types import ChunkingPolicy

_TORCH = """
import sys, json, time, faiss
from sentence_transformers import SentenceTransformer
texts = json.load(sys.stdin)
model = SentenceTransformer(sys.argv[1], device="cpu")
model.encode(texts[:8])
start = time.perf_counter()
index = faiss.IndexFlatIP(model.encode("x").shape[0])
index.add(model.encode(texts, normalize_embeddings=True))
print(time.perf_counter() - start)
"""


def ingest_rates(model: Path, lines: list[bytes]) -> dict[str, float]:
    """By column. model: folder of the exported model; lines: of a corpus, whole documents."""
    documents = [json.loads(line) for line in lines]
    texts = [f"{one['title']} {one['text']}" for one in documents]
    blobs = [Blob(one["_id"], line) for one, line in zip(documents, lines, strict=True)]
    seconds = {
        "in-process limit": _limit(model, texts),
        "kb": _service(model, blobs),
        "afternoon service": _torch(texts),
    }
    return {label: round(len(lines) / spent, 2) for label, spent in seconds.items()}


def _limit(model: Path, texts: list[str]) -> float:
    embedder = OnnxEmbedder(model)
    start = time.perf_counter()
    index = faiss.IndexFlatIP(embedder.dim)
    for at in range(0, len(texts), 256):
        index.add(embedder.embed_passages(texts[at : at + 256]))
    return time.perf_counter() - start


def _service(model: Path, blobs: list[Blob]) -> float:
    with tempfile.TemporaryDirectory() as fresh:
        (Path(fresh) / "models").symlink_to(model.parent)
        with kb.open(fresh) as service:
            base = service.create_knowledge_base("rate", chunking=ChunkingPolicy(None))
            start = time.perf_counter()
            service.level(base, "corpus", blobs, EntryParser())
            return time.perf_counter() - start


def _torch(texts: list[str]) -> float:
    command = [sys.executable, "-c", _TORCH, str(locate(DEFAULT_MODEL))]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    return float(done.stdout)
