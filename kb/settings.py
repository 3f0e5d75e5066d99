"""Settings: frozen, and read from the environment here and nowhere else."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Self

from kb.embed.folder import DEFAULT_MODEL
from kb.errors import InvalidInput

CONTEXT_WINDOW = 1_047_576
"""Tokens that gpt-4.1-mini reads."""

_LISTS = ("KB_ALLOWED_HOSTS", "KB_ALLOWED_ORIGINS")
_LINK_LOCAL = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the data lies and how much of the machine to use.

    data_dir: everything that is stored. database_url: the catalog, SQLite in the data folder unless given.
    model: the embedding model of new knowledge bases. reranker: a CrossEncoder for searches that ask for
    one, None for none. threads: cores one run of a model may use, 0 for all.
    dense_weight: what the dense part counts in hybrid search, 0 to 1 (kb.search.fuse). context_window: tokens
    that the model behind the tools reads; what one tool gives is a share of it (kb.tools.registry).
    model_catalog: a file of further language models (kb.models.registry), None for those of the package.
    endpoints: a file of where they are called (kb.gateway.endpoints), None for nowhere.
    connectors: a file of MCP servers of others (kb.remote.connectors), None for none.
    web_search_url: of a SearXNG, or web_search_key_file: with a key of the Brave Search API; without either
    there is no web search. web_networks: where its pages may lie beside public networks.
    allowed_hosts, allowed_origins: names that the MCP server goes by, and origins of web pages that may call
    it, beside loopback.
    """

    data_dir: Path
    database_url: str
    model: str = DEFAULT_MODEL
    threads: int = 0
    dense_weight: float = 0.5
    reranker: str | None = None
    context_window: int = CONTEXT_WINDOW
    model_catalog: Path | None = None
    endpoints: Path | None = None
    connectors: Path | None = None
    web_search_url: str | None = None
    web_search_key_file: Path | None = None
    web_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()

    @property
    def models_dir(self) -> Path:
        """Exported models."""
        return self.data_dir / "models"

    @property
    def indexes_dir(self) -> Path:
        """One folder per knowledge base, each of which can be rebuilt from the catalog."""
        return self.data_dir / "indexes"

    @property
    def searches_web(self) -> bool:
        """Whether an engine is set."""
        return bool(self.web_search_url or self.web_search_key_file)

    @classmethod
    def read(cls, data_dir: Path | str | None = None, environment: Mapping[str, str] = os.environ) -> Self:
        """From KB_DATA_DIR, KB_DATABASE_URL, KB_MODEL, KB_RERANKER, KB_THREADS, KB_DENSE_WEIGHT,
        KB_CONTEXT_WINDOW, KB_MODEL_CATALOG, KB_ENDPOINTS, KB_CONNECTORS, KB_WEB_SEARCH_URL,
        KB_WEB_SEARCH_KEY_FILE, KB_WEB_NETWORKS, KB_ALLOWED_HOSTS and KB_ALLOWED_ORIGINS.

        An argument wins.

        Without either, data lies where the platform keeps an application's data. Raises InvalidInput.
        """
        given = data_dir or environment.get("KB_DATA_DIR")
        if not given:
            from platformdirs import user_data_dir

            given = user_data_dir("kb", appauthor=False)
        folder = Path(given).expanduser().resolve()
        threads = environment.get("KB_THREADS", "0")
        if not threads.isdecimal():
            message = f"KB_THREADS must be a number of cores, or 0 for all, not {threads!r}"
            raise InvalidInput(message, param="KB_THREADS")
        weight = environment.get("KB_DENSE_WEIGHT", "0.5")
        if not re.fullmatch(r"0?\.\d+|[01](\.0*)?", weight):
            message = f"KB_DENSE_WEIGHT must be a number from 0 to 1, not {weight!r}"
            raise InvalidInput(message, param="KB_DENSE_WEIGHT")
        window = environment.get("KB_CONTEXT_WINDOW", str(CONTEXT_WINDOW))
        if not re.fullmatch(r"[1-9]\d{3,8}", window):
            message = f"KB_CONTEXT_WINDOW must be a number of tokens, 1000 or more, not {window!r}"
            raise InvalidInput(message, param="KB_CONTEXT_WINDOW")
        hosts, origins = (_listed(environment.get(name, "")) for name in _LISTS)
        if foul := [host for host in hosts if not re.fullmatch(r"[a-z0-9._:-]+", host)]:
            message = f"KB_ALLOWED_HOSTS must be names or addresses with commas between them, not {foul[0]!r}"
            raise InvalidInput(message, param="KB_ALLOWED_HOSTS")
        if foul := [origin for origin in origins if not re.fullmatch(r"https?://[^/\s]+", origin)]:
            message = f"KB_ALLOWED_ORIGINS must be like https://app.example.org, with commas, not {foul[0]!r}"
            raise InvalidInput(message, param="KB_ALLOWED_ORIGINS")
        engine, key_file = environment.get("KB_WEB_SEARCH_URL"), environment.get("KB_WEB_SEARCH_KEY_FILE")
        if engine and key_file:
            message = "the web is searched by KB_WEB_SEARCH_URL or by KB_WEB_SEARCH_KEY_FILE, not by both"
            raise InvalidInput(message, param="KB_WEB_SEARCH_URL")
        if engine and not re.fullmatch(r"https?://[^/\s?#@]+[^\s?#]*", engine):
            message = f"KB_WEB_SEARCH_URL must be like http://127.0.0.1:8888, not {engine!r}"
            raise InvalidInput(message, param="KB_WEB_SEARCH_URL")
        return cls(
            data_dir=folder,
            database_url=environment.get("KB_DATABASE_URL")
            or f"sqlite:///{(folder / 'catalog.db').as_posix()}",
            model=environment.get("KB_MODEL") or DEFAULT_MODEL,
            threads=int(threads),
            dense_weight=float(weight),
            reranker=environment.get("KB_RERANKER") or None,
            context_window=int(window),
            model_catalog=_file(environment.get("KB_MODEL_CATALOG")),
            endpoints=_file(environment.get("KB_ENDPOINTS")),
            connectors=_file(environment.get("KB_CONNECTORS")),
            web_search_url=engine or None,
            web_search_key_file=_file(key_file),
            web_networks=_networks(environment.get("KB_WEB_NETWORKS", "")),
            allowed_hosts=hosts,
            allowed_origins=origins,
        )


def _file(given: str | None) -> Path | None:
    return Path(given).expanduser().resolve() if given else None


def _networks(given: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        networks = tuple(map(ip_network, _listed(given)))
    except ValueError as error:
        message = f"KB_WEB_NETWORKS must be networks like 10.1.0.0/16, commas between them: {error}"
        raise InvalidInput(message, param="KB_WEB_NETWORKS") from error
    for network in networks:
        if any(network.version == one.version and network.overlaps(one) for one in _LINK_LOCAL):
            message = f"KB_WEB_NETWORKS: in {network} clouds keep a machine's credentials; name others"
            raise InvalidInput(message, param="KB_WEB_NETWORKS")
    return networks


def _listed(given: str) -> tuple[str, ...]:
    return tuple(one.strip().lower() for one in given.split(",") if one.strip())
