"""Where models are called: an operator's file, checked. The order of the file is that of fallback."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, field_validator, model_validator

from kb.errors import InvalidInput, NoEndpoint

HOW_TO_SET = (
    "name a file in KB_ENDPOINTS with an [[endpoint]] of name, base_url, kind (responses or chat), models "
    "and key_env (the variable that holds the key)"
)
"""What to tell whoever has no endpoint."""

# What no parameter of a file may replace in a request.
_OWNED = frozenset(
    {
        "input",
        "instructions",
        "max_output_tokens",
        "max_tokens",
        "messages",
        "model",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "tools",
        "user",
    }
)

_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Endpoint(BaseModel):
    """An OpenAI-compatible server. models: what each model of the catalogue is called there.

    connect_seconds: until it takes the connection. first_token_seconds: from there to the first part of an
    answer. silence_seconds: between two parts. total_seconds: of a call with all its tries. retries: further
    tries here after a failure that may pass. parameters: further ones that it takes, with their JSON Schemas.
    web_search: whether its models search the web themselves when asked to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    base_url: HttpUrl
    kind: Literal["responses", "chat"]
    models: dict[str, str] = Field(min_length=1)
    # Who writes the key itself here by mistake is not to read it in a message.
    key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    key_file: Path | None = None
    connect_seconds: _Seconds = 5
    first_token_seconds: _Seconds = 120
    silence_seconds: _Seconds = 60
    total_seconds: _Seconds = 600
    retries: int = Field(2, ge=0, le=10)
    parameters: dict[str, dict[str, Any]] = {}
    web_search: bool = False

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        """A plain list: they are called there as here."""
        return {one: one for one in given} if isinstance(given, list) else given

    @field_validator("parameters")
    @classmethod
    def _schemas(cls, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not given:
            return given
        from jsonschema import Draft202012Validator, SchemaError

        if owned := sorted(_OWNED & set(given)):
            raise ValueError(f"{owned[0]} is set here for every call")
        for name, schema in given.items():
            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                raise ValueError(f"{name} has no JSON Schema: {error.message}") from error
        return given

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_env and self.key_file:
            raise ValueError("the key is in key_env or in key_file, not in both")
        return self

    def key(self) -> str:
        """The key, read anew for every call, so that a changed one counts. Raises InvalidInput."""
        if self.key_env:
            if not (found := os.environ.get(self.key_env, "").strip()):
                raise InvalidInput(
                    f"endpoint {self.name}: the variable {self.key_env} is not set", param="key_env"
                )
            return found
        if self.key_file:
            try:
                return self.key_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                message = f"endpoint {self.name}: {self.key_file} cannot be read: {error}"
                raise InvalidInput(message, param="key_file") from error
        # Servers on one's own machine want none, and the SDK wants one.
        return "none"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    endpoint: tuple[Endpoint, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Those of one file, in its order."""

    all: tuple[Endpoint, ...] = ()

    @classmethod
    def read(cls, file: Path | None) -> Self:
        """None for no file, and so for no endpoint. Raises InvalidInput, never with a key in it."""
        if file is None:
            return cls()
        try:
            given = tomllib.loads(file.read_text(encoding="utf-8"))
            found = _File.model_validate(given).endpoint
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"{file} cannot be read: {error}", param="KB_ENDPOINTS") from error
        except ValidationError as error:
            # A value is not repeated: someone may have put the key there.
            faults = [
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)
            ]
            raise InvalidInput(f"{file}: {'; '.join(faults[:3])}", param="KB_ENDPOINTS") from None
        names = [one.name for one in found]
        if twice := next((one for one in names if names.count(one) > 1), None):
            raise InvalidInput(f"{file}: the endpoint {twice!r} stands in it twice", param="KB_ENDPOINTS")
        return cls(found)

    def of(self, model_id: str) -> tuple[Endpoint, ...]:
        """Those that have a model, best first. Raises NoEndpoint."""
        if found := tuple(one for one in self.all if model_id in one.models):
            return found
        if not self.all:
            raise NoEndpoint(f"no model can be called yet: {HOW_TO_SET}", param="KB_ENDPOINTS")
        known = sorted({name for one in self.all for name in one.models})
        message = f"no endpoint has the model {model_id!r}; there are: {', '.join(known)}. {HOW_TO_SET}"
        raise NoEndpoint(message, param="model")

    def search_web(self, model_id: str) -> bool:
        """Whether some endpoint of a model searches the web by itself."""
        return any(one.web_search for one in self.all if model_id in one.models)

    def parameters(self, model_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Further parameters that some endpoint of a model takes, with their schemas."""
        return {
            name: schema
            for one in self.all
            if model_id in one.models
            for name, schema in one.parameters.items()
        }
