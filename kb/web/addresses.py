"""Which addresses are plainly public: the special-purpose registries of IANA (RFC 6890), read strictly.

`is_global` of the standard library is not enough: it admits networks that carry an IPv4 address in an IPv6
one (64:ff9b::7f00:1 and 2002:7f00:1:: are loopback behind a translator), site-local ones and 192.0.0.192.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PRIVATE: tuple[Network, ...] = tuple(
    map(ip_network, ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"])
)
"""Loopback and the networks of a house. Not link-local: there clouds keep the credentials of a machine."""

_IPV4_SPECIAL = tuple(
    map(
        IPv4Network,
        [
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by customers of a provider
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation, as the two below
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ],
    )
)
# All of global unicast; what maps, translates or is local lies outside of it.
_IPV6_GLOBAL = IPv6Network("2000::/3")
_IPV6_SPECIAL = tuple(
    map(
        IPv6Network,
        [
            "2001::/23",  # protocol assignments, among them Teredo, which carries an IPv4 address
            "2001:db8::/32",  # documentation, as 3fff::/20
            "2002::/16",  # 6to4, which carries one too
            "3fff::/20",
        ],
    )
)


def is_public(address: Address) -> bool:
    """Whether it belongs to nobody's inside, whatever translates it on its way."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _IPV4_SPECIAL)
    return (
        address in _IPV6_GLOBAL
        and address.scope_id is None
        and not any(address in network for network in _IPV6_SPECIAL)
    )


def is_admitted(address: Address, allow: Sequence[Network]) -> bool:
    """Whether it is public, or in a network that the operator opened."""
    return is_public(address) or any(address in network for network in allow)
