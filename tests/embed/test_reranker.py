"""Cross-encoders without torch: the scores that sentence-transformers gives, or none."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, strategies
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from kb.embed.folder import ExportedReranker, exported, sha256_of
from kb.embed.reranker import BATCH_TOKENS, OnnxReranker
from kb.errors import ModelUnavailable

LIMIT = 16


def _graph() -> Any:
    """A pair's score: the sum of its token numbers, those of the passage twice; padding counts nothing."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["real"]),
        helper.make_node("Mul", ["real", "token_type_ids"], ["passage"]),
        helper.make_node("Add", ["real", "passage"], ["weighed"]),
        helper.make_node("Cast", ["weighed"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["scores"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "sum", inputs, [output], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model made by hand: token `n` has the number n, the marks around texts have none."""
    made = tmp_path_factory.mktemp("reranker")
    tokenizer = Tokenizer(models.WordLevel({"0": 0, **{str(n): n for n in range(1, 100)}}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("0 $A 0", "0 $A 0 $B:1 0:1", [("0", 0)])
    tokenizer.save(str(made / "tokenizer.json"))
    onnx.save(_graph(), str(made / "graph.onnx"))
    ExportedReranker(
        fingerprint="f",
        max_sequence=LIMIT,
        inputs=["input_ids", "attention_mask", "token_type_ids"],
        # Any but 0, so that padding would show.
        pad_id=50,
        graph_sha256=sha256_of(made / "graph.onnx"),
        tokenizer_sha256=sha256_of(made / "tokenizer.json"),
        source_state="s",
        probe_pairs=[["1 2", "3"]],
        probe_scores=[9.0],
    ).write(made)
    return made


@pytest.fixture(scope="module")
def sums(folder: Path) -> OnnxReranker:
    """It, loaded."""
    return OnnxReranker(folder, threads=1)


def test_a_score_is_the_graphs_for_query_and_passage(sums: OnnxReranker) -> None:
    """Which token is whose is told to the graph; padding is not counted; the order is kept."""
    scores = sums.score("1 2", ["3", "10 20 30", "", "4"])
    assert scores.tolist() == [9, 123, 3, 11]
    assert scores.dtype == np.float32
    assert sums.score("1", []).shape == (0,)


def test_the_longer_of_the_two_is_cut_first(sums: OnnxReranker) -> None:
    """As `longest_first` does it, at the model's limit of 16 with three marks."""
    assert sums.score("1 1", ["2 " * 40]).tolist() == [2 + 2 * 2 * 11]
    assert sums.score("1 " * 40, ["2 2"]).tolist() == [11 + 2 * 2 * 2]
    assert sums.score("1 " * 40, ["2 " * 40]).tolist() in ([7 + 2 * 2 * 6], [6 + 2 * 2 * 7])


@given(lengths=strategies.lists(strategies.integers(0, 40), max_size=80))
def test_batches_are_bounded(sums: OnnxReranker, lengths: list[int]) -> None:
    """Each passage once, and no batch beyond what a deadline may be overshot by."""
    groups = sums.batches("1 2 3", ["9 " * length for length in lengths])
    assert sorted(at for group in groups for at in group) == list(range(len(lengths)))
    for group in groups:
        width = max(min(LIMIT, 6 + lengths[at]) for at in group)
        assert len(group) * width <= BATCH_TOKENS


def test_other_scores_than_the_models_own_are_refused(folder: Path, tmp_path: Path) -> None:
    """A graph that does not reproduce the probes is not used, nor one that is damaged."""
    (copied := tmp_path / "copy").mkdir()
    for file in folder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    manifest = ExportedReranker.read(copied)
    for wrong in (9.1, float("nan")):
        replace(manifest, probe_scores=[wrong]).write(copied)
        with pytest.raises(ModelUnavailable, match="differs"):
            OnnxReranker(copied)
    manifest.write(copied)
    OnnxReranker(copied)
    with (copied / "graph.onnx").open("ab") as graph:
        graph.write(b"\0")
    with pytest.raises(ModelUnavailable, match="damaged"):
        OnnxReranker(copied)


# A small BERT with random weights and a tokenizer of single characters; scores of CrossEncoder.predict.
_MAKE = """
import json, sys
import torch, transformers
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
pairs = json.loads(sys.argv[2])
letters = [chr(code) for code in range(33, 127)]
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *("##" + letter for letter in letters)]
tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer()
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.post_processor = processors.TemplateProcessing(
    "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
)
special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
for name, labels, activation in (("raw", 1, "Identity"), ("default", 1, None), ("three", 3, None)):
    folder = f"{sys.argv[1]}/{name}"
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, num_labels=labels, initializer_range=0.3,
    )
    if activation:
        config.sentence_transformers = {"activation_fn": f"torch.nn.modules.linear.{activation}"}
    fast.save_pretrained(folder)
    transformers.BertForSequenceClassification(config).eval().save_pretrained(folder)
    print(json.dumps(CrossEncoder(folder, device="cpu").predict(pairs).tolist()))
"""
QUERY = "How is the pump started?"
PASSAGES = [
    "Press the green button.",
    "zebra " * 100,
    "",
    "Öl 東京 🙂",
    "Open the valve first, then start it.",
    "a",
]


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[float]]]:
    """Folders of three CrossEncoders, and what each gives for the passages."""
    made = tmp_path_factory.mktemp("crossed")
    pairs = json.dumps([[QUERY, passage] for passage in PASSAGES])
    done = subprocess.run(
        [sys.executable, "-c", _MAKE, str(made), pairs], capture_output=True, text=True, check=True
    )
    lines = done.stdout.strip().splitlines()[-3:]
    return made, dict(zip(("raw", "default", "three"), map(json.loads, lines), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raw", "default"])
def test_scores_are_those_of_sentence_transformers(crossed: Any, name: str, tmp_path: Path) -> None:
    """To 1e-4 for long, empty and foreign passages, with the activation of the model's configuration."""
    made, right = crossed
    served = OnnxReranker(exported(str(made / name), tmp_path / "models", "reranker"), threads=1)
    scores = served.score(QUERY, PASSAGES)
    np.testing.assert_allclose(scores, right[name], atol=1e-4)
    assert (min(right[name]) < 0) == (name == "raw")
    alone = np.concatenate([served.score(QUERY, [passage]) for passage in PASSAGES])
    np.testing.assert_allclose(alone, scores, atol=1e-5)
    cut = served.score("long question " * 40, ["an answer", "an answer " * 40])
    assert np.isfinite(cut).all()


@pytest.mark.slow
def test_a_model_with_several_labels_is_refused(crossed: Any, tmp_path: Path) -> None:
    """The message says how many it has and what to choose."""
    with pytest.raises(ModelUnavailable, match=r"3 scores a pair.*num_labels 1"):
        exported(str(crossed[0] / "three"), tmp_path / "models", "reranker")


@pytest.mark.slow
def test_a_search_with_a_real_cross_encoder(
    crossed: Any, settings: Any, own_models: Path, tmp_path: Path
) -> None:
    """From the setting to the order of the hits: that of the model's scores of context and text."""
    from kb.search.rerank import Rerank
    from kb.service import Service

    documents = tmp_path / "documents"
    documents.mkdir()
    for at, passage in enumerate(("Press the green button.", "Open the valve.", "A zebra.", "Start it.")):
        (documents / f"{at}.txt").write_text(passage)
    with Service(replace(settings, reranker=str(crossed[0] / "raw"))) as service:
        service.ingest(documents, "kb")
        found = service.search(QUERY, ["kb"], rerank=Rerank(deadline_ms=60_000))
        texts = service.catalog.documents.indexed([hit.chunk_id for hit in found.hits])
        scores = service.reranker().score(QUERY, texts)
    assert found.rerank == "done"
    assert len(found.hits) == 4
    np.testing.assert_allclose([hit.scores["rerank"] for hit in found.hits], scores, atol=1e-5)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
