"""Pages, and the process that they are read in."""

from collections.abc import Iterator

import pytest
from inside import OPENED

from kb.ingest.sandbox import ParserProcess
from kb.web.guard import Guard
from kb.web.page import Pages


@pytest.fixture(scope="session")
def reader() -> Iterator[ParserProcess]:
    """The parser of pages, in the process that it runs in."""
    with ParserProcess(seconds=5, command=("-m", "kb.web.extract")) as parser:
        yield parser


@pytest.fixture
def pages(reader: ParserProcess) -> Pages:
    """Pages of the sites at the address that is open, and nowhere else inside."""
    return Pages(Guard(allow=OPENED), reader)
