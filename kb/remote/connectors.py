"""MCP servers that an operator set up: a file, checked. Only from here comes a command that is run."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, field_validator, model_validator

from kb.errors import InvalidInput
from kb.remote.approval import Approval, ToolFilter

HOW_TO_SET = (
    "name a file in KB_CONNECTORS with a [[connector]] of id and url (or command and args), and key_env (the "
    "variable that holds its key)"
)
"""What to tell whoever has no connector."""

_Seconds = Annotated[float, Field(gt=0, le=3_600)]


class Connector(BaseModel):
    """A server at a URL, or one that is started here. headers and key: sent to the URL, the key as a bearer.

    allowed_tools, require_approval: what callers may narrow and not widen. allow_private: whether the URL may
    be of loopback or a private network. connect_seconds: until the server is ready, started ones included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    url: HttpUrl | None = None
    command: str | None = Field(None, min_length=1)
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    headers: dict[str, str] = {}
    key_env: str | None = None
    key_file: Path | None = None
    allowed_tools: ToolFilter | None = None
    require_approval: Approval = "always"
    allow_private: bool = False
    connect_seconds: _Seconds = 30
    list_seconds: _Seconds = 30
    call_seconds: _Seconds = 120

    @field_validator("allowed_tools", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        return {"tool_names": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("give url or command, one of them")
        if self.command and (self.headers or self.key_env or self.key_file or self.allow_private):
            raise ValueError("headers, keys and allow_private go with url; a command gets its secrets by env")
        if self.url and (self.args or self.env):
            raise ValueError("args and env go with command")
        if self.key_env and self.key_file:
            raise ValueError("the key is in key_env or in key_file, not in both")
        return self

    def key(self) -> str | None:
        """The key, read anew for every run, so that a changed one counts. Raises InvalidInput."""
        if self.key_env:
            if not (found := os.environ.get(self.key_env, "").strip()):
                message = f"connector {self.id}: the variable {self.key_env} is not set"
                raise InvalidInput(message, param="key_env")
            return found
        if self.key_file:
            try:
                return self.key_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                message = f"connector {self.id}: {self.key_file} cannot be read: {error}"
                raise InvalidInput(message, param="key_file") from error
        return None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    connector: tuple[Connector, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Connectors:
    """Those of one file."""

    all: tuple[Connector, ...] = ()

    @classmethod
    def read(cls, file: Path | None) -> Self:
        """None for no file, and so for no connector. Raises InvalidInput, never with a secret in it."""
        if file is None:
            return cls()
        try:
            found = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).connector
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"{file} cannot be read: {error}", param="KB_CONNECTORS") from error
        except ValidationError as error:
            # A value is not repeated: it may be a key.
            faults = [
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)
            ]
            raise InvalidInput(f"{file}: {'; '.join(faults[:3])}", param="KB_CONNECTORS") from None
        ids = [one.id for one in found]
        if twice := next((one for one in ids if ids.count(one) > 1), None):
            raise InvalidInput(f"{file}: the connector {twice!r} stands in it twice", param="KB_CONNECTORS")
        return cls(found)

    def get(self, connector_id: str) -> Connector:
        """Raises InvalidInput."""
        for one in self.all:
            if one.id == connector_id:
                return one
        if not self.all:
            message = f"no connector is set up here: {HOW_TO_SET}"
        else:
            known = ", ".join(sorted(one.id for one in self.all))
            message = f"there is no connector {connector_id!r}; there are: {known}"
        raise InvalidInput(message, param="connector_id")
