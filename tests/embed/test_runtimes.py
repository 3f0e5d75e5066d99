"""Which runtime runs a model, and what happens where one fails."""

import logging
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb.embed import openvino_graph
from kb.embed.folder import DEFAULT_MODEL, exported
from kb.embed.openvino_graph import OpenVinoGraph, pays
from kb.embed.runtime import OnnxEmbedder, Runtime

BOTH: list[Runtime] = ["openvino", "onnxruntime"]
TEXTS = [f"pump {'valve ' * count}" for count in range(0, 260, 7)]

needs_openvino = pytest.mark.skipif(
    not openvino_graph.installed(), reason="OpenVINO has no wheel for this platform"
)


@pytest.fixture(scope="module")
def model(models: Path) -> Path:
    """The exported default model."""
    return exported(DEFAULT_MODEL, models)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 fma avx512f avx512_bf16 avx512_vnni", True),
        ("fpu avx2 amx_bf16 amx_tile", True),
        ("fpu avx2 fma", False),
        ("fpu avx2 avx512f avx512_vnni", False),
        ("fpu avx512_bf16x", False),
    ],
)
@needs_openvino
def test_openvino_runs_where_the_processor_multiplies_bfloat16(
    tmp_path: Path, flags: str, expected: bool
) -> None:
    """Elsewhere it gains nothing and would compute in float32 without saying so."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: amx_bf16\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert pays(cpuinfo) is expected


def test_onnx_runtime_runs_where_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Linux, no flags, or no OpenVINO."""
    assert not pays(tmp_path / "missing")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("CPU part\t: 0xd40\n")
    assert not pays(cpuinfo)
    cpuinfo.write_text("flags\t: avx512_bf16\n")
    monkeypatch.setattr(openvino_graph, "installed", lambda: False)
    assert not pays(cpuinfo)


@needs_openvino
def test_openvino_is_taken_when_it_gives_the_models_vectors(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged; nothing of ONNX Runtime is loaded for it."""
    assert OnnxEmbedder(model, runtimes=BOTH).runtime == "openvino"
    assert OnnxEmbedder(model, runtimes=BOTH[1:]).runtime == "onnxruntime"
    assert caplog.records == []


@needs_openvino
def test_other_vectors_send_openvino_away(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cosine below 0.999 is never served: ONNX Runtime is used, and the log says so."""
    run = OpenVinoGraph.run
    noise = np.random.default_rng(5).standard_normal(384).astype(np.float32)

    def skewed(self: Any, feed: Mapping[str, Any]) -> Any:
        made = run(self, feed) + 0.003 * noise
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    monkeypatch.setattr(OpenVinoGraph, "run", skewed)
    with caplog.at_level(logging.WARNING):
        embedder = OnnxEmbedder(model, runtimes=BOTH)
    assert embedder.runtime == "onnxruntime"
    (record,) = caplog.records
    assert "cosine 0.998" in record.getMessage()
    assert "not openvino but onnxruntime is used" in record.getMessage()
    assert embedder.embed_queries(["pump"]).shape == (1, 384)


@needs_openvino
@pytest.mark.parametrize("damaged", ["graph.bin", "graph.xml"])
@pytest.mark.parametrize("gone", [True, False])
def test_damage_sends_openvino_away(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str, gone: bool
) -> None:
    """A flipped bit or a missing file costs speed, not answers."""
    copied = shutil.copytree(model, tmp_path / "copy")
    if gone:
        (copied / damaged).unlink()
    else:
        with (copied / damaged).open("r+b") as file:
            file.seek(1000)
            (byte,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
    with caplog.at_level(logging.WARNING):
        assert OnnxEmbedder(copied, runtimes=BOTH).runtime == "onnxruntime"
    assert "damaged; delete" in caplog.text


@needs_openvino
def test_openvino_sees_few_shapes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code is generated for each: widths are multiples of 4, and several texts have 256 tokens at most."""
    shapes: list[tuple[int, ...]] = []
    run = OpenVinoGraph.run

    def seen(self: Any, feed: Mapping[str, Any]) -> Any:
        shapes.append(feed["input_ids"].shape)
        return run(self, feed)

    embedder = OnnxEmbedder(model, runtimes=["openvino"])
    monkeypatch.setattr(OpenVinoGraph, "run", seen)
    embedder.embed_passages(TEXTS)
    assert sum(rows for rows, _ in shapes) == len(TEXTS)
    assert all(width % 4 == 0 and (rows == 1 or rows * width <= 256) for rows, width in shapes)
    assert max(width for _, width in shapes) == 256
    assert max(rows for rows, _ in shapes) > 1


@pytest.mark.parametrize("runtime", [pytest.param("openvino", marks=needs_openvino), "onnxruntime"])
def test_calls_from_several_threads_do_not_mix(model: Path, runtime: Runtime) -> None:
    """Four threads over one embedder: each text gets the vector that it gets alone."""
    embedder = OnnxEmbedder(model, runtimes=[runtime])
    alone = [embedder.embed_queries([text])[0] for text in TEXTS[:12]]
    begin = threading.Barrier(4)
    found: list[float] = []

    def ask(at: int) -> None:
        begin.wait(30)
        for number in range(at, at + 12):
            vector = embedder.embed_queries([TEXTS[number % 12]])[0]
            found.append(float(np.abs(vector - alone[number % 12]).max()))

    threads = [threading.Thread(target=ask, args=(at,)) for at in (0, 3, 6, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 48
    assert max(found) < 1e-6
