"""The page at /docs: the OpenAPI document as plain HTML, without scripts and without the network."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

routes = APIRouter(include_in_schema=False)

# The page is text about the interface: whatever slips into it can load and run nothing.
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
body{color:#1d2733;background:#fff} h2{margin-top:2.5rem;text-transform:capitalize}
code,pre{font:14px/1.45 ui-monospace,monospace} pre{background:#f3f5f8;border-radius:6px;padding:.7rem}
pre{overflow-x:auto} table{border-collapse:collapse} td{padding:.15rem 1rem .15rem 0;vertical-align:top}
details{border:1px solid #d5dce4;border-radius:8px;margin:.6rem 0;padding:.5rem .9rem}
summary{cursor:pointer} summary b{display:inline-block;width:4.5rem} .about{color:#57636f}
.get{color:#0b6bcb} .post{color:#1a7f37} .patch{color:#9a6700} .delete{color:#cf222e}
@media(prefers-color-scheme:dark){body{color:#dde4ec;background:#12181f} pre{background:#1b242e}
details{border-color:#334} .about{color:#9aa7b4} a{color:#6cb6ff}}
"""


@routes.get("/docs")
def page(request: Request) -> Response:
    """Every operation with its parameters, and an example of what goes in and out."""
    html = "".join(_page(request.app.openapi(), str(request.base_url).rstrip("/")))
    return Response(html, headers=_HEADERS, media_type="text/html")


def _page(document: dict[str, Any], base: str) -> Iterator[str]:
    info = document["info"]
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    yield f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
    yield "".join(f"<p>{escape(part)}</p>" for part in info["description"].split("\n\n"))
    yield '<p>For programs: <a href="/openapi.json">openapi.json</a></p>'
    tag = None
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<h2>{escape(tag)}</h2>"
            yield from _operation(base, path, method, operation)


def _operation(base: str, path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    about = operation.get("description", "")
    first, _, _ = about.partition(". ")
    yield f'<details><summary><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code> '
    yield f'<span class="about">{escape(first)}</span></summary><p>{escape(about)}</p>'
    yield from _parameters(operation.get("parameters", []))
    sent = operation.get("requestBody", {}).get("content", {})
    for kind, described in sent.items():
        yield f"<pre>{escape(_curl(base + path, method, kind, described))}</pre>"
    if not sent:
        yield f"<pre>{escape(_curl(base + path, method))}</pre>"
    for status, response in operation["responses"].items():
        yield f"<p><b>{status}</b> {escape(response['description'])}</p>"
        for described in response.get("content", {}).values():
            if "example" in described:
                yield f"<pre>{escape(_shown(described['example']))}</pre>"
    yield "</details>"


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    if parameters:
        yield "<table>"
        for one in parameters:
            about = one.get("description") or one["schema"].get("description", "")
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}<td>{escape(about)}"
        yield "</table>"


def _curl(url: str, method: str, kind: str = "", described: Mapping[str, Any] | None = None) -> str:
    command = ["curl", *(["-X", method.upper()] if method not in ("get", "post") else []), f"'{url}'"]
    if described and kind == "multipart/form-data":
        for name, value in described["example"].items():
            if "binary" in str(described["schema"]["properties"][name]):
                command += [f"-F {name}=@{file}" for file in (value if isinstance(value, list) else [value])]
            else:
                command.append(f"-F '{name}={value}'")
    elif described:
        command += ["-H 'content-type: application/json'", f"-d '{json.dumps(described['example'])}'"]
    return " ".join(command)


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
