"""The alternative: what an afternoon gives. FastAPI, sentence-transformers on torch, a flat FAISS index."""

import os

import faiss
import numpy as np
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(os.environ["BENCH_MODEL"], device="cpu")
index = faiss.IndexFlatIP(model.encode("x").shape[0])
index.add(np.load(os.environ["BENCH_VECTORS"]))
texts = open(os.environ["BENCH_TEXTS"], encoding="utf-8").read().split("\0")


@app.post("/search")
def search(body: dict) -> dict:
    vector = model.encode([body["query"]], normalize_embeddings=True)
    scores, rows = index.search(vector, body["top_k"])
    return {"hits": [{"row": int(r), "score": float(s), "text": texts[r]} for r, s in zip(rows[0], scores[0])]}
