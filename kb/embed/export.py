"""Any sentence-transformers model -> one ONNX graph from token ids to unit vectors.

Run as `python -m kb.embed.export SOURCE FOLDER STATE`; the only file that imports torch.
Pooling, dense layers and normalisation go inside the graph.
"""

import shutil
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import sentence_transformers
import torch

from kb.embed import openvino_graph
from kb.embed.folder import ExportedModel, fingerprint, sha256_of
from kb.embed.runtime import OnnxEmbedder
from kb.errors import ModelUnavailable

# Short, long beyond any usual limit, and not English: what a wrong mask, cut or pooling would change.
_PROBES = [
    "What is a vector index?",
    "Zebra stripes deter biting flies. " * 120,
    "Wartungsplan für Pumpe 7: täglich",
]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 17


class _UnitVectors(torch.nn.Module):
    """The whole model as a function of plain tensors, as the tracer wants it."""

    def __init__(self, model: sentence_transformers.SentenceTransformer, inputs: list[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features = dict(zip(self.inputs, tensors, strict=True))
        return torch.nn.functional.normalize(self.model(features)["sentence_embedding"], dim=-1)


def export(source: Path, folder: Path, state: str) -> None:
    """Write graph, tokenizer and manifest into `folder`, replacing it in one rename."""
    model = sentence_transformers.SentenceTransformer(
        str(source), device="cpu", local_files_only=True, model_kwargs={"attn_implementation": "eager"}
    ).eval()
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise SystemExit(f"{source.name} has no fast tokenizer (tokenizer.json), which serving needs")
    prompts = {name: prompt or "" for name, prompt in (model.prompts or {}).items()}
    passage_prompt = next((prompts[n] for n in ("document", "passage", "corpus") if prompts.get(n)), "")
    if any(prompts.values()) and not getattr(model[1], "include_prompt", True):
        raise SystemExit(f"{source.name} leaves its prompt out of the pooling, which is not supported")

    example = tokenizer(_PROBES[:1] + _PROBES[2:], padding=True, return_tensors="pt")
    inputs = [name for name in _INPUTS if name in example]
    axes = {name: {0: "batch", 1: "tokens"} for name in inputs}
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _UnitVectors(model, inputs),
                tuple(example[name] for name in inputs),
                str(made / "graph.onnx"),
                input_names=inputs,
                output_names=["vectors"],
                dynamic_axes={**axes, "vectors": {0: "batch"}},
                opset_version=_OPSET,
                dynamo=False,
            )
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
            source_state=state,
            probe_texts=_PROBES,
            probe_vectors=[[float(x) for x in row] for row in vectors],
        ).write(made)
        OnnxEmbedder(made, runtimes=["onnxruntime"]).verify(range(len(_PROBES)))
        if openvino_graph.installed():
            _add_openvino(made)
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
    export(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
