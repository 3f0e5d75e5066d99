"""The alternative: what an afternoon gives. FastAPI, sentence-transformers on torch, a flat FAISS index."""

import os
from pathlib import Path

import faiss
import numpy as np
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(os.environ["BENCH_MODEL"], device="cpu")
index = faiss.IndexFlatIP(model.encode("x").shape[0])
index.add(np.load(os.environ["BENCH_VECTORS"]))
texts = Path(os.environ["BENCH_TEXTS"]).read_text(encoding="utf-8").split("\0")


@app.post("/search")
def search(body: dict) -> dict:
    """Embed, scan, answer."""
    vector = model.encode([body["query"]], normalize_embeddings=True)
    scores, rows = index.search(vector, body["top_k"])
    found = zip(rows[0], scores[0], strict=True)
    return {"hits": [{"row": int(row), "score": float(score), "text": texts[row]} for row, score in found]}
