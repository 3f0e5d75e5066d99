"""The server refuses exactly what the schema of a model's requests refuses."""

import copy
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
SEARCH = {"type": "file_search", "vector_store_ids": ["nowhere"]}
WEB = {"type": "web_search"}
FORM = {"type": "json_schema", "name": "step", "schema": {"type": "object"}}
BODIES: dict[str, dict[str, Any]] = {
    "responses": {
        "model": "gpt-4.1-mini",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "How?"}]}],
        "tools": [{"type": "function", "name": "stop"}],
        "text": {"format": FORM},
    },
    "chat": {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "How?"}]}],
        "tools": [{"type": "function", "function": {"name": "stop"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "step", "schema": {}}},
    },
}
PICTURE = {
    "responses": {"type": "input_image", "image_url": "https://example.org/pump.png"},
    "chat": {"type": "image_url", "image_url": {"url": "https://example.org/pump.png"}},
}
# A value of every kind, on both sides of the bounds that there are.
VALUES: list[Any] = [
    None, True, False, 0, 1, 3.0, 0.5, -1, 1.5, 2.5, -2.5, 128, 8192, 8193, 2**31 + 1, "", "x", "x" * 600,
    "1",
    "true", "auto", "none", "low", "text", "user", "function", "default", "priority", "flex", "gpt-4.1-mini",
    [], ["x"], [1], {}, {"x": "y"}, {"x": 1}, {"type": "text"}, {"type": "json_schema"}, {"effort": "low"},
    [SEARCH], [SEARCH, SEARCH], [{**SEARCH, "filters": {"type": "eq", "key": "a", "value": 1}}],
    [{**SEARCH, "filters": {"type": "eq", "key": "a"}}], [{**SEARCH, "max_num_results": 0}],
    [{"type": "file_search"}], {"type": "function", "name": "stop"},
    {"type": "function", "function": {"name": "stop"}}, FORM, [WEB], [WEB, {"type": "web_search_preview"}],
    {"type": "web_search"}, [{**WEB, "filters": {"allowed_domains": ["example.org"]}}],
    [{**WEB, "filters": {"blocked_domains": ["example.org"], "allowed_domains": []}}],
    [{**WEB, "external_web_access": True}], [{**WEB, "external_web_access": False}],
    [{**WEB, "user_location": {"type": "approximate", "country": "DE"}}],
    [{**WEB, "user_location": {"country": "Germany"}}], {"search_context_size": "low"},
    {"user_location": {"type": "approximate", "approximate": {"city": "Berlin"}}},
]  # fmt: skip
# Places inside the bodies above; those at the top come from the schema itself.
INSIDE: dict[str, list[tuple[str | int, ...]]] = {
    "responses": [
        ("input", 0), ("input", 0, "role"), ("input", 0, "type"), ("input", 0, "content"),
        ("input", 0, "content", 0), ("input", 0, "content", 0, "text"), ("tools", 0), ("tools", 0, "name"),
        ("tools", 0, "strict"),
        ("tools", 0, "parameters"), ("tools", 0, "other"), ("text", "format"), ("text", "format", "type"),
        ("text", "format", "name"), ("text", "format", "schema"), ("text", "format", "schema_"),
        ("text", "verbosity"),
    ],
    "chat": [
        ("messages", 0), ("messages", 0, "role"), ("messages", 0, "content"), ("messages", 0, "content", 0),
        ("messages", 0, "content", 0, "text"), ("tools", 0), ("tools", 0, "function"),
        ("tools", 0, "function", "name"), ("tools", 0, "function", "other"), ("response_format", "type"),
        ("response_format", "json_schema"),
        ("response_format", "json_schema", "schema"), ("response_format", "json_schema", "schema_"),
    ],
}  # fmt: skip
ENDPOINTS = """
[[endpoint]]
name = "first"
base_url = "http://127.0.0.1:9/v1"
kind = "responses"
models = ["gpt-4.1-mini"]
retries = 0
[endpoint.parameters]
top_k = { type = "integer", minimum = 1 }

[[endpoint]]
name = "second"
base_url = "http://127.0.0.1:9/v1"
kind = "chat"
models = ["gpt-4.1-mini", "small"]
retries = 0
[endpoint.parameters]
min_p = { type = "number" }

[[endpoint]]
name = "third"
base_url = "http://127.0.0.1:9/v1"
kind = "responses"
models = ["searching"]
web_search = true
retries = 0

[[endpoint]]
name = "fourth"
base_url = "http://127.0.0.1:9/v1"
kind = "chat"
models = ["talking"]
web_search = true
retries = 0
"""
SMALL = """
[[model]]
id = "{id}"
context_window = 20_000
max_output_tokens = 128
input = ["text"]
output = ["text"]
tools = false
endpoints = ["chat"]
tokenizer = "o200k_base"
[model.credits]
cache_hit = "0"
priority = {{ input = "1", output = "2" }}
"""


@pytest.fixture(scope="module")
def several(
    open_app: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """Two endpoints of two kinds, at which nobody listens, and a second model, small and plain; two more
    that search the web themselves, and an engine for models whose endpoints do not."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "endpoints.toml").write_text(ENDPOINTS)
    (folder / "models.toml").write_text(
        "".join(SMALL.format(id=name) for name in ("small", "searching", "talking"))
    )
    files = {"endpoints": folder / "endpoints.toml", "model_catalog": folder / "models.toml"}
    with open_app(**files, web_search_url="http://127.0.0.1:9") as running:
        yield running


def _with(body: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    inside: Any = changed
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    return changed


def _schema(client: TestClient, api: str, model: str = "gpt-4.1-mini") -> dict[str, Any]:
    schema: dict[str, Any] = client.get(f"/v1/models/{model}/schema?api={api}").json()
    Draft202012Validator.check_schema(schema)
    return schema


def _refused(client: TestClient, api: str, body: dict[str, Any]) -> bool:
    """Whether the body is at fault: not what it names that is not there, nor that no model can be called."""
    answer = client.post(PATHS[api], json=body)
    assert answer.status_code in (200, 400, 404, 422, 502, 503), answer.text
    return answer.status_code in (400, 422)


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_every_value_in_every_place_is_refused_by_both_or_by_neither(client: TestClient, api: str) -> None:
    """All fields at the top and the places inside, each with values of every kind."""
    schema = _schema(client, api)
    validator = Draft202012Validator(schema)
    places = [*((name,) for name in [*schema["properties"], "other"]), *INSIDE[api]]
    told: list[Any] = []
    counts = [0, 0]
    for place, value in product(places, VALUES):
        if place in [("model",), ("stream",), ("background",)] and (value is True or isinstance(value, str)):
            continue
        body = _with(BODIES[api], place, value)
        refused = _refused(client, api, body)
        counts[refused] += 1
        if refused == validator.is_valid(body):
            told.append((place, value, refused))
    assert told == []
    assert min(counts) > 100


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize(
    ("more", "right"),
    [
        ({}, True),
        ({"temperature": 0.5, "top_p": 1}, True),
        ({"top_k": 3}, True),
        ({"top_k": 0}, False),
        ({"min_p": 0.1}, True),
        ({"min_p": "much"}, False),
        ({"min_p": 0.1, "top_k": 3}, False),
        ({"seed": 1}, "chat"),
        ({"seed": 1, "stop": "x", "min_p": 0.1}, "chat"),
        ({"background": True, "store": False}, False),
        ({"max_tokens": 9000, "max_completion_tokens": 10}, "chat"),
        ({"max_tokens": 9000}, False),
        ({"max_completion_tokens": 9000}, False),
        ({"max_output_tokens": 9000}, False),
        ({"service_tier": "scale"}, False),
    ],
)
def test_what_an_endpoint_takes_is_in_the_schema(
    several: TestClient, api: str, more: dict[str, Any], right: bool | str
) -> None:
    """One that takes all that is sent has to be there; each kind knows other parameters."""
    expected = right == api if isinstance(right, str) else right
    body = {**BODIES[api], **more}
    assert Draft202012Validator(_schema(several, api)).is_valid(body) == expected
    assert _refused(several, api, body) != expected


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize(
    ("more", "right"),
    [
        ({}, True),
        ({"service_tier": "auto"}, True),
        ({"service_tier": "priority"}, True),
        ({"service_tier": "default"}, False),
        ({"max_output_tokens": 128}, "responses"),
        ({"max_output_tokens": 129}, False),
        ({"tools": [SEARCH]}, True),
        ({"tools": "functions"}, False),
        ({"input": "picture", "messages": "picture"}, False),
    ],
)
def test_a_schema_has_what_the_model_can(
    several: TestClient, api: str, more: dict[str, Any], right: bool | str
) -> None:
    """One that reads no pictures, calls no functions, writes little, and has a rate at one tier alone."""
    said = next(name for name in ("input", "messages") if name in BODIES[api])
    body = {"model": "small", said: BODIES[api][said]}
    body |= {name: value for name, value in more.items() if value not in ("functions", "picture")}
    if more.get("tools") == "functions":
        body["tools"] = BODIES[api]["tools"]
    if more.get(said) == "picture":
        body[said] = [{"role": "user", "content": [PICTURE[api]]}]
    expected = right == api if isinstance(right, str) else right
    assert Draft202012Validator(_schema(several, api, "small")).is_valid(body) == expected
    assert _refused(several, api, body) != expected


@pytest.mark.parametrize(
    ("tool", "right"),
    [
        (WEB, ("gpt-4.1-mini", "searching", "talking")),
        ({**WEB, "filters": {"allowed_domains": ["example.org"]}}, ("gpt-4.1-mini", "searching")),
        ({**WEB, "filters": {"blocked_domains": ["example.org"]}}, ("gpt-4.1-mini",)),
        (
            {**WEB, "filters": {"blocked_domains": [], "allowed_domains": []}},
            ("gpt-4.1-mini", "searching", "talking"),
        ),
        ({**WEB, "filters": {"domains": []}}, ()),
    ],
)
@pytest.mark.parametrize("model", ["gpt-4.1-mini", "searching", "talking", "small"])
def test_who_searches_the_web_and_where(
    several: TestClient, model: str, tool: dict[str, Any], right: tuple[str, ...]
) -> None:
    """The endpoint if it does so by itself, whether or not its model takes tools; else this server."""
    body = {"model": model, "input": BODIES["responses"]["input"], "tools": [tool]}
    expected = model in right
    assert Draft202012Validator(_schema(several, "responses", model)).is_valid(body) == expected
    assert _refused(several, "responses", body) != expected
    if tool == WEB:
        body = {"model": model, "messages": BODIES["chat"]["messages"], "web_search_options": {}}
        assert Draft202012Validator(_schema(several, "chat", model)).is_valid(body) == expected
        assert _refused(several, "chat", body) != expected


def test_nobody_searches_the_web(client: TestClient) -> None:
    """Where neither an endpoint nor an engine does, it is told what is missing."""
    answer = client.post("/v1/responses", json={**BODIES["responses"], "tools": [WEB]})
    assert answer.status_code == 422
    assert "KB_WEB_SEARCH_URL" in answer.json()["error"]["message"]


def test_pictures_go_to_a_model_that_reads_them(several: TestClient) -> None:
    """What the small one is refused."""
    body = {"model": "gpt-4.1-mini", "input": [{"role": "user", "content": [PICTURE["responses"]]}]}
    assert not _refused(several, "responses", body)


def test_the_schema_of_no_model_and_for_no_api(client: TestClient) -> None:
    """404 and 422."""
    assert client.get("/v1/models/nothing/schema").status_code == 404
    assert client.get("/v1/models/gpt-4.1-mini/schema?api=completions").status_code == 422
