"""What goes wrong becomes a status and one body: {"error": {"message", "type", "param", "code"}}.

The status of each `kb` error stands in the table below and nowhere else.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from kb.errors import (
    AddressRefused,
    AlreadyExists,
    DocumentRefused,
    InsufficientCredits,
    Interrupted,
    InvalidFilter,
    InvalidInput,
    KbError,
    ModelMismatch,
    ModelNotFound,
    ModelUnavailable,
    NoEndpoint,
    NotAllowed,
    NotFound,
    RemoteFailed,
    RemoteTimeout,
    StorageFailed,
    StorageFull,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    WindowExceeded,
)

# By the nearest class of the error's own line of descent; one that is not here is ours to mend: 500.
_STATUS: dict[type, tuple[int, str]] = {
    InvalidFilter: (422, "invalid_filter"),
    WindowExceeded: (400, "context_length_exceeded"),
    AddressRefused: (422, "address_refused"),
    InvalidInput: (422, "invalid_input"),
    NotFound: (404, "not_found"),
    ModelNotFound: (404, "model_not_found"),
    AlreadyExists: (409, "already_exists"),
    NotAllowed: (403, "not_allowed"),
    InsufficientCredits: (402, "insufficient_credits"),
    DocumentRefused: (422, "document_refused"),
    ModelUnavailable: (503, "model_unavailable"),
    NoEndpoint: (503, "no_endpoint"),
    UpstreamFailed: (502, "upstream_failed"),
    UpstreamRefused: (400, "upstream_refused"),
    UpstreamBusy: (429, "upstream_busy"),
    UpstreamTimeout: (504, "upstream_timeout"),
    RemoteFailed: (502, "remote_failed"),
    RemoteTimeout: (504, "remote_timeout"),
    ModelMismatch: (409, "model_mismatch"),
    StorageFull: (507, "storage_full"),
    StorageFailed: (500, "storage_failed"),
    Interrupted: (503, "stopping"),
}
_TYPES = {
    401: "authentication_error",
    402: "insufficient_credits",
    403: "permission_error",
    404: "not_found_error",
    429: "overloaded_error",
}
_CODES = {400: "bad_request", 404: "unknown_path", 405: "method_not_allowed"}
# Clients that send a failed request again are not to when there is nothing left to pay it with, nobody to
# answer it, or when the gateway has tried again already.
_NOT_AGAIN = {InsufficientCredits, NoEndpoint, UpstreamFailed, UpstreamTimeout}
# Faults told in one message; a thousand documents can have a thousand.
_TOLD = 5


class ApiError(Exception):
    """A request that the edge itself refuses. param: the field at fault; code: stable, for programs."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers


def answer(error: ApiError) -> Response:
    """The response that an error becomes."""
    # Escaped to ASCII: a message may quote what was sent, and that may be no text at all.
    body = json.dumps(error_body(error))
    return Response(body, error.status, headers=error.headers, media_type="application/json")


def error_body(error: ApiError) -> dict[str, dict[str, str | None]]:
    """The body of that response."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def invalid(error: ValidationError) -> ApiError:
    """What pydantic found in a body: the first field at fault is named, the message has all."""
    return _invalid([(one["loc"], one["type"], one["msg"]) for one in error.errors(include_url=False)])


def internal() -> ApiError:
    """Something is wrong here; what it is stands in the log, beside the request's id."""
    return ApiError(500, "internal_error", "internal error; the server's log has it under this x-request-id")


def of_library(error: KbError) -> ApiError | None:
    """What an error of `kb` is told as; None for one that is not the caller's business."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            status, code = _STATUS[kind]
            headers = {"x-should-retry": "false"} if kind in _NOT_AGAIN else {}
            if isinstance(error, UpstreamBusy) and error.after is not None:
                headers["retry-after"] = str(math.ceil(error.after))
            if isinstance(error, UpstreamRefused):
                code = error.code
            return ApiError(status, code, str(error), param=error.param, headers=headers)
    return None


def install(app: FastAPI) -> None:
    """Have `app` answer every error in the one form."""

    async def of_kb(_: Request, error: Exception) -> Response:
        told = of_library(error) if isinstance(error, KbError) else None
        if told is None:
            # It goes up to the log.
            raise error
        return answer(told)

    async def of_edge(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return answer(error)

    async def of_field(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # The first part of a place is where FastAPI read it: in the query, the path or a header.
        return answer(_invalid([(one["loc"][1:], one["type"], one["msg"]) for one in error.errors()]))

    async def of_routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "bad_request")
        headers = {"allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        return answer(ApiError(error.status_code, code, str(error.detail), headers=headers))

    app.add_exception_handler(KbError, of_kb)
    app.add_exception_handler(ApiError, of_edge)
    app.add_exception_handler(RequestValidationError, of_field)
    app.add_exception_handler(HTTPException, of_routing)


def _methods(request: Request) -> list[str]:
    """Those that a path knows. The routing tells only those of its first route."""
    routes = [
        route for route in _flat(request.app.routes) if route.matches(request.scope)[0] is not Match.NONE
    ]
    # A name may also be read as the id that another path ends in, which is not what it stands for.
    same = [route for route in routes if getattr(route, "path", None) == getattr(routes[0], "path", None)]
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in same)
    ]


def _flat(routes: Sequence[BaseRoute]) -> Iterator[BaseRoute]:
    """Those of routers that are included as well; FastAPI keeps each in one that has no path."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from _flat(included.routes)


def _invalid(faults: Sequence[tuple[Sequence[int | str], str, str]]) -> ApiError:
    """From the place, kind and message of each fault; a place is shown in dotted form."""
    told = [(".".join(map(str, place)), kind, message) for place, kind, message in faults]
    message = "; ".join(f"{at}: {message}" if at else message for at, _, message in told[:_TOLD])
    at, kind, _ = told[0]
    return ApiError(
        422, "invalid_json" if kind == "json_invalid" else "invalid_input", message, param=at or None
    )
