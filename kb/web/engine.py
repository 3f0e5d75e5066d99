"""What every engine's answer goes through: asked, judged, and turned into hits."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from kb.errors import RemoteFailed
from kb.types import Domains, WebHit
from kb.web.domains import admits
from kb.web.guard import Guard, Limits

# Where it leads is not followed: what the operator allowed, a private network too, is the engine's alone.
_LIMITS = Limits(bytes=4_000_000, seconds=15, redirects=0)
_LONGEST = 2000


async def asked(
    guard: Guard, name: str, url: str, parameters: Mapping[str, str], headers: Mapping[str, str]
) -> dict[str, Any]:
    """The JSON object that an engine answers with. Raises RemoteFailed, RemoteTimeout, AddressRefused."""
    answer = await guard.fetch(
        f"{url}?{urlencode(parameters)}", headers={"accept": "application/json", **headers}, limits=_LIMITS
    )
    if answer.status != 200:
        advice = {
            401: "; its key is not taken",
            403: "; is json among its formats, or its key taken?",
            429: "; it is asked too often",
        }
        raise RemoteFailed(f"{name} answered {answer.status}{advice.get(answer.status, '')}")
    try:
        found = json.loads(answer.content)
    except ValueError as error:
        raise RemoteFailed(f"{name} answered with what is no JSON") from error
    if not isinstance(found, dict):
        raise RemoteFailed(f"{name} answered with JSON that is no object")
    return found


def hits_of(results: object, snippet: str, dates: Iterable[str], domains: Domains) -> list[WebHit]:
    """Results that name a page within the domains, each page once. dates: fields, the first that is set."""
    found: dict[str, WebHit] = {}
    for one in results if isinstance(results, list) else ():
        if not isinstance(one, dict) or not isinstance(url := one.get("url"), str):
            continue
        if len(url) > _LONGEST or not admits(domains, url):
            continue
        date = next((text for field in dates if (text := _text(one, field))), "")
        found.setdefault(url, WebHit(url, _text(one, "title"), _text(one, snippet), date))
    return list(found.values())


def _text(one: Mapping[str, Any], field: str) -> str:
    value = one.get(field)
    return value[:_LONGEST] if isinstance(value, str) else ""
