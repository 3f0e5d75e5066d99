"""The README's examples that ask a server."""

import re
from pathlib import Path
from typing import Any

from conftest import ROOT, House
from site_of_pages import OPEN, Site
from test_tools import calls
from upstream import Answer, Call, Upstream, replies

README = Path(ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [one for one in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "client.responses" in one]


def test_they_run_one_after_the_other(house: House, upstream: Upstream, site: Site, capsys: Any) -> None:
    """As they stand, but for the server's address, a domain, and the knowledge base there is here."""
    grounded, asked, searched = EXAMPLES
    upstream.script(
        replies.says(Answer(deltas=("Open it [1].",))),
        calls(Call("clock__get_current_time", ('{"timezone": "Europe/Berlin"}',))),
        replies.says(Answer(deltas=("It is noon.",))),
        calls(Call("web_search", ('{"query": "opening hours"}',))),
        replies.says(Answer(deltas=('At nine [1: "opens at nine in the morning"].',))),
    )
    here = {"http://127.0.0.1:8000": house.url, "none needed on loopback": house.keys["ann"]}
    # The operator of this one lets it be called.
    here |= {'"connector_id": "clock"': '"connector_id": "clock", "require_approval": "always"'}
    here |= {'"docs"': '"handbook"', "shop.example.org": OPEN}
    names: dict[str, Any] = {}
    for example in (grounded, asked, searched):
        for shown, real in here.items():
            example = example.replace(shown, real)
        exec(compile(example, "README.md", "exec"), names)
    assert "Open it [1]." in capsys.readouterr().out
    assert names["asked"].output[-1].type == "mcp_approval_request"
    assert names["found"].output_text == "At nine [1]."
    names["client"].close()
    assert len(upstream.requests) == 5
