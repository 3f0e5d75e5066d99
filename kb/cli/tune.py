"""The command that sets how much a dense search must find."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, say, service

if TYPE_CHECKING:
    from kb.index.tune import Cost


def tune(
    kb: Annotated[str, typer.Argument(help="Knowledge base, by name or id.")],
    recall: Annotated[
        float | None,
        typer.Option(help="Of the best, the share to find on average, 0.9 to 0.9999; tells the present one."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show or set the recall target of a knowledge base's dense index, also beside a server."""
    with service(data_dir, as_json) as opened:
        tuned = opened.tune(kb, recall)
    if as_json:
        print_json(asdict(tuned))
        return
    say(f"recall target of {kb}: {tuned.recall}")
    after = tuned.after
    if after is None:
        say("its index is not written yet: every vector is scanned, which is exact at any target")
        return
    say(f"index: {after.rows} vectors, {_KINDS[after.kind]}")
    if after.effort is None:
        from kb.index.policy import FLAT_UNTIL

        say(f"exact at any target; the target counts above {FLAT_UNTIL} vectors")
    if recall is not None and tuned.before is not None:
        say(f"before  {_shown(tuned.before)}")
    say(f"now     {_shown(after)}")


_KINDS = {"flat": "scanned", "codes": "by two-bit codes", "graph": "by a graph, under filters also by codes"}


def _shown(cost: "Cost") -> str:
    from kb.index.policy import way

    times = {10: cost.ms_10, 100: cost.ms_100}
    effort = cost.effort
    if effort is None:
        return "; ".join(["exact", *(f"best {k} in {ms:.3f} ms" for k, ms in times.items())])
    by = {k: way(cost.rows, cost.rows, k, effort, graph=cost.kind == "graph") for k in times}
    found = [
        f"best {k} in {ms:.3f} ms ({f'beam {effort.beam(k)}' if by[k] == 'graph' else by[k]})"
        for k, ms in times.items()
    ]
    refined = f"{effort.refine(10)} and {effort.refine(100)} codes refined"
    return "; ".join([f"for {effort.recall}", *found, refined])
