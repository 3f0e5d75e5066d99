"""What is sent to runs, checked."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, StrictBool

from api.responses_bodies import ResponseParameters, Tools
from api.schemas import Sent


class NewRun(ResponseParameters):
    """Something that a model is to find out by itself, with tools."""

    stream: StrictBool | None = None


class Word(Sent):
    """A person's yes or no."""

    example: ClassVar[dict[str, Any]] = {"approve": True}

    approve: StrictBool
    reason: Annotated[str, Field(max_length=2_000)] | None = Field(
        None, description="The model is told why not."
    )
    tools: Tools | None = Field(None, description="As the run was given them, with their credentials.")
