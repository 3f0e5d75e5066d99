"""Trip 2b and 2c: a question becomes passages, a call sized to its model, and a cited answer.

`prepare -> stream`: all that can be refused is refused by `prepare`, before anything is spent; `stream` calls
the model and writes the answer's items and events.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from kb.agent import ground, history
from kb.agent.asked import Asked, Decision, Grounded, Run
from kb.agent.cite import Citer
from kb.agent.ground import Before
from kb.agent.loop import Loop
from kb.agent.numbers import Numbers, read
from kb.agent.output import Event
from kb.agent.toolbox import LEAST_ROUND, ServerTool, Toolbox, own_tools
from kb.agent.web_tool import WebTool, hosted, is_own_search
from kb.agent.writer import Writer
from kb.catalog.approvals import Approval
from kb.catalog.database import new_id, now
from kb.context.pack import LEAST_BUDGET, Place
from kb.context.receipt import receipt_of
from kb.context.window import window_of
from kb.errors import InvalidInput, KbError
from kb.gateway.core import Gateway
from kb.gateway.events import Item, ModelCall
from kb.metering.rates import Usage, credits_of, plain, tier_of
from kb.models.registry import Model, Tier
from kb.service import Service
from kb.web.page import is_web
from kb.web.tool import NAME

log = logging.getLogger(__name__)


class Agent:
    """Answers. Thread-safe, but each answer is streamed within one event loop."""

    def __init__(self, service: Service, gateway: Gateway | None = None) -> None:
        """gateway: None for the service's own."""
        self._service = service
        self._gateway = gateway

    def prepare(self, asked: Asked) -> Run:
        """What a request comes to: what was said before, what was found for it, and the call it needs.

        Blocks while it searches. Raises NotFound, InvalidInput, WindowExceeded, NotAllowed and
        InsufficientCredits; not NoEndpoint, so that what was found can be shown without a model.
        """
        service = self._service
        model = service.language_models.get(asked.model)
        tier = self._tier(asked, model)
        ledger, key_id = service.ledger, asked.caller.key_id
        # Whoever cannot pay for the answer is told so before anything is searched.
        most = min(asked.max_output_tokens or model.max_output_tokens, model.max_output_tokens)
        ledger.check(key_id, model.id, tier, credits_of(model, tier, Usage(0, most)))
        # An endpoint that searches the web by itself does so better than by being asked for words.
        web_search = hosted(asked.web) if asked.web and service.endpoints.search_web(model.id) else None
        toolbox = self._toolbox(asked, model, searches_web=web_search is None)
        if (asked.functions or asked.servers or toolbox) and not model.tools:
            raise InvalidInput(f"{model.id} takes no tools", param="tools")
        if "image" not in model.input and history.has_pictures(asked.items):
            raise InvalidInput(f"{model.id} reads no pictures", param="input")
        said, before = self._before(asked)
        cites = asked.is_prose and bool(asked.grounding or toolbox)
        instructions = _instructions(asked, toolbox, cites=cites)
        functions = [*asked.functions, *toolbox.functions]
        for_calls = LEAST_ROUND if toolbox or asked.servers else 0
        least = for_calls + (LEAST_BUDGET if asked.grounding else 0)
        left_by = partial(
            window_of,
            model,
            instructions=instructions or "",
            tools=[*functions, *([web_search] if web_search else [])],
            max_output_tokens=asked.max_output_tokens,
            least=least,
        )
        items = history.as_calls([*said, *asked.items], before.searches)
        if asked.truncate:
            items = history.newest(items, left_by().context - least)
        window = left_by(history=history.tokens_of(items))
        grounded = self._grounded(asked, items, window.context - for_calls, before)
        packed = grounded.made.packed.tokens if grounded else 0
        call = ModelCall(
            model=model,
            items=_with_passages(items, grounded),
            input_tokens=window.instructions + window.tools + window.history + packed,
            max_output_tokens=window.output,
            instructions=instructions,
            tools=asked.functions,
            parameters=_parameters(asked, toolbox),
            web_search=web_search,
            tier=tier,
            caller=asked.caller,
            run_id=new_id("resp"),
            knowledge_base_ids=grounded.knowledge_base_ids if grounded else (),
        )
        ledger.check(key_id, model.id, tier, credits_of(model, tier, Usage(call.input_tokens, window.output)))
        assert call.run_id is not None
        numbers = Numbers(grounded.sources if grounded else (), before.sources)
        if asked.decisions:
            # The other word is refused from here on: the last thing of all, where it can be acted on.
            service.endpoints.of(model.id)
        # A client may say the same twice.
        decided = {
            one.id: one for one in (*asked.decided, *(self._decided(word, asked) for word in asked.decisions))
        }
        return Run(
            call.run_id,
            int(time.time()),
            asked,
            model,
            window,
            call,
            grounded,
            toolbox,
            numbers,
            cites,
            tuple(decided.values()),
        )

    def writer(self, run: Run) -> Writer:
        """What `stream` writes a response with."""
        return Writer(self.begun(run), self._citer(run))

    async def stream(self, run: Run, writer: Writer) -> AsyncGenerator[Event, None]:
        """The events of a response as they come; the last one is completed, incomplete or failed.

        Nothing comes before the model's first part is there; until then whatever `Gateway.call` raises is
        raised here. What goes wrong afterwards ends the response as failed.
        """
        gateway = self._gateway or self._service.gateway
        loop = Loop(run, writer, gateway, self._service.catalog)
        async with aclosing(loop.events()) as events:
            try:
                async for event in events:
                    yield event
                assert loop.last is not None
                yield writer.ended(_finished(run, writer, loop))
            except Exception as error:
                if run.asked.background or not writer.has_begun:
                    # Whoever asked has been told nothing yet that would have to be ended.
                    raise
                message = str(error) if isinstance(error, KbError) else "internal error"
                log.warning("response %s broke off: %s", run.id, message, exc_info=message != str(error))
                failure = {"code": "server_error", "message": message}
                for event in writer.broke_off(status="failed", error=failure):
                    yield event

    def begun(self, run: Run) -> dict[str, Any]:
        """A response of which nothing is written yet."""
        asked = run.asked
        return {
            "id": run.id,
            "object": "response",
            "created_at": run.created_at,
            "status": "queued",
            "background": asked.background,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_credits": None if asked.max_credits is None else plain(asked.max_credits),
            "max_output_tokens": asked.max_output_tokens,
            "max_tool_calls": asked.max_tool_calls,
            "metadata": dict(asked.metadata),
            "model": run.model.id,
            "output": [],
            "previous_response_id": asked.previous_response_id,
            "service_tier": None,
            "store": asked.store,
            "truncation": "auto" if asked.truncate else "disabled",
            "usage": None,
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "text": {"format": {"type": "text"}},
            **asked.parameters,
            **asked.echo,
        }

    def _tier(self, asked: Asked, model: Model) -> Tier:
        """The tier to ask for: of "auto", the model's first that the key may use."""
        if asked.service_tier != "auto":
            return tier_of(asked.service_tier)
        key_id = asked.caller.key_id
        allowed = self._service.ledger.spent(key_id).limits.tiers if key_id else None
        offered = model.credits.tiers()
        # Where none is both, the refusal of the first says what there is.
        return next(
            (tier for tier in offered if allowed is None or tier in allowed), next(iter(offered), "standard")
        )

    def _before(self, asked: Asked) -> tuple[list[Item], Before]:
        """What was said in the responses that this one goes on from, and what the model was shown there."""
        if asked.previous_response_id is None:
            return [], Before()
        catalog = self._service.catalog
        chain = catalog.responses.chain(asked.previous_response_id, asked.caller.key_id)
        said = [item for one in chain for item in (*one.input, *one.body["output"])]
        searched = [one.id for one in chain if any(map(is_own_search, one.body["output"]))]
        searches = {step.call_id: step for name in searched for step in catalog.steps.of(name)}
        if sources := tuple(source for one in chain for source in read(one.body.get("sources", ()))):
            # The model reads these again, under their numbers: what is packed comes behind them.
            return said, Before(sources=sources, searches=searches)
        tokens = chain[-1].body.get("context", {}).get("tokens", 0)
        return said, Before(tuple(Place(*place) for place in chain[-1].places), tokens, searches=searches)

    def _decided(self, decision: Decision, asked: Asked) -> Approval:
        """A call that was asked about, with what was decided: the first word counts, whoever says it."""
        approvals, key_id = self._service.catalog.approvals, asked.caller.key_id
        waiting = approvals.get(decision.approval_id, key_id)
        if waiting.response_id != asked.previous_response_id:
            raise InvalidInput(
                f"{waiting.id} was asked for by {waiting.response_id}: go on from that",
                param="previous_response_id",
            )
        self._service.catalog.responses.expire(now())
        return approvals.decide(waiting.id, key_id, approve=decision.approve, reason=decision.reason)[0]

    def _toolbox(self, asked: Asked, model: Model, *, searches_web: bool) -> Toolbox:
        """The tools of this run, which nothing that it reads can add to. Raises InvalidInput."""
        window = min(model.context_window, self._service.settings.context_window)
        tools: list[ServerTool] = []
        if asked.own_tools:
            said = "\n".join(history.text_of(item) for item in asked.items if item.get("role") == "user")
            tools += own_tools(self._service, asked.metadata, said, window)
        if asked.web and searches_web:
            tools.append(WebTool(self._service.web, asked.web, window))
        return Toolbox(tools, asked.functions)

    def _grounded(self, asked: Asked, items: list[Item], budget: int, before: Before) -> Grounded | None:
        if asked.grounding is None:
            return None
        if not (queries := history.questions_of(items)):
            raise InvalidInput(
                "there is no question to search for: the input has no text of a user", param="input"
            )
        return ground.ground(self._service, queries, asked.grounding, budget, before)

    def _citer(self, run: Run) -> Callable[[], Citer] | None:
        if not run.cites:
            return None
        contents, numbers = self._service.contents, run.numbers

        def text_of(version_id: str) -> str:
            if is_web(version_id):
                return numbers.page_text(version_id)
            return contents.open(version_id).text

        def page_at(version_id: str, at: int) -> int | None:
            if is_web(version_id):
                return numbers.page_at(version_id, at)
            page = contents.open(version_id).marks.page(at)
            return page.number if page else None

        return lambda: Citer(numbers.sources, text_of, page_at)


def _with_passages(items: list[Item], grounded: Grounded | None) -> list[Item]:
    """The passages go behind the instructions that a conversation begins with: models want those first."""
    if grounded is None:
        return items
    roles = [item.get("role") for item in items]
    at = next((at for at, role in enumerate(roles) if role not in ("system", "developer")), len(items))
    return [*items[:at], ground.message(grounded), *items[at:]]


def _instructions(asked: Asked, toolbox: Toolbox, *, cites: bool) -> str | None:
    given = ground.INSTRUCTIONS if asked.grounding else None
    tools = ground.HOW_TO_LOOK if toolbox else None
    cite = ground.HOW_TO_CITE if cites else None
    return "\n\n".join(filter(None, (given, tools, cite, asked.instructions))) or None


def _parameters(asked: Asked, toolbox: Toolbox) -> dict[str, Any]:
    """As they go on to the model, to which a search of ours is a function."""
    parameters, choice = dict(asked.parameters), asked.parameters.get("tool_choice")
    if NAME in toolbox.tools and isinstance(choice, Mapping) and choice["type"].startswith(NAME):
        parameters["tool_choice"] = {"type": "function", "name": NAME}
    return parameters


def _finished(run: Run, writer: Writer, loop: Loop) -> dict[str, Any]:
    """The response with its end: why, at which tier, for how much, resting on what."""
    ended, usage = loop.last, loop.usage
    assert ended is not None
    fields: dict[str, Any] = {
        "status": ended.status,
        "completed_at": int(time.time()) if ended.status == "completed" else None,
        "service_tier": "default" if ended.tier == "standard" else ended.tier,
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
            "credits": plain(loop.credits),
            "estimated": usage.estimated,
            "beyond_soft_budget": ended.soft_passed,
        },
    }
    if ended.status == "incomplete":
        fields["incomplete_details"] = {"reason": ended.reason}
    if ended.status == "failed":
        fields["error"] = {"code": "server_error", "message": ended.reason}
    if run.cites:
        fields["citations"] = {"verified": writer.verified, "dropped": writer.dropped}
    if added := run.numbers.added:
        fields["sources"] = added
    if run.grounded:
        fields["context"] = receipt_of(run.model, run.window, run.grounded.made)
    return writer.response(**fields)
