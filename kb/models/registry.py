"""The models that can be called: read from data, checked, and looked up by id."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kb.errors import InvalidInput, NotFound

Tier = Literal["standard", "priority", "flex", "scale"]
Medium = Literal["text", "image", "audio", "video"]


def _written(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a rate is written in quotes, so that no digit of it is lost")
    return value


# With six decimals for 1,000 tokens a token costs whole nano-credits, as which the ledger sums them.
Credits = Annotated[
    Decimal, BeforeValidator(_written), Field(ge=0, allow_inf_nan=False, max_digits=12, decimal_places=6)
]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Given):
    """Credits for 1,000 tokens of one tier."""

    input: Credits
    output: Credits


class Rates(_Given):
    """Credits for 1,000 tokens. cache_hit: of input that the provider had at hand, whatever the tier."""

    cache_hit: Credits
    standard: Rate | None = None
    priority: Rate | None = None
    flex: Rate | None = None
    scale: Rate | None = None

    def tiers(self) -> Mapping[Tier, Rate]:
        """Those that have a rate."""
        known: dict[Tier, Rate | None] = {
            "standard": self.standard,
            "priority": self.priority,
            "flex": self.flex,
            "scale": self.scale,
        }
        return {tier: rate for tier, rate in known.items() if rate is not None}


class Model(_Given):
    """A language model. Sizes are tokens of `tokenizer`; languages: as BCP 47, where they are published."""

    id: str = Field(min_length=1, max_length=128)
    context_window: int = Field(gt=0)
    max_output_tokens: int = Field(gt=0)
    knowledge_cutoff: date | None = None
    released: date | None = None
    input: tuple[Medium, ...]
    output: tuple[Medium, ...]
    languages: tuple[str, ...] = ()
    tools: bool
    endpoints: tuple[Literal["responses", "chat"], ...] = Field(min_length=1)
    tokenizer: Literal["o200k_base"]
    credits: Rates


@dataclass(frozen=True, slots=True)
class ModelCatalog:
    """Models by id, in the order of their files."""

    models: Mapping[str, Model]

    @classmethod
    def read(cls, more: Path | None = None) -> "ModelCatalog":
        """The models of this package, and of an operator's file, which win. Raises InvalidInput."""
        own = _parsed(_own(), "kb/models/catalog.toml")
        if more is None:
            return cls(own)
        try:
            text = more.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{more} cannot be read: {error}", param="KB_MODEL_CATALOG") from error
        return cls({**own, **_parsed(text, str(more))})

    def get(self, model_id: str) -> Model:
        """Raises NotFound, naming the nearest."""
        if model_id not in self.models:
            near = difflib.get_close_matches(model_id, self.models, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ";"
            raise NotFound(f"no model {model_id!r}{meant} there are: {', '.join(self.models)}", param="model")
        return self.models[model_id]


class _File(_Given):
    model: tuple[Model, ...]


def _parsed(text: str, where: str) -> dict[str, Model]:
    try:
        given: dict[str, Any] = tomllib.loads(text)
        read = _File.model_validate(given)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InvalidInput(f"{where}: {_told(error)}", param="KB_MODEL_CATALOG") from error
    ids = [one.id for one in read.model]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise InvalidInput(f"{where}: the model {twice!r} stands in it twice", param="KB_MODEL_CATALOG")
    return {one.id: one for one in read.model}


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False)[:3]
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)


@cache
def _own() -> str:
    return resources.files("kb.models").joinpath("catalog.toml").read_text(encoding="utf-8")
