"""What is plainly public, and what only looks like it."""

from ipaddress import ip_address, ip_network

import pytest

from kb.web.addresses import PRIVATE, is_admitted, is_public

INSIDE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.0.9", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:10::1",
    "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "3fff::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
OUTSIDE = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "128.0.0.1",
    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0",
    "223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_plainly_public_is_inside(address: str) -> None:
    """Also what carries an address of the inside in one that is global to the standard library."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_public_is_outside(address: str) -> None:
    """Up to the edges of what is not."""
    assert is_public(ip_address(address))


def test_an_operator_opens_a_network_and_no_other() -> None:
    """Of either family."""
    opened = (ip_network("10.1.0.0/16"), ip_network("fd00::/16"))
    told = [
        is_admitted(ip_address(one), opened)
        for one in ("10.1.2.3", "10.2.0.1", "fd00::1", "fd01::1", "8.8.8.8")
    ]
    assert told == [True, False, True, False, True]


def test_private_networks_do_not_hold_the_credentials_of_a_machine() -> None:
    """Clouds keep them at link-local addresses, and one at a unique local one, which is a house's own."""
    assert is_admitted(ip_address("127.0.0.1"), PRIVATE)
    assert not is_admitted(ip_address("169.254.169.254"), PRIVATE)
    assert not is_admitted(ip_address("fe80::a9fe:a9fe"), PRIVATE)
