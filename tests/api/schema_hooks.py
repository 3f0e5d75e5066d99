"""Loaded by Schemathesis, not by pytest: the refusals that no JSON Schema can announce."""

import json
import os
import re
from typing import Any

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

# By code, field and message. Each is told in words where its field is described, and has tests of its own.
_BEYOND_SCHEMA = [
    # Whether bytes are a document that can be read.
    r"document_refused documents\.0 ",
    # A size is at most what the model reads, another for each embedder; an overlap at most half of a size.
    r"invalid_input chunk_(size|overlap) ",
    r"invalid_input \S*chunking_strategy\S* .*chunk_overlap_tokens is at most half of the size",
    # That no two in a list name the same file; they may differ else.
    r"invalid_input files a file is named twice",
    # What a language model writes at most.
    r"invalid_input max_output_tokens ",
    # Whether a response is answered in the background.
    r"invalid_input response_id only what is answered in the background",
    # Which tiers have a rate.
    r"invalid_input service_tier ",
    # What the endpoints of a language model take; and that only text can be searched for.
    r"invalid_input [\s\S]* (is no parameter of |no endpoint of )",
    r"invalid_input (input|messages) there is no question to search for",
    # That a server is at an address or set up, under a label of its own, and what goes with either.
    r"invalid_input tools (two servers are called|the label 'kb' is that of) ",
    r"invalid_input tools Value error, (give server_url or|server_url must begin|a password does not belong)",
    r"invalid_input tools Value error, (headers and authorization go|credentials go to https)",
    r"invalid_input connector_id (no connector is set up here: |there is no connector ')",
    # Which headers can be sent.
    r"invalid_input headers headers: Value error, .* cannot be (set|sent)",
    r"invalid_input authorization authorization: Value error, a token is ASCII on one line",
    # That a filter of tools is not empty.
    r"invalid_input (allowed_tools|require_approval) .*tool_names or read_only must be given",
    # That there is one search each, with an engine, and no function of the client under the name of a tool.
    r"invalid_input tools (one file_search searches|there is one search of the web|no search engine is set)",
    r"invalid_input tools a tool of this server is called ",
    # What a response asked about, and which one it was.
    r"invalid_input previous_response_id \S+ was asked for by ",
    # How long the vectors of a model are.
    r"invalid_input dimensions ",
    # What is printable.
    r"invalid_input name ",
    # How long a text is; and that a part of it is told in one way of three.
    r"invalid_input start ",
    # Which days a month has.
    r"invalid_input (since|until) ",
    # What an answer gave to go on with.
    r"invalid_input cursor ",
    # Whether a whole number is one of those that are exact.
    r"invalid_(input|filter) .*2\^53",
    # How many parts a filter has on all its levels together.
    r"invalid_filter filters\S* a filter has at most ",
]


@schemathesis.hook
def before_add_examples(context: Any, examples: list[Any]) -> None:
    """Of a part of a text told in all ways, each by its example, keep one way."""
    for case in examples:
        if "start" in (case.query or {}):
            case.query = {
                name: value for name, value in case.query.items() if name not in ("page", "heading")
            }


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Whether a request is sent. A thousand documents at once take seconds; the quick run leaves them out."""
    body = case.body if isinstance(case.body, dict) else {}
    longest = max((len(value) for value in body.values() if isinstance(value, list)), default=0)
    return longest <= 100 or "KB_TEST_SCHEMA_QUICK" not in os.environ


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure counts. That something valid by the schema is refused does, but for those above."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    error = json.loads(response.content)["error"]
    return not re.match("|".join(_BEYOND_SCHEMA), f"{error['code']} {error['param']} {error['message']}")
