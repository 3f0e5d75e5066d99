"""What an endpoint does wrong, told apart: what may pass, what never will, and what breaks off."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from kb.errors import InvalidInput, UpstreamBusy, UpstreamFailed, UpstreamRefused, UpstreamTimeout
from kb.redact import credentials, redacted

if TYPE_CHECKING:
    import openai

MOST_RETRY_AFTER = 60.0
"""Seconds that an endpoint may ask to be left alone for, and still be asked again here."""

_MAY_PASS = {408, 409, 425, 429}
# A window that is too small is told in many words, and by few as OpenAI does it, in `code`.
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window)|too many tokens"
    r"|prompt is too long",
    re.I,
)
_SHOWN = 500


class Broken(Exception):
    """A stream that cannot be read to its end. reason: a short word for the ledger and the answer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Failed(Exception):
    """One try that gave nothing. reason: a short word for the ledger; error: what the caller is told.

    may_pass: whether another try here makes sense. elsewhere: whether one at another endpoint does. sent:
    whether the request reached the endpoint, and may be charged for. after: seconds that it asked to wait.
    """

    def __init__(
        self,
        reason: str,
        error: UpstreamFailed,
        *,
        may_pass: bool,
        elsewhere: bool = True,
        sent: bool = False,
        after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        self.may_pass = may_pass
        self.elsewhere = elsewhere
        self.sent = sent
        self.after = after


def of_status(endpoint: str, error: "openai.APIStatusError", key: str, now: datetime) -> Failed:
    """What an error status means. key: that was sent, which some repeat in their refusal."""
    status, said = error.status_code, _said(error, key)
    after = retry_after(error.response.headers.get("retry-after"), now)
    reason = f"http_{status}"
    if status == 429:
        told = UpstreamBusy(f"{endpoint} is asked too much: {said}", after=after)
        return Failed(reason, told, may_pass=_again(error, True), after=after)
    if status in (401, 403, 404) or 300 <= status < 400:
        # How the operator set the endpoint up, not what the caller sent.
        told_operator = UpstreamFailed(f"{endpoint} cannot be used as it is set up ({status}): {said}")
        return Failed(reason, told_operator, may_pass=False)
    if status < 500 and status not in _MAY_PASS:
        code = (
            "context_length_exceeded"
            if _TOO_LONG.search(f"{error.code} {said}")
            else (error.code or "refused")
        )
        refusal = UpstreamRefused(f"{endpoint}: {said}", param=error.param, code=str(code))
        return Failed(reason, refusal, may_pass=False, elsewhere=False)
    if _TOO_LONG.search(f"{error.code} {said}"):
        # Some servers answer 500 for it; it will not pass.
        refusal = UpstreamRefused(f"{endpoint}: {said}", code="context_length_exceeded")
        return Failed(reason, refusal, may_pass=False, elsewhere=False)
    failure = UpstreamFailed(f"{endpoint} failed ({status}): {said}")
    return Failed(reason, failure, may_pass=_again(error, True), after=after)


def of_key(error: InvalidInput) -> Failed:
    """The key cannot be read: that is the operator's to mend, and another endpoint may have its own."""
    return Failed("no_key", UpstreamFailed(str(error)), may_pass=False)


def of_connection(endpoint: str, error: Exception) -> Failed:
    """The endpoint could not be reached, or hung up before it answered."""
    # The SDK's error says "Connection error."; the reason is what it came from.
    cause = error.__cause__ or error
    refused = type(cause).__name__ in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError")
    what = "cannot be reached" if refused else "hung up"
    told = UpstreamFailed(f"{endpoint} {what}: {str(cause) or type(cause).__name__}"[:_SHOWN])
    # Nothing was answered, so nothing is charged. A server that closes a connection it was to keep open may
    # do so just when the next request is on it.
    return Failed("unreachable" if refused else "reset", told, may_pass=True)


def too_slow(endpoint: str, what: str, seconds: float) -> Failed:
    """Nothing came in time; asking once more would take as long again."""
    told = UpstreamTimeout(f"{endpoint} sent nothing within {seconds:g} s ({what})")
    return Failed("timeout", told, may_pass=False, sent=True)


def retry_after(given: str | None, now: datetime) -> float | None:
    """Seconds, of a header that holds seconds or a date; None where it tells nothing that can be."""
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            at = parsedate_to_datetime(given)
        except ValueError:
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return seconds if 0 <= seconds < 1e9 else None


def _again(error: "openai.APIStatusError", otherwise: bool) -> bool:
    asked = error.response.headers.get("x-should-retry")
    return asked == "true" if asked in ("true", "false") else otherwise


def _said(error: "openai.APIStatusError", key: str) -> str:
    """The endpoint's words, without a page of HTML around them, and without the key."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    text = said if isinstance(said, str) else error.response.reason_phrase
    text = redacted(text, credentials({"key": key}))
    return " ".join(text.split())[:_SHOWN] or "it says nothing"
