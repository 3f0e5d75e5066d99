"""Structured text: JSON, JSON lines, notebooks and XML."""

import json
import re
from collections.abc import Iterator
from typing import Any

from kb.errors import BrokenDocument
from kb.ingest.formats.archive import local, refuse_doctype, xml_root
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.html import html_to_markdown
from kb.ingest.formats.markdown import fenced, paragraphs
from kb.ingest.formats.text import decoded

LONG_LINE = 200
"""Characters beyond which a line of JSON is for machines, and is set out on several."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)
MAX_INDENT = 40
"""Levels that are indented; a thousand nested brackets would otherwise give half a million spaces."""

SHORT = 80
"""Characters up to which an XML element is a field of a record rather than a paragraph."""

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HTML = re.compile(r"</?(p|div|br|a|ul|ol|li|h[1-6]|img|span|table|strong|em|b|i)\b[^>]*>", re.I)


def parse_json(data: bytes) -> Draft:
    """JSON as it stands, or set out on several lines where it is one long one."""
    text = decoded(data).strip()
    if "\n" not in text and len(text) > LONG_LINE:
        text = set_out(text)
    return Draft(text, markup="plain")


def set_out(text: str) -> str:
    """The same tokens on indented lines; strings show their letters instead of \\u escapes.

    Works on tokens rather than values, so that numbers keep their digits, keys their order and doubles,
    and depth costs no recursion. Text that is no JSON comes out with other white space, nothing else.
    """
    lines: list[str] = []
    line: list[str] = []
    depth = 0

    def flush() -> None:
        if line:
            lines.append("  " * min(depth, MAX_INDENT) + "".join(line))
            line.clear()

    tokens = TOKEN.findall(text)
    for i, token in enumerate(tokens):
        if token in ("{", "["):
            line.append(token)
            if tokens[i + 1 : i + 2] not in (["}"], ["]"]):
                flush()
                depth += 1
        elif token in ("}", "]"):
            if tokens[i - 1 : i] not in (["{"], ["["]):
                flush()
                depth = max(0, depth - 1)
            line.append(token)
        elif token == ",":
            line.append(token)
            flush()
        else:
            line.append(": " if token == ":" else unescaped(token))
    flush()
    return "\n".join(lines)


def unescaped(token: str) -> str:
    """A JSON string with its letters written out; any other token, or a broken string, unchanged."""
    if "\\u" not in token:
        return token
    try:
        return json.dumps(json.loads(token, strict=False), ensure_ascii=False)
    except ValueError:
        return token


def parse_notebook(data: bytes) -> Draft:
    """A Jupyter notebook: its Markdown cells, its code in fences, and what the code printed."""
    try:
        notebook = json.loads(decoded(data))
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "")
        language = notebook.get("metadata", {}).get("language_info", {}).get("name", language)
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        blocks = [block for cell in cells for block in cell_blocks(cell, str(language))]
        title = notebook.get("metadata", {}).get("title")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenDocument(f"is not a Jupyter notebook ({error})") from error
    return Draft(paragraphs(blocks), title=title if isinstance(title, str) else None)


def cell_blocks(cell: dict[str, Any], language: str) -> Iterator[str]:
    """One cell and its outputs."""
    source = joined(cell.get("source") or cell.get("input"))
    if cell["cell_type"] != "code":
        yield source
        return
    if source.strip():
        yield fenced(source, language)
    for output in cell.get("outputs") or []:
        data = output.get("data") or {}
        text = joined(output.get("text") or data.get("text/plain"))
        if output.get("output_type") in ("error", "pyerr"):
            text = "\n".join(map(str, output.get("traceback") or [output.get("evalue")]))
        if "text/markdown" in data:
            yield joined(data["text/markdown"])
        elif text.strip():
            yield fenced(ANSI.sub("", text))


def joined(lines: Any) -> str:
    """nbformat's multi-line strings: a string, or a list of its lines."""
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines or "")


def parse_xml(data: bytes) -> Draft:
    """The text of the elements, a paragraph for each that holds any itself; the source where none does."""
    refuse_doctype(data)
    blocks = list(text_blocks(xml_root(data)))
    if not any(block.strip() for block in blocks):
        return Draft(decoded(data), markup="plain")
    return Draft(paragraphs(blocks), markup="plain")


def text_blocks(root: Any) -> Iterator[str]:
    """Elements with mixed content are a paragraph each, inline elements included; others are walked into.

    Short elements that follow each other, as the fields of a record do, are lines of one paragraph.
    """
    stack: list[tuple[Any, Any]] = [(root, None)]
    fields: list[str] = []
    record: Any = None
    while stack:
        element, parent = stack.pop()
        if not has_text(element):
            stack.extend((child, element) for child in reversed(element) if local(child.tag))
            continue
        words = "".join(element.itertext())
        # Feeds carry whole pages of HTML as text.
        text = html_to_markdown(words) if HTML.search(words) else " ".join(words.split())
        if fields and (parent is not record or len(text) > SHORT):
            yield "\n".join(fields)
            fields = []
        if len(text) > SHORT:
            yield text
        else:
            fields.append(text)
            record = parent
    yield "\n".join(fields)


def has_text(element: Any) -> bool:
    """Whether text stands directly in the element, before, between or after its children."""
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)
