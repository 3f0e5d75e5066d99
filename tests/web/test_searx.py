"""The engine itself: Debian's searx on loopback, over a site of this test, down to quotes in its pages."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import urlopen

import pytest

from kb.errors import RemoteFailed
from kb.settings import Settings
from kb.types import Domains
from kb.web.page import Pages
from kb.web.research import Research
from kb.web.searxng import SearxngSearch
from kb.web.tool import shown

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("searx-run") is None, reason="needs Debian's package searx"),
]

OPEN = "127.0.0.9"
HANDBOOK = Path(__file__).parents[2] / "data" / "handbook"
SETTINGS = """
general: {{debug: false, instance_name: searx}}
brand: {{git_url: "", git_branch: "", issue_url: "", docs_url: "", public_instances: "", wiki_url: ""}}
search: {{safe_search: 0, autocomplete: "", default_lang: "", ban_time_on_fail: 0, max_ban_time_on_fail: 0}}
server: {{port: {port}, bind_address: "127.0.0.1", secret_key: "{secret}", base_url: false,
  image_proxy: false, http_protocol_version: "1.0", method: GET, default_http_headers: {{}}}}
ui: {{static_path: /usr/share/python3-searx/static, templates_path: /usr/share/python3-searx/templates,
  default_theme: oscar, default_locale: "", theme_args: {{oscar_style: logicodev}}}}
outgoing: {{request_timeout: 5.0, useragent_suffix: "", pool_connections: 10, pool_maxsize: 10}}
doi_resolvers: {{doi.org: "https://doi.org/"}}
default_doi_resolver: doi.org
locales: {{en: English}}
engines:
  - {{name: local, engine: json_engine, shortcut: lo, categories: general, enable_http: true, timeout: 5.0,
     search_url: "{site}/find?q={{query}}", results_query: results, url_query: url, title_query: title,
     content_query: text}}
"""


@pytest.fixture(scope="module")
def handbook() -> Iterator[str]:
    """The sample handbook as a site with a search of its own, which counts words."""
    texts = {f"/{path.relative_to(HANDBOOK)}": path.read_text() for path in HANDBOOK.rglob("*.md")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/find":
                words = parse_qs(asked.query)["q"][0].lower().split()
                best = sorted(texts, key=lambda at: -sum(texts[at].lower().count(word) for word in words))
                results = [{"url": f"{at}{quote(path)}", "title": path, "text": path} for path in best[:4]]
                self.reply("application/json", json.dumps({"results": results}))
            else:
                self.reply("text/markdown; charset=utf-8", texts[asked.path])

        def reply(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Not here."""

    try:
        server = ThreadingHTTPServer((OPEN, 0), Handler)
    except OSError:
        pytest.skip(f"this system has no {OPEN}")
    at = f"http://{OPEN}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield at
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def searx(handbook: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where searx answers. What it says stands in a file, for whoever sees this fail."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("searx")
    settings = folder / "settings.yml"
    settings.write_text(SETTINGS.format(port=port, secret=secrets.token_hex(), site=handbook))
    environment = {**os.environ, "SEARX_SETTINGS_PATH": str(settings)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["searx-run"], env=environment, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urlopen(f"{url}/search?format=json", timeout=5).close()
                break
            except ConnectionError:
                pass
            except OSError as error:
                if not isinstance(getattr(error, "reason", None), ConnectionError):
                    break
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "searx does not answer"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_question_to_searx_ends_in_quotes_of_its_pages(
    searx: str, handbook: str, pages: Pages, service: Any
) -> None:
    """Each is, character for character, in the page that it names, as it is served."""
    research = Research(SearxngSearch(searx), pages, lambda: service.embedder(service.settings.model))
    found = asyncio.run(research.find("How does a worn stator show itself?", 2000))
    assert found.passages
    assert found.unread == ()
    for one in found.passages:
        assert one.page.url.startswith(handbook)
        assert one.text in urlopen(one.page.url).read().decode()
    assert "A worn stator does not leak." in found.passages[0].text
    text = shown(found, range(1, len(found.passages) + 1))
    assert found.passages[0].text in text


def test_an_answer_cites_the_pages_that_searx_found(
    searx: str, handbook: str, models: Path, upstream: Any, tmp_path: Path
) -> None:
    """Through the API: a model searches twice, and each quote is in the page that its citation names."""
    from starlette.testclient import TestClient
    from upstream import Answer, Call, replies

    from api.app import create_app

    (tmp_path / "models").symlink_to(models, target_is_directory=True)
    (tmp_path / "endpoints.toml").write_text(
        f'[[endpoint]]\nname = "x"\nbase_url = "{upstream.url}"\nkind = "responses"\n'
        'models = ["gpt-4.1-mini"]\n'
    )
    settings = Settings(
        tmp_path,
        f"sqlite:///{tmp_path}/catalog.db",
        endpoints=tmp_path / "endpoints.toml",
        web_search_url=searx,
        web_networks=(ip_network(f"{OPEN}/32"),),
    )

    def search(query: str) -> Any:
        return replies.says(Answer(deltas=(), calls=(Call("web_search", (json.dumps({"query": query}),)),)))

    said = (
        'It does not leak [1: "A worn stator does not leak."]. See also [2], [3], [4] and [5], '
        'but not [1: "A worn stator leaks."].'
    )
    upstream.script(
        search("How does a worn stator show itself?"),
        search("When is the brine pump serviced?"),
        replies.says(Answer(deltas=tuple(said[at : at + 7] for at in range(0, len(said), 7)))),
    )
    body = {"model": "gpt-4.1-mini", "input": "What of the stator?", "tools": [{"type": "web_search"}]}
    with TestClient(create_app(settings, open_to="127.0.0.1"), base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/responses", json=body).json()
    assert [item["type"] for item in answer["output"]] == ["web_search_call", "web_search_call", "message"]
    (content,) = answer["output"][-1]["content"]
    assert len(content["annotations"]) == 5
    assert answer["citations"] == {"verified": 5, "dropped": 1}
    for cited in content["annotations"]:
        assert cited["type"] == "url_citation"
        assert cited["url"].startswith(handbook)
        assert cited["quote"] in urlopen(cited["url"]).read().decode()
        assert content["text"][cited["start_index"] : cited["end_index"]] == f"[{cited['number']}]"
    assert content["annotations"][0]["quote"] == "A worn stator does not leak."


def test_domains_hold_for_searx_too(searx: str, pages: Pages, service: Any) -> None:
    """Nothing of the site is left where it is blocked."""
    engine = SearxngSearch(searx)
    for domains in (Domains(blocked=(OPEN,)), Domains(allowed=("example.org",))):
        assert asyncio.run(engine.search("pump", count=4, domains=domains)) == []


def test_an_engine_of_searx_that_is_gone_is_told(handbook: str, searx: str, tmp_path: Path) -> None:
    """A path without an instance is no empty answer either."""
    with pytest.raises(RemoteFailed, match="404"):
        asyncio.run(SearxngSearch(f"{searx}/elsewhere").search("pump", count=4, domains=Domains()))
