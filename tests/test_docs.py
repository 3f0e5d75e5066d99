"""The documentation says what there is: commands, options, settings, endpoints, exports."""

import re
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import kb
from kb.cli import app
from kb.gateway.endpoints import Endpoint, Endpoints
from kb.remote.connectors import Connectors
from kb.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> dict[str, object]:
    """Every command by the words that call it."""
    root = typer.main.get_command(app)
    found: dict[str, object] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for inner, nested in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = nested
        if not hasattr(command, "commands"):
            found[name] = command
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_in_the_readme(name: str) -> None:
    """By the words that call it."""
    assert f"`kb {name}" in README or f"kb {name}" in README


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_in_the_readme_or_explains_itself(name: str) -> None:
    """The long form stands in the README, or the option has a help text of its own."""
    for parameter in commands()[name].params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help or parameter.opts[0] in README, (name, parameter.opts)


def test_every_setting_is_in_the_readme() -> None:
    """Whatever the code reads from the environment."""
    read = set()
    for path in [*(ROOT / "kb").rglob("*.py"), *(ROOT / "api").rglob("*.py")]:
        read |= set(re.findall(r"\bKB_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    assert {"KB_DATA_DIR", "KB_MODEL"} <= read
    assert {name for name in read if f"`{name}`" not in README} == set()
    assert Settings.read("x", {"KB_THREADS": "3"}).threads == 3
    assert Settings.read("x", {"KB_DENSE_WEIGHT": "0.7"}).dense_weight == 0.7


@pytest.fixture(scope="session")
def docs(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A folder with `documents`, and `data-folder` that holds them as the knowledge base `docs`."""
    here = tmp_path_factory.mktemp("readme")
    (here / "documents").mkdir()
    (here / "documents" / "sale.md").write_text("# Warranty\n\nThe warranty ends after two years.")
    (here / "data-folder").mkdir()
    (here / "data-folder" / "models").symlink_to(models, target_is_directory=True)
    with kb.open(here / "data-folder") as service:
        service.ingest(here / "documents", "docs")
    return here


@pytest.fixture
def model(upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A language model that answers as the README shows it, named in KB_ENDPOINTS."""
    from upstream import Answer, Used, replies

    said = 'The warranty ends after two years [1: "after two years"].'
    upstream.script(replies.says(Answer(deltas=(said,), used=Used(313, 21))))
    file = tmp_path / "endpoints.toml"
    file.write_text(
        f'[[endpoint]]\nname = "x"\nbase_url = "{upstream.url}"\nkind = "chat"\nmodels = ["gpt-4.1-mini"]\n'
    )
    monkeypatch.setenv("KB_ENDPOINTS", str(file))


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if "kb.open(" in one])
def test_every_python_example_runs(
    example: str, docs: Path, model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, beside the folder `documents`. What asks a server is left to tests/api."""
    for package in ("langchain", "llama_index"):
        if f"kb.integrations.{package}" in example:
            pytest.importorskip({"langchain": "langchain_core"}.get(package, package), reason="not installed")
    monkeypatch.chdir(docs)
    names: dict[str, kb.Service] = {}
    exec(compile(example, "README.md", "exec"), names)
    with closing(names["service"]) as service:
        assert [one.uri for one in service.documents("docs")] == ["sale.md"]


def test_the_answer_of_the_readme_is_what_kb_ask_prints(docs: Path, model: None) -> None:
    """As it stands, to the last decimal."""
    (shown,) = re.findall(r"```console\n\$ (kb ask .*?)\n(.*?)```", README, re.DOTALL)
    printed = CliRunner().invoke(app, [*shlex.split(shown[0])[1:], "--data-dir", str(docs / "data-folder")])
    assert printed.stdout == shown[1]


def test_the_endpoints_of_the_readme_can_be_read(tmp_path: Path) -> None:
    """With every field that there is."""
    (tmp_path / "endpoints.toml").write_text(_shown("[[endpoint]]"))
    first, second = Endpoints.read(tmp_path / "endpoints.toml").of("gpt-4.1-mini")
    assert first.model_fields_set | second.model_fields_set == set(Endpoint.model_fields) - {"key_file"}
    assert second.models == {"gpt-4.1-mini": "gemma-3-270m"}


def test_the_connectors_of_the_readme_can_be_read(tmp_path: Path) -> None:
    """One at an address, one that is started."""
    (tmp_path / "connectors.toml").write_text(_shown("[[connector]]"))
    first, second = Connectors.read(tmp_path / "connectors.toml").all
    assert (first.id, str(first.url)) == ("tickets", "https://tickets.example.org/mcp")
    assert (second.command, second.args) == ("python", ("-m", "mcp_server_time"))


def _shown(begins: str) -> str:
    """The one TOML file of the README that begins so."""
    files = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (shown,) = (one for one in files if one.startswith(begins))
    return str(shown)


def test_every_export_resolves() -> None:
    """`kb.__all__` is true."""
    assert all(getattr(kb, name) is not None for name in kb.__all__)


def test_every_file_that_a_page_links_to_is_there() -> None:
    """No dead link inside the project."""
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), (page.name, target)


def test_the_map_in_architecture_names_every_room() -> None:
    """Each file of kb/ stands in the map."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = [path for path in (ROOT / "kb").rglob("*.py") if "migrations" not in path.parts]
    missing = [path.name for path in rooms if path.name not in text and path.parent.name != "formats"]
    assert [name for name in missing if name != "__init__.py"] == []
