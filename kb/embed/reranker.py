"""Runs an exported CrossEncoder: a query and a passage, read together, to one score."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding

from kb.embed.folder import ExportedReranker
from kb.embed.runtime import batches, padded, session, tokenizer_of
from kb.errors import ModelUnavailable
from kb.types import Vectors

# Tokens of one batch, padding included: what a deadline may be overshot by. Larger ones gained nothing
# that could be told from noise (benchmarks/README.md, "Reranking").
BATCH_TOKENS = 512
_SAME_SCORE = 1e-3
_SHORT_PROBE = 200


class OnnxReranker:
    """A `Reranker` over the graph that `kb.embed.export` made of a CrossEncoder.

    Pairs are cut as sentence-transformers cuts them: the longer of the two first, at the model's limit.
    Thread-safe. threads: cores one call may use; 0 lets the runtime take all.
    Raises ModelUnavailable if the graph is damaged or does not give the CrossEncoder's own scores here.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        self._model = ExportedReranker.read(folder)
        self._tokenizer = tokenizer_of(folder, self._model.tokenizer_sha256)
        self._tokenizer.enable_truncation(self._model.max_sequence, strategy="longest_first")
        self._session = session(folder, self._model.graph_sha256, threads)
        # The short ones, as an embedder does; an export tries all.
        pairs = self._model.probe_pairs
        self.verify([at for at, pair in enumerate(pairs) if len("".join(pair)) < _SHORT_PROBE])

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    def batches(self, query: str, passages: Sequence[str]) -> list[list[int]]:
        return batches([len(pair.ids) for pair in self._encoded(query, passages)], BATCH_TOKENS)

    def score(self, query: str, passages: Sequence[str]) -> Vectors:
        encoded = self._encoded(query, passages)
        scores = np.empty(len(passages), np.float32)
        for rows in batches([len(pair.ids) for pair in encoded], BATCH_TOKENS):
            feed = padded([encoded[row] for row in rows], self._model.pad_id)
            (some,) = self._session.run(["scores"], {name: feed[name] for name in self._model.inputs})
            scores[rows] = some
        return scores

    def verify(self, probes: Sequence[int]) -> None:
        """Compare with what the CrossEncoder itself gave for its probe pairs. Raises ModelUnavailable."""
        pairs = [self._model.probe_pairs[at] for at in probes]
        made = np.concatenate([self.score(query, [passage]) for query, passage in pairs])
        expected = np.asarray(self._model.probe_scores, np.float32)[list(probes)]
        # Not "> limit": a score that is no number must not pass.
        if not (np.abs(made - expected) <= _SAME_SCORE * np.maximum(1, np.abs(expected))).all():
            raise ModelUnavailable(
                f"the exported graph differs from the model: scores {made.tolist()}, not {expected.tolist()}"
            )

    def _encoded(self, query: str, passages: Sequence[str]) -> list[Encoding]:
        return list(self._tokenizer.encode_batch([(query, passage) for passage in passages]))
