"""Places of the web that a question may or may not use."""

from urllib.parse import urlsplit

from kb.types import Domains


def admits(domains: Domains, url: str) -> bool:
    """Whether an http address is of an allowed domain, if there are any, and of no blocked one."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    if any(_within(host, domain) for domain in domains.blocked):
        return False
    return not domains.allowed or any(_within(host, domain) for domain in domains.allowed)


def with_operators(query: str, domains: Domains) -> str:
    """A query that asks for these domains, as most engines read it; what they make of it is checked after."""
    sites = " OR ".join(f"site:{domain}" for domain in domains.allowed)
    return " ".join([query, *([sites] if sites else []), *(f"-site:{one}" for one in domains.blocked)])


def _within(host: str, domain: str) -> bool:
    name = domain.strip(".").lower()
    return host == name or host.endswith(f".{name}")
