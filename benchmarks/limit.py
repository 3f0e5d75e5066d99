"""The limit: the embedding session and an exact FAISS scan, with nothing around them but raw ASGI."""

import json
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from kb.embed.runtime import OnnxEmbedder


class Limit:
    """Both parts of a search, called one after the other."""

    def __init__(self, model: Path, vectors: Path) -> None:
        self.embedder = OnnxEmbedder(model)
        self.index = faiss.IndexFlatIP(self.embedder.dim)
        self.index.add(np.load(vectors))

    def search(self, query: str, k: int) -> tuple[list[int], list[float]]:
        """Rows and scores of the k best."""
        scores, rows = self.index.search(self.embedder.embed_queries([query]), k)
        return rows[0].tolist(), scores[0].tolist()


def app() -> Any:
    """POST a query, get rows, scores and texts: the thinnest ASGI application that does the work."""
    limit = Limit(Path(os.environ["BENCH_FOLDER"]), Path(os.environ["BENCH_VECTORS"]))
    texts = Path(os.environ["BENCH_TEXTS"]).read_text(encoding="utf-8").split("\0")

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked = json.loads((await receive())["body"] or b"{}")
        rows, scores = limit.search(asked["query"], asked["top_k"])
        hits = [
            {"row": row, "score": score, "text": texts[row]} for row, score in zip(rows, scores, strict=True)
        ]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"hits": hits}).encode()})

    return serve
