"""Runs an exported model: in OpenVINO where that is faster, else in ONNX Runtime. Knows nothing of torch."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from kb.embed import openvino_graph
from kb.embed.folder import ExportedModel, sha256_of
from kb.errors import ModelUnavailable
from kb.types import Vectors

# Tokens of one batch in ONNX Runtime, padding included. Larger batches fall out of the cache and gain
# nothing (benchmarks/README.md, "Batch size").
BATCH_TOKENS = 2048
# Texts of one batch differ by at most this factor (and 8 tokens): the rest would be computed for padding.
_ALIKE = 1.25
_SAME_VECTOR = 0.999
_SHORT_PROBE = 100

Runtime = Literal["openvino", "onnxruntime"]


class _Graph(Protocol):
    """A loaded graph. batch_tokens: of one batch, padding included. step: widths are multiples of it."""

    batch_tokens: int
    step: int

    def run(self, feed: Mapping[str, NDArray[np.int64]]) -> Vectors: ...


log = logging.getLogger(__name__)


class OnnxEmbedder:
    """An `Embedder` over the graph that `kb.embed.export` made.

    Thread-safe. threads: cores one call may use; 0 lets the runtime take all.
    runtimes: tried in this order until one reproduces the model's own vectors here; `runtime` tells which.
    Raises ModelUnavailable if none does, or the graph is damaged.
    """

    def __init__(self, folder: Path, *, threads: int = 0, runtimes: Sequence[Runtime] = ()) -> None:
        self._model = model = ExportedModel.read(folder)
        self._tokenizer = tokenizer_of(folder, model.tokenizer_sha256)
        self._tokenizer.enable_truncation(model.max_sequence)
        self._whole_texts: Tokenizer | None = None
        # The short ones: a start should not cost a tenth of a second more. An export tries all.
        probes = [at for at, text in enumerate(model.probe_texts) if len(text) < _SHORT_PROBE]
        *first, last = runtimes or fastest()
        for self.runtime in first:
            try:
                self._graph = _LOADED[self.runtime](folder, model, threads)
                self.verify(probes)
                return
            except ModelUnavailable as error:
                log.warning("%s; not %s but %s is used", error, self.runtime, last)
        self.runtime = last
        self._graph = _LOADED[last](folder, model, threads)
        self.verify(probes)

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    @property
    def dim(self) -> int:
        return self._model.dim

    @property
    def max_tokens(self) -> int:
        return self._model.max_sequence - int(self._tokenizer.num_special_tokens_to_add(False))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, self._model.query_prompt)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, self._model.passage_prompt)

    def token_starts(self, text: str) -> list[int]:
        if self._whole_texts is None:
            whole: Tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
            whole.no_truncation()
            self._whole_texts = whole
        offsets = self._whole_texts.encode(text, add_special_tokens=False).offsets
        return [start for start, _ in offsets]

    def _embed(self, texts: Sequence[str], prompt: str) -> Vectors:
        encoded = self._tokenizer.encode_batch([self._prepare(text, prompt) for text in texts])
        vectors = np.empty((len(texts), self.dim), np.float32)
        for rows in batches([len(e.ids) for e in encoded], self._graph.batch_tokens):
            vectors[rows] = self._run([encoded[row] for row in rows])
        return vectors

    def _prepare(self, text: str, prompt: str) -> str:
        # sentence-transformers strips and lower-cases before it tokenises; so must we, to agree with it.
        text = (prompt + text).strip()
        return text.lower() if self._model.lower_case else text

    def _run(self, encoded: Sequence[Encoding]) -> Vectors:
        longest, step = max(len(e.ids) for e in encoded), self._graph.step
        width = min(-(-longest // step) * step, self._model.max_sequence)
        feed = padded(encoded, self._model.pad_id, width)
        return self._graph.run({name: feed[name] for name in self._model.inputs})

    def verify(self, probes: Sequence[int]) -> None:
        """Compare with what the model itself made of its probe texts. Raises ModelUnavailable."""
        expected = np.asarray(self._model.probe_vectors, np.float32)[probes]
        made = self.embed_passages([self._model.probe_texts[at] for at in probes])
        cosine = float((made * expected).sum(axis=1).min())
        if not cosine >= _SAME_VECTOR:
            raise ModelUnavailable(
                f"the exported graph differs from the model: cosine {cosine:.4f}, not {_SAME_VECTOR}"
            )


def fastest() -> list[Runtime]:
    """The runtimes for this processor, the one to prefer first."""
    return ["openvino", "onnxruntime"] if openvino_graph.pays() else ["onnxruntime"]


def tokenizer_of(folder: Path, sha256: str) -> Tokenizer:
    """The tokenizer in `folder`, which neither pads nor cuts. Raises ModelUnavailable if it is damaged."""
    path = folder / "tokenizer.json"
    if sha256_of(path) != sha256:
        raise ModelUnavailable(f"{path} is damaged; delete {folder} to export the model again")
    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def session(folder: Path, graph_sha256: str, threads: int) -> Any:
    """The graph in `folder` in ONNX Runtime; thread-safe. Raises ModelUnavailable if it is damaged."""
    import onnxruntime

    graph = folder / "graph.onnx"
    if sha256_of(graph) != graph_sha256:
        raise ModelUnavailable(f"{graph} is damaged; delete {folder} to export the model again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Its threads spin while a batch runs and not after it: the rest of a search needs the cores too.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A batch's scratch memory goes back after the run: the server stays small beside large ingests.
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def padded(encoded: Sequence[Encoding], pad_id: int, width: int = 0) -> dict[str, NDArray[np.int64]]:
    """What a graph may take, by input name; each is `width` tokens wide, or as the longest text."""
    width = max(width, *(len(e.ids) for e in encoded))
    ids = np.full((len(encoded), width), pad_id, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, encoding in enumerate(encoded):
        ids[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
        types[row, : len(encoding.ids)] = encoding.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions grouped by like length, so that each group padded to its longest stays within `budget`.

    A text longer than the budget is a group of its own.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[position]
        if (
            groups
            and (len(groups[-1]) + 1) * length <= budget
            and length <= lengths[groups[-1][0]] * _ALIKE + 8
        ):
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def _openvino(folder: Path, model: ExportedModel, threads: int) -> _Graph:
    if not model.openvino_sha256:
        raise ModelUnavailable(f"{folder} was made without OpenVINO; delete it to export the model again")
    graph = openvino_graph.files(folder)
    if [sha256_of(file) for file in graph if file.is_file()] != model.openvino_sha256:
        raise ModelUnavailable(f"{graph[0]} is damaged; delete {folder} to export the model again")
    return openvino_graph.OpenVinoGraph(folder, threads)


class _OnnxRuntimeGraph:
    batch_tokens = BATCH_TOKENS
    step = 1

    def __init__(self, folder: Path, model: ExportedModel, threads: int) -> None:
        self._session = session(folder, model.graph_sha256, threads)

    def run(self, feed: Mapping[str, NDArray[np.int64]]) -> Vectors:
        (vectors,) = self._session.run(["vectors"], feed)
        return np.asarray(vectors, np.float32)


_LOADED: dict[Runtime, Callable[[Path, ExportedModel, int], _Graph]] = {
    "openvino": _openvino,
    "onnxruntime": _OnnxRuntimeGraph,
}
