"""The command that tells what calls of language models came to."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, say, service

if TYPE_CHECKING:
    from kb.catalog.usage import Total


class By(StrEnum):
    """What calls can be grouped by."""

    day = "day"
    key = "key"
    model = "model"
    tier = "tier"
    knowledge_base = "knowledge_base"


def usage(
    by: Annotated[By | None, typer.Option(help="One line for each, instead of one for all calls.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From this day, or instant like 2026-11-24T09:30:00Z, on; UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this day or instant, which is not in.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """What calls of language models came to: tokens and credits."""
    with service(data_dir, as_json) as opened:
        from kb.catalog.usage import Total
        from kb.metering import table
        from kb.metering.periods import instant

        start = instant(since, param="since") if since else None
        end = instant(until, param="until") if until else None
        totals = opened.ledger.usage(by.value if by else None, start, end)
        if as_json:
            print_json({"data": [table.shown(one) for one in totals]})
        elif as_csv:
            print(table.as_csv(Total, totals), end="")
        else:
            for one in totals:
                say(_line(one))


def _line(total: "Total") -> str:
    from kb.metering.rates import plain

    group = "  ".join(part for part in (total.group, total.name) if part)
    failed = f" ({total.failed} failed)" if total.failed else ""
    estimated = f"  {total.estimated} estimated" if total.estimated else ""
    at_work = f"  {total.open} at work, up to {plain(total.reserved)} credits" if total.open else ""
    return (
        f"{group or '-'}  {total.calls} calls{failed}  {total.input:,} tokens in ({total.cached:,} cached), "
        f"{total.output:,} out  {plain(total.credits)} credits{estimated}{at_work}"
    )
