"""Commands on API keys."""

from dataclasses import asdict

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, say, service, warn

app = typer.Typer(no_args_is_help=True, help="API keys for servers that others can reach.")


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
    """List the keys, without their secrets."""
    with service(data_dir, as_json) as opened:
        found = opened.catalog.keys.all()
    if as_json:
        print_json({"data": [asdict(key) for key in found]})
        return
    for key in found:
        say(f"{key.id}  {key.created_at}  {key.name}")


@app.command("delete")
def delete_key(key: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Revoke a key, by its id."""
    with service(data_dir, as_json) as opened:
        opened.catalog.keys.delete(key)
    if as_json:
        print_json({"id": key, "deleted": True})
    else:
        say(f"deleted {key}")
