"""Usage over HTTP and on the command line; limits of keys."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from kb.catalog import Catalog
from kb.cli import app
from kb.metering.ledger import Intent, Ledger
from kb.metering.rates import Usage
from kb.models.registry import ModelCatalog

MODELS = ModelCatalog.read()
THOUSAND = Usage(1000, 1000)


def spend(ledger: Ledger, key_id: str | None, *, settled: bool = True, **more: Any) -> str:
    """A call of 26.6 credits."""
    given = {"tier": "standard", "endpoint": "here", "most": THOUSAND, "seconds": 60.0, **more}
    made = ledger.reserve(Intent(MODELS.get("gpt-4.1-mini"), key_id=key_id, **given))
    if settled:
        ledger.settle(made.call_id, status="completed", usage=THOUSAND, tier="standard")
    return made.call_id


@pytest.fixture
def spent(client: TestClient) -> list[str]:
    """Ids of three calls: over a knowledge base, with a key that is revoked, and one at work."""
    service = client.app.state.service  # type: ignore[attr-defined]
    kb = client.post("/v1/knowledge_bases", json={"name": "manuals"}).json()["id"]
    key, _ = service.catalog.keys.create("=cmd")
    made = [spend(service.ledger, None, knowledge_base_ids=(kb,)), spend(service.ledger, key.id)]
    service.catalog.keys.delete(key.id)
    return [*made, spend(service.ledger, None, settled=False)]


def test_usage_is_one_sum_or_one_by_group(client: TestClient, spent: list[str]) -> None:
    """Credits are strings; what calls at work have reserved stands apart; names are told where known."""
    (total,) = client.get("/v1/usage").json()["data"]
    assert (total["group"], total["calls"], total["input_tokens"], total["credits"]) == ("", 2, 2000, "53.2")
    assert (total["open"], total["reserved"]) == (1, "26.6")
    of_none, of_manuals = client.get("/v1/usage", params={"group_by": "knowledge_base"}).json()["data"]
    assert (of_manuals["name"], of_manuals["calls"], of_none["calls"]) == ("manuals", 1, 1)
    for by, count in (("day", 1), ("key", 2), ("model", 1), ("tier", 1)):
        assert len(client.get("/v1/usage", params={"group_by": by}).json()["data"]) == count
    assert client.get("/v1/usage?since=2000-01-01&until=2000-01-02").json()["data"][0]["calls"] == 0


def test_calls_are_listed_a_page_at_a_time(client: TestClient, spent: list[str]) -> None:
    """The newest first, as the `openai` SDK pages."""
    first = client.get("/v1/usage/calls", params={"limit": 2}).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (spent[:0:-1], True)
    assert (first["data"][0]["status"], first["data"][0]["tier"]) == ("open", None)
    rest = client.get("/v1/usage/calls", params={"after": first["last_id"]}).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (spent[:1], False)
    (call,) = rest["data"]
    assert (call["credits"], call["tier"], call["knowledge_base_ids"][0][:3]) == ("26.6", "standard", "kb_")


def test_both_come_as_csv(client: TestClient, spent: list[str]) -> None:
    """With a type that says so, to be kept as a file."""
    for path, count in (("/v1/usage?group_by=tier&", 1), ("/v1/usage/calls?", 3)):
        answer = client.get(f"{path}format=csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == "attachment; filename=usage.csv"
        columns, *rows = csv.reader(io.StringIO(answer.text))
        assert len(rows) == count
        assert "credits" in columns


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=colour", "group_by"),
        ("since=yesterday", "since"),
        ("until=2026-02-30", "until"),
        ("since=2026-11-24T09:30:00", "since"),
        ("format=xlsx", "format"),
    ],
)
def test_a_wrong_question_names_its_field(client: TestClient, query: str, param: str) -> None:
    """422."""
    answer = client.get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with a key named `laptop`."""
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    catalog.keys.create("laptop")
    catalog.close()
    return tmp_path


def kb(folder: Path, *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, [*arguments, "--data-dir", str(folder)])
    assert done.exit_code == code, done.output
    return done.output


def test_a_key_is_limited_and_shown_with_what_it_spent(folder: Path) -> None:
    """What is not named stays; `--none` lifts all."""
    (key,) = json.loads(kb(folder, "keys", "list", "--json"))["data"]
    assert (key["limits"]["hard"], key["spent"]) == (None, "0")
    mine = ("keys", "limit", key["id"])
    kb(folder, *mine, "--hard", "60", "--per", "month")
    kb(folder, *mine, "--model", "gpt-4.1-mini", "--tier", "fast", "--tier", "standard", "--soft", "0.5")
    catalog = Catalog(f"sqlite:///{folder}/catalog.db")
    spend(Ledger(catalog.calls, catalog.usage, MODELS), key["id"])
    catalog.close()
    (shown,) = json.loads(kb(folder, "keys", "list", "--json"))["data"]
    assert shown["limits"] == {
        "models": ["gpt-4.1-mini"],
        "tiers": ["priority", "standard"],
        "hard": "60",
        "soft": "0.5",
        "per": "month",
    }
    assert (shown["spent"], shown["reserved"]) == ("26.6", "0")
    assert (
        kb(folder, "keys", "list")
        .strip()
        .endswith(
            "laptop  only gpt-4.1-mini;  only priority, standard;  hard 60 credits a month;  "
            "soft 0.5 credits a month;  spent 26.6, reserved 0"
        )
    )
    assert kb(folder, *mine, "--none", "--hard", "7").strip() == (
        f"{key['id']}  hard 7 credits;  spent 26.6, reserved 0"
    )
    assert json.loads(kb(folder, *mine, "--none", "--json"))["limits"] == dict.fromkeys(shown["limits"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--model", "gpt-4.1-minni"), "did you mean 'gpt-4.1-mini'"),
        (("--tier", "cheap"), "no service tier 'cheap'"),
        (("--hard", "much"), "--hard is a number of credits, not 'much'"),
        (("--soft", "-1"), "credits are from 0 to"),
    ],
)
def test_a_wrong_limit_is_refused(folder: Path, wrong: tuple[str, str], message: str) -> None:
    """And nothing is changed."""
    (key,) = json.loads(kb(folder, "keys", "list", "--json"))["data"]
    assert message in kb(folder, "keys", "limit", key["id"], *wrong, code=1)
    assert json.loads(kb(folder, "keys", "list", "--json"))["data"] == [key]
    assert "no key 'key_1'" in kb(folder, "keys", "limit", "key_1", "--hard", "1", code=1)


def test_usage_on_the_command_line(folder: Path) -> None:
    """A line for each group, JSON, or CSV."""
    catalog = Catalog(f"sqlite:///{folder}/catalog.db")
    (key,) = catalog.keys.all()
    ledger = Ledger(catalog.calls, catalog.usage, MODELS)
    spend(ledger, key.id)
    spend(ledger, None, settled=False)
    catalog.close()
    assert kb(folder, "usage").strip() == (
        "-  1 calls  1,000 tokens in (0 cached), 1,000 out  26.6 credits  1 at work, up to 26.6 credits"
    )
    assert f"{key.id}  laptop  1 calls" in kb(folder, "usage", "--by", "key")
    (total,) = json.loads(kb(folder, "usage", "--json", "--since", "2000-01-01"))["data"]
    assert Decimal(total["credits"]) == Decimal("26.6")
    assert kb(folder, "usage", "--csv", "--until", "2000-01-01").splitlines()[1] == ",,0,0,0,0,0,0,0,0,0,0"
    assert "since is a day like" in kb(folder, "usage", "--since", "monday", code=1)
