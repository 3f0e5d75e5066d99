"""The command that asks a language model, and shows what its answer rests on."""

import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.cli.search import Kb, Where, filter_of
from kb.cli.terminal import INTERRUPTED, AsJson, DataDir, error_of, print_json, say, service, warn

if TYPE_CHECKING:
    from rich.text import Text

    from kb.agent.ask import Answer
    from kb.agent.asked import Run
    from kb.agent.cite import Citation
    from kb.service import Service

# Of a line that is longer, what stands around the quote.
_AROUND = 300


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    kb: Kb,
    model: Annotated[str, typer.Option(help="A language model; `kb models` lists them.")] = "gpt-4.1-mini",
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Print words as they come; so on a terminal.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("-k", "--top-k", help="Hits to begin with; as many as fit.")
    ] = None,
    where: Where = None,
    max_context_tokens: Annotated[
        int | None, typer.Option(help="Of passages; 16,000 if left out, or what the window leaves.")
    ] = None,
    max_output_tokens: Annotated[int | None, typer.Option(help="Of the answer; the model's most.")] = None,
    tier: Annotated[str, typer.Option(help="standard, priority, … ; `kb models` has their rates.")] = "auto",
    show_context: Annotated[
        bool, typer.Option("--show-context", help="Print the passages that the model is given.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Ask a language model, which answers from your documents and cites them."""
    from kb.agent.ask import answered
    from kb.agent.asked import Asked, Grounding
    from kb.agent.core import Agent
    from kb.errors import NoEndpoint

    streams = not as_json and (sys.stdout.isatty() if stream is None else stream)
    with service(data_dir, as_json) as opened:
        asked = Asked(
            model=model,
            items=({"type": "message", "role": "user", "content": question},),
            max_output_tokens=max_output_tokens,
            service_tier=tier,
            grounding=Grounding(
                tuple(kb), where=filter_of(where), top_k=top_k, max_tokens=max_context_tokens
            ),
            store=False,
        )
        run = Agent(opened).prepare(asked)
        if show_context and not as_json:
            _show_context(opened, run)
        try:
            answer = answered(opened, run, _tell if streams else None)
        except NoEndpoint as error:
            if as_json:
                print_json({**error_of(error), "context": _context(run)})
                raise typer.Exit(1) from None
            if not show_context:
                _show_context(opened, run)
            raise
        except KeyboardInterrupt:
            warn("\nstopped; what it cost until then is in `kb usage`")
            raise typer.Exit(INTERRUPTED) from None
        if as_json:
            print_json(answer.response)
        else:
            say("" if streams else answer.text)
            _show_sources(opened, answer)
            say(_spent(answer))
    if answer.status == "incomplete":
        warn(f"the answer is incomplete: {answer.reason}")
        raise typer.Exit(1)


def _tell(text: str) -> None:
    print(text, end="", flush=True)


def _spent(answer: "Answer") -> str:
    usage = answer.usage
    about = ", estimated" if usage.estimated else ""
    return (
        f"{answer.response['model']}, {answer.tier}: {usage.input:,} tokens in ({usage.cached:,} cached), "
        f"{usage.output:,} out, {answer.response['usage']['credits']} credits{about}; "
        f"citations: {len(answer.citations)} hold, {answer.dropped} dropped"
    )


def _context(run: "Run") -> Mapping[str, Any]:
    from kb.context.receipt import receipt_of

    assert run.grounded is not None
    made = run.grounded.made
    return {"text": made.packed.text, **receipt_of(run.model, run.window, made)}


def _show_context(opened: "Service", run: "Run") -> None:
    from rich.text import Text

    assert run.grounded is not None
    for source in run.grounded.sources:
        text = opened.text(source.content_version_id)
        first, last = _lines(text, source.start, source.end)
        shown = _head(source.number, source.title, f"{source.uri}  {_numbered(first, last)}")
        _print(shown, Text(text[source.start : source.end]))


def _show_sources(opened: "Service", answer: "Answer") -> None:
    """Each number once, in the order of the answer; under it the lines of every place that it cites."""
    numbers = list(dict.fromkeys(one.number for one in answer.citations))
    cited = sorted(set(_places(answer)), key=lambda one: (numbers.index(one[0]), one[1:]))
    by_number = {one.number: one for one in answer.citations}
    for number, places in groupby(cited, key=lambda one: one[0]):
        source = by_number[number]
        _print(_head(number, source.title, source.uri), *_quotes(opened, source, [at for _, *at in places]))


def _places(answer: "Answer") -> Iterator[tuple[int, int, int, int | None]]:
    for one in answer.citations:
        yield one.number, one.start, one.end, one.page


def _quotes(opened: "Service", source: "Citation", places: list[list[Any]]) -> Iterator["Text"]:
    from rich.text import Text

    text = opened.text(source.content_version_id)
    for start, end, page in places:
        first, last = _lines(text, start, end)
        where = (f"page {page}, " if page else "") + _numbered(first, last)
        begin = max(text.rfind("\n", 0, start) + 1, start - _AROUND)
        stop = text.find("\n", end - 1)
        stop = min(len(text) if stop < 0 else stop, end + _AROUND)
        shown = Text(f"{where}\n", style="dim")
        shown.append(text[begin:start], style="not dim").append(text[start:end], style="not dim bold reverse")
        yield shown.append(text[end : max(end, stop)], style="not dim")


def _lines(text: str, start: int, end: int) -> tuple[int, int]:
    """The numbers of the lines that text[start:end] begins and ends in, from 1."""
    first = text.count("\n", 0, start) + 1
    return first, first + text.count("\n", start, end - 1)


def _numbered(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first}-{last}"


def _head(number: int, title: str, where: str) -> "Text":
    from rich.text import Text

    return Text(f"\n[{number}] {title}", style="bold").append(f"  {where}", style="not bold dim")


def _print(head: "Text", *bodies: "Text") -> None:
    """Lines as they are, set in; a terminal shows them in its own width."""
    from rich.console import Console
    from rich.padding import Padding

    console = Console()
    console.print(head, soft_wrap=True)
    for body in bodies:
        if console.is_terminal:
            console.print(Padding(body, (0, 0, 0, 4)))
        else:
            # What reads a pipe wants the lines of the document.
            for line in body.plain.split("\n"):
                say(f"    {line}")
