"""A server as a run names it, and what it is said to have; nothing is asked here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kb.errors import InvalidInput
from kb.remote.approval import Approval, ToolFilter, digest
from kb.remote.connectors import Connectors
from kb.web.addresses import PRIVATE, Network

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,8000}")
# The protocol's and the connection's own.
_NOT_TO_BE_SET = re.compile(
    r"host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|accept.*|keep-alive|proxy-.*"
    r"|mcp-.*|last-event-id",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Address:
    """headers: with the credentials. allow: networks that may be reached beside the public one."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A server that is started here, and speaks over its standard input and output."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """label: what the run calls it. allowed, approvals: the caller's and the operator's; all of them hold.

    connect_seconds, list_seconds, call_seconds: until it is ready, has listed its tools, has answered a call.
    """

    label: str
    at: Address | Command
    allowed: tuple[ToolFilter, ...] = ()
    approvals: tuple[Approval, ...] = ("always",)
    connect_seconds: float = 30
    list_seconds: float = 30
    call_seconds: float = 120

    @property
    def identity(self) -> str:
        """Which server it is, in 64 hex digits: its address or its command, without credentials."""
        if isinstance(self.at, Address):
            return digest(["url", self.at.url])
        return digest(["command", self.at.command, list(self.at.args)])


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """description: as a model may read it. read_only: the server's own claim.

    fingerprint: 64 hex digits over the server's identity and all that it says of the tool.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    read_only: bool
    fingerprint: str


class McpServer(BaseModel):
    """An entry of `tools` in a request: https://platform.openai.com/docs/guides/tools-connectors-mcp.

    server_label, authorization and the others mean what they mean there; require_approval is "always" where
    it is not given, or the operator's word for a connector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["mcp"]
    server_label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    server_description: str | None = Field(None, max_length=10_000)
    server_url: str | None = Field(None, min_length=1, max_length=2_000)
    connector_id: str | None = Field(None, max_length=64)
    headers: dict[str, str] | None = Field(None, max_length=50, repr=False)
    authorization: str | None = Field(None, max_length=8_000, repr=False)
    allowed_tools: ToolFilter | None = None
    require_approval: Approval | None = None

    @field_validator("allowed_tools", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        return {"tool_names": given} if isinstance(given, list) else given

    @field_validator("headers")
    @classmethod
    def _sendable(cls, given: dict[str, str] | None) -> dict[str, str] | None:
        for name, value in (given or {}).items():
            if not _HEADER_NAME.fullmatch(name) or _NOT_TO_BE_SET.fullmatch(name):
                raise ValueError(f"the header {name[:100]!r} cannot be set")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the value of {name!r} cannot be sent: ASCII on one line, 8,000 at most")
        return given

    @field_validator("authorization")
    @classmethod
    def _one_line(cls, given: str | None) -> str | None:
        if given is not None and not _HEADER_VALUE.fullmatch(given):
            raise ValueError("a token is ASCII on one line")
        return given

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.server_url is None) == (self.connector_id is None):
            raise ValueError("give server_url or connector_id, one of them")
        if self.connector_id is not None and (self.headers or self.authorization):
            raise ValueError(
                "headers and authorization go with server_url; a connector has its operator's credentials"
            )
        if self.server_url is not None:
            if not re.match(r"https?://", self.server_url, re.I):
                raise ValueError("server_url must begin with https://")
            if re.match(r"https?://[^/?#\\]*@", self.server_url, re.I):
                # It is kept and shown again, as headers are not.
                raise ValueError("a password does not belong into server_url; send it in headers")
            if (self.headers or self.authorization) and not self.server_url.lower().startswith("https:"):
                raise ValueError("credentials go to https:// only")
        return self

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Raises InvalidInput, never with a value in it."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False)
            told = [": ".join(filter(None, [".".join(map(str, one["loc"])), one["msg"]])) for one in faults]
            at = str(faults[0]["loc"][0]) if faults[0]["loc"] else "tools"
            raise InvalidInput("; ".join(told[:3]), param=at) from None

    def described(self, connectors: Connectors) -> RemoteServer:
        """With what the operator set up for it. Raises InvalidInput."""
        allowed = () if self.allowed_tools is None else (self.allowed_tools,)
        if self.server_url is not None:
            headers = dict(self.headers or {})
            if self.authorization:
                headers["authorization"] = f"Bearer {self.authorization}"
            at = Address(self.server_url, headers)
            return RemoteServer(self.server_label, at, allowed, (self.require_approval or "always",))
        assert self.connector_id is not None
        set_up = connectors.get(self.connector_id)
        if set_up.command is not None:
            place: Address | Command = Command(set_up.command, set_up.args, set_up.env)
        else:
            headers = dict(set_up.headers)
            if (key := set_up.key()) is not None:
                headers["authorization"] = f"Bearer {key}"
            place = Address(str(set_up.url), headers, PRIVATE if set_up.allow_private else ())
        return RemoteServer(
            label=self.server_label,
            at=place,
            allowed=(*allowed, *([] if set_up.allowed_tools is None else [set_up.allowed_tools])),
            approvals=(set_up.require_approval, *([self.require_approval] if self.require_approval else [])),
            connect_seconds=set_up.connect_seconds,
            list_seconds=set_up.list_seconds,
            call_seconds=set_up.call_seconds,
        )
