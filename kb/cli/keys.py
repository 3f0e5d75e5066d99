"""Commands on API keys."""

from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, say, service, warn
from kb.errors import InvalidInput

if TYPE_CHECKING:
    from kb.catalog.calls import Account
    from kb.service import Service

app = typer.Typer(no_args_is_help=True, help="API keys for servers that others can reach.")


class Per(StrEnum):
    """How long a budget is for."""

    day = "day"
    month = "month"


@app.command("create")
def create_key(name: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Make a key; its secret is shown this once."""
    with service(data_dir, as_json) as opened:
        key, secret = opened.catalog.keys.create(name)
    if as_json:
        print_json({**asdict(key), "key": secret})
    else:
        say(secret)
        warn(f"this is {key.id}; it cannot be shown again. Send it as: Authorization: Bearer …")


@app.command("list")
def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the keys with their limits and what they have spent, without their secrets."""
    with service(data_dir, as_json) as opened:
        found = [(key, opened.ledger.spent(key.id)) for key in opened.catalog.keys.all()]
    if as_json:
        print_json({"data": [{**asdict(key), **_shown(account)} for key, account in found]})
        return
    for key, account in found:
        say(f"{key.id}  {key.created_at}  {key.name}{_told(account)}")


@app.command("limit")
def limit_key(
    key: str,
    model: Annotated[list[str] | None, typer.Option(help="A model that it may call, instead of all.")] = None,
    tier: Annotated[
        list[str] | None, typer.Option(help="A tier that it may ask for, instead of all.")
    ] = None,
    hard: Annotated[str | None, typer.Option(help="Credits beyond which a call is refused.")] = None,
    soft: Annotated[str | None, typer.Option(help="Credits beyond which a call is told of it.")] = None,
    per: Annotated[Per | None, typer.Option(help="In UTC; without it a budget is for all time.")] = None,
    none: Annotated[bool, typer.Option("--none", help="First lift the limits that it has.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Limit what a key may call and spend; what is not named stays as it is."""
    with service(data_dir, as_json) as opened:
        from kb.catalog.keys import Limits

        before = opened.catalog.keys.limits(key)
        given = {
            **_allowed(opened, model, tier),
            "hard": _credits("hard", hard),
            "soft": _credits("soft", soft),
        }
        given["per"] = per.value if per else None
        changed = {name: value for name, value in given.items() if value is not None}
        opened.catalog.keys.limit(key, replace(Limits() if none else before, **changed))
        account = opened.ledger.spent(key)
    if as_json:
        print_json({"id": key, **_shown(account)})
    else:
        say(f"{key}{_told(account) or '  no limits'}")


@app.command("delete")
def delete_key(key: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Revoke a key, by its id."""
    with service(data_dir, as_json) as opened:
        opened.catalog.keys.delete(key)
    if as_json:
        print_json({"id": key, "deleted": True})
    else:
        say(f"deleted {key}")


def _allowed(opened: "Service", models: list[str] | None, tiers: list[str] | None) -> dict[str, Any]:
    """By the names of the catalogue. Raises NotFound, InvalidInput."""
    from kb.metering.rates import tier_of

    return {
        "models": [opened.language_models.get(one).id for one in models] if models else None,
        "tiers": [tier_of(one) for one in tiers] if tiers else None,
    }


def _credits(name: str, given: str | None) -> Decimal | None:
    try:
        return None if given is None else Decimal(given)
    except InvalidOperation as error:
        raise InvalidInput(f"--{name} is a number of credits, not {given!r}", param=name) from error


def _shown(account: "Account") -> dict[str, Any]:
    from kb.metering.rates import plain

    limits = {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in asdict(account.limits).items()
    }
    return {"limits": limits, "spent": plain(account.spent), "reserved": plain(account.reserved)}


def _told(account: "Account") -> str:
    shown = _shown(account)
    limits = shown["limits"]
    period = f" a {limits['per']}" if limits["per"] else ""
    parts = [
        f"only {', '.join(limits[name]) or 'no ' + name}"
        for name in ("models", "tiers")
        if limits[name] is not None
    ]
    parts += [
        f"{name} {limits[name]} credits{period}" for name in ("hard", "soft") if limits[name] is not None
    ]
    if account.spent or account.reserved or limits["hard"] or limits["soft"]:
        parts.append(f"spent {shown['spent']}, reserved {shown['reserved']}")
    return "".join(f"  {part};" for part in parts).rstrip(";")
