"""What the commands share: options, the open service, and how they speak."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.errors import InvalidInput, KbError, storage

if TYPE_CHECKING:
    from kb.service import Progress, Service

SOME_REFUSED = 3
INTERRUPTED = 130


class Mode(StrEnum):
    """The ways to match, as the command line offers them."""

    hybrid = "hybrid"
    dense = "dense"
    lexical = "lexical"


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where data is kept; else KB_DATA_DIR, else the platform's place."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def service(data_dir: Path | None, as_json: bool) -> Iterator["Service"]:
    """The service over the data folder; what goes wrong becomes a message and an exit code."""
    import kb

    with reported(as_json), kb.open(data_dir) as service:
        yield service


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """What goes wrong becomes a message and an exit code."""
    try:
        with storage():
            yield
    except KbError as error:
        if as_json:
            print_json(error_of(error))
        else:
            warn(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        warn("stopped; what was committed stays, run again to go on from there")
        raise typer.Exit(INTERRUPTED) from None


def error_of(error: KbError) -> dict[str, object]:
    """An error as `--json` tells it."""
    return {"error": {"message": str(error), "type": type(error).__name__, "param": error.param}}


@contextmanager
def progress(as_json: bool, doing: str) -> Iterator["Progress | None"]:
    """A progress bar on a terminal's standard error, or none."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(doing, more="")

        def tell(done: int, total: int, embedded: int) -> None:
            bars.update(bar, completed=done, total=total, more=f"{embedded} texts embedded")

        yield tell


def parsed_json(text: str, param: str) -> object:
    """What an option holds. Raises InvalidInput."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{param} is not JSON: {error}", param=param) from error


def print_json(value: object) -> None:
    """One JSON value on standard output; indented for a person."""
    print(json.dumps(value, ensure_ascii=False, indent=None if not sys.stdout.isatty() else 2))


def say(line: str) -> None:
    """A line of the answer."""
    print(line)


def warn(line: str) -> None:
    """A line beside the answer."""
    print(line, file=sys.stderr)
