"""Commands that change the embedding model of a knowledge base."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, progress, say, service, warn

if TYPE_CHECKING:
    from kb.types import Reembedded

Name = Annotated[str, typer.Argument(metavar="KB", help="Knowledge base, by name or id.")]


def reembed(
    kb: Name,
    model: Annotated[str, typer.Option(help="A sentence-transformers model, by name or path.")],
    judge: Annotated[
        Path | None, typer.Option(help="A folder with queries.jsonl and qrels.tsv to compare both models on.")
    ] = None,
    only_if_better: Annotated[
        bool, typer.Option("--only-if-better", help="Stay where the new model is not better on --judge.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a knowledge base under another embedding model, while it is searched and written."""
    with service(data_dir, as_json) as opened, progress(as_json, "Embedding") as tell:
        judging = None
        if judge is not None:
            from kb.evaluate import judge as judged_by

            judging = judged_by(judge)
        done = opened.reembed(kb, model, judge=judging, only_if_better=only_if_better, progress=tell)
    _show(kb, done, as_json)


def rollback(kb: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Return to the model before the last reembed; once more undoes it."""
    with service(data_dir, as_json) as opened, progress(as_json, "Embedding") as tell:
        done = opened.rollback(kb, progress=tell)
    _show(kb, done, as_json)


def forget(kb: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Drop the model that a rollback would return to, and one half built, with their vectors and indexes."""
    with service(data_dir, as_json) as opened:
        dropped = opened.forget(kb)
    print_json({"dropped": dropped}) if as_json else say(f"dropped: {', '.join(dropped) or 'nothing kept'}")


def _show(kb: str, done: "Reembedded", as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    if done.before is not None:
        say(f"nDCG@10 {done.before} under {done.previous}, {done.after} under {done.embedder}")
    if done.switched:
        say(
            f"{kb} is under {done.embedder} now; {done.previous} is kept: kb rollback {kb}, or kb forget {kb}"
        )
    else:
        say(f"{kb} stays under {done.previous}; what was built is kept for another run, or kb forget {kb}")
    say(f"{done.embedded} texts embedded, {done.seconds:.1f} s")
    if done.remark:
        warn(done.remark)
