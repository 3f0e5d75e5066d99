"""Runs an exported graph with OpenVINO in bfloat16; the only import of OpenVINO.

Where the processor multiplies bfloat16, a passage takes half the time that it takes ONNX Runtime in float32
(benchmarks/README.md, "Runtime"). Elsewhere OpenVINO gains nothing, and is not loaded.
"""

import importlib.util
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb.errors import ModelUnavailable
from kb.types import Vectors

# Shapes whose code is kept, in OpenVINO and in the library beneath it. They would keep 5,000 and 1,024, and a
# server would grow by 85 MB until it has met every shape (benchmarks/README.md, "Runtime").
_SHAPES_KEPT = 128

_CPUINFO = Path("/proc/cpuinfo")
_MULTIPLIES_BF16 = {"avx512_bf16", "amx_bf16"}


def installed() -> bool:
    """Whether OpenVINO is there; it is not asked to load."""
    return importlib.util.find_spec("openvino") is not None


def pays(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether OpenVINO is there and the processor multiplies bfloat16; known on Linux only."""
    if not cpuinfo.is_file() or not installed():
        return False
    with cpuinfo.open(encoding="utf-8") as lines:
        flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(_MULTIPLIES_BF16 & set(flags.split()))


def files(folder: Path) -> tuple[Path, Path]:
    """Where `convert` writes: the graph, and its weights."""
    return folder / "graph.xml", folder / "graph.bin"


def convert(folder: Path) -> None:
    """Write graph.onnx of `folder` as OpenVINO's own `files`, weights rounded to float16.

    They are mapped, not read: a third of the memory of the ONNX file. Raises ModelUnavailable.
    """
    try:
        openvino = _openvino()
        model = openvino.Core().read_model(folder / "graph.onnx")
        openvino.save_model(model, files(folder)[0], compress_to_fp16=True)
    except (ImportError, RuntimeError) as error:
        raise ModelUnavailable(f"OpenVINO cannot read {folder / 'graph.onnx'}: {error}") from error


class OpenVinoGraph:
    """The graph in `folder`, ready to run; thread-safe. threads: cores one call may use; 0 for all.

    Raises ModelUnavailable where OpenVINO cannot load it.
    """

    # Long texts gain nothing from a batch (benchmarks/README.md, "Runtime"), and a query waits for one.
    batch_tokens = 256
    # For every new shape of a batch code is generated: 5 ms and half a megabyte, so there must be few.
    step = 4

    def __init__(self, folder: Path, threads: int) -> None:
        self._own = threading.local()
        options: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "bf16",
            # One batch at a time on all its threads; the next waits, and so a lone query is quickest.
            "PERFORMANCE_HINT": "LATENCY",
            # A thread bound to a core waits there for whoever has it: in a server, its own client.
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT,
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = _openvino().Core().compile_model(files(folder)[0], "CPU", options)
        except (ImportError, RuntimeError) as error:
            raise ModelUnavailable(f"OpenVINO cannot load {files(folder)[0]}: {error}") from error

    def run(self, feed: Mapping[str, NDArray[np.int64]]) -> Vectors:
        """What the graph makes of its inputs. Raises ModelUnavailable where it cannot be computed."""
        try:
            request: Any = self._own.request
        except AttributeError:
            request = self._own.request = self._compiled.create_infer_request()
        try:
            request.infer(dict(feed), share_inputs=True)
        except RuntimeError as error:
            raise ModelUnavailable(f"OpenVINO failed: {error}") from error
        # A copy: the next call of this thread writes into the same memory.
        return np.array(request.get_output_tensor(0).data, np.float32)


def _openvino() -> Any:
    # Read by the library when it makes its first code.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_SHAPES_KEPT))
    # Importing it reports the import to a web analytics service, unless this subpackage, a converter of
    # models, is missing. A server that works offline calls nobody; a tenth of a second is saved as well.
    converter = "openvino.tools.ovc"
    absent = converter not in sys.modules
    if absent:
        sys.modules[converter] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if absent:
            del sys.modules[converter]
    return openvino
