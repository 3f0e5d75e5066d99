"""Any sentence-transformers model -> one ONNX graph: from token ids to unit vectors, or to a score.

Run as `python -m kb.embed.export embedder|reranker SOURCE FOLDER STATE`; the only file that imports torch.
Pooling, dense layers and normalisation go inside the graph, and so does a CrossEncoder's activation.
"""

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch

from kb.embed import openvino_graph
from kb.embed.folder import ExportedModel, ExportedReranker, fingerprint, sha256_of
from kb.embed.reranker import OnnxReranker
from kb.embed.runtime import OnnxEmbedder
from kb.errors import ModelUnavailable

# Short, long beyond any usual limit, and not English: what a wrong mask, cut or pooling would change.
_PROBES = [
    "What is a vector index?",
    "Zebra stripes deter biting flies. " * 120,
    "Wartungsplan für Pumpe 7: täglich",
]
# An answer, a passage that is cut, a query that is cut, and one that has nothing to do with the other.
_PAIRS = [
    ["What is a vector index?", "A vector index finds the nearest of many vectors."],
    ["What deters flies?", "Zebra stripes deter biting flies. " * 120],
    ["Which stripes deter which flies where? " * 120, "Zebra stripes."],
    ["Wartungsplan", "Öl 東京 🙂"],
]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 17
_LOADING: dict[str, Any] = {
    "device": "cpu",
    "local_files_only": True,
    "model_kwargs": {"attn_implementation": "eager"},
}


class _UnitVectors(torch.nn.Module):
    """The whole model as a function of plain tensors, as the tracer wants it."""

    def __init__(self, model: sentence_transformers.SentenceTransformer, inputs: list[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features = dict(zip(self.inputs, tensors, strict=True))
        return torch.nn.functional.normalize(self.model(features)["sentence_embedding"], dim=-1)


class _Scores(torch.nn.Module):
    """A CrossEncoder as a function of plain tensors: what its `predict` gives, shape (pairs,)."""

    def __init__(self, model: sentence_transformers.CrossEncoder, inputs: list[str]) -> None:
        super().__init__()
        assert model.activation_fn is not None
        self.model = model
        self.activation = model.activation_fn
        self.inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features = dict(zip(self.inputs, tensors, strict=True))
        scores: torch.Tensor = self.activation(self.model(features)["scores"])
        return scores.squeeze(-1)


def export_embedder(source: Path, folder: Path, state: str) -> None:
    """Write graph, tokenizer and manifest into `folder`, replacing it in one rename."""
    model = sentence_transformers.SentenceTransformer(str(source), **_LOADING).eval()
    tokenizer = _fast_tokenizer(source, model)
    prompts = {name: prompt or "" for name, prompt in (model.prompts or {}).items()}
    passage_prompt = next((prompts[n] for n in ("document", "passage", "corpus") if prompts.get(n)), "")
    if any(prompts.values()) and not getattr(model[1], "include_prompt", True):
        raise SystemExit(f"{source.name} leaves its prompt out of the pooling, which is not supported")

    example = tokenizer(_PROBES[:1] + _PROBES[2:], padding=True, return_tensors="pt")
    inputs = [name for name in _INPUTS if name in example]
    with _replacing(folder) as made:
        _trace(_UnitVectors(model, inputs), {name: example[name] for name in inputs}, "vectors", made)
        tokenizer.backend_tokenizer.save(str(made / "tokenizer.json"))
        vectors = model.encode(_PROBES, prompt=passage_prompt or None, normalize_embeddings=True)
        ExportedModel(
            fingerprint=fingerprint(source),
            dim=int(np.shape(vectors)[1]),
            max_sequence=int(model.max_seq_length or tokenizer.model_max_length),
            inputs=inputs,
            pad_id=int(tokenizer.pad_token_id or 0),
            lower_case=bool(getattr(model[0], "do_lower_case", False)),
            query_prompt=prompts.get("query", ""),
            passage_prompt=passage_prompt,
            graph_sha256=sha256_of(made / "graph.onnx"),
            tokenizer_sha256=sha256_of(made / "tokenizer.json"),
            source_state=state,
            probe_texts=_PROBES,
            probe_vectors=[[float(x) for x in row] for row in vectors],
        ).write(made)
        OnnxEmbedder(made, runtimes=["onnxruntime"]).verify(range(len(_PROBES)))
        if openvino_graph.installed():
            _add_openvino(made)


def export_reranker(source: Path, folder: Path, state: str) -> None:
    """The same of a CrossEncoder that gives one score a pair.

    The activation is the one that the model's own configuration names, else sentence-transformers'
    default for one label, the logistic function: scores are those of `CrossEncoder.predict`.
    """
    model = sentence_transformers.CrossEncoder(str(source), **_LOADING).eval()
    if model.num_labels != 1:
        raise SystemExit(
            f"{source.name} gives {model.num_labels} scores a pair; a reranker gives one: "
            "choose a CrossEncoder with num_labels 1"
        )
    # A language model that answers yes or no to a prompt is another kind of reranker.
    if len(model) != 1 or model[0].transformer_task != "sequence-classification":
        raise SystemExit(f"{source.name} is no sequence classifier; choose a CrossEncoder that is one")
    if any((model.prompts or {}).values()):
        raise SystemExit(f"{source.name} puts a prompt before its pairs, which is not supported")
    tokenizer = _fast_tokenizer(source, model)
    example = tokenizer([pair[0] for pair in _PAIRS[::3]], [pair[1] for pair in _PAIRS[::3]], padding=True)
    inputs = [name for name in _INPUTS if name in example]
    with _replacing(folder) as made:
        tensors = {name: torch.tensor(example[name]) for name in inputs}
        _trace(_Scores(model, inputs), tensors, "scores", made)
        tokenizer.backend_tokenizer.save(str(made / "tokenizer.json"))
        ExportedReranker(
            fingerprint=fingerprint(source),
            max_sequence=int(model.max_seq_length),
            inputs=inputs,
            pad_id=int(tokenizer.pad_token_id or 0),
            graph_sha256=sha256_of(made / "graph.onnx"),
            tokenizer_sha256=sha256_of(made / "tokenizer.json"),
            source_state=state,
            probe_pairs=_PAIRS,
            probe_scores=[float(score) for score in model.predict(_PAIRS)],
        ).write(made)
        OnnxReranker(made).verify(range(len(_PAIRS)))


def _fast_tokenizer(source: Path, model: Any) -> Any:
    if not getattr(model.tokenizer, "is_fast", False):
        raise SystemExit(f"{source.name} has no fast tokenizer (tokenizer.json), which serving needs")
    return model.tokenizer


def _trace(module: torch.nn.Module, example: dict[str, torch.Tensor], output: str, made: Path) -> None:
    """Write `made`/graph.onnx: any number of texts of any length, whatever the example has."""
    axes = {name: {0: "batch", 1: "tokens"} for name in example}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example.values()),
            str(made / "graph.onnx"),
            input_names=list(example),
            output_names=[output],
            dynamic_axes={**axes, output: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        yield made
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _add_openvino(made: Path) -> None:
    """The same graph for OpenVINO, if that gives the model's own vectors too; else it is left out."""
    manifest = ExportedModel.read(made)
    try:
        openvino_graph.convert(made)
        files = [sha256_of(file) for file in openvino_graph.files(made)]
        replace(manifest, openvino_sha256=files).write(made)
        OnnxEmbedder(made, runtimes=["openvino"]).verify(range(len(_PROBES)))
    except ModelUnavailable as error:
        print(f"without OpenVINO: {error}", file=sys.stderr)
        manifest.write(made)


if __name__ == "__main__":
    {"embedder": export_embedder, "reranker": export_reranker}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    )
