from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.public_address import inner, is_private, problem

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.127.255.255", "fd12:3456::1", "fc00::1", "fec0::1", "::ffff:10.0.0.1", "64:ff9b::c0a8:1", "2002:7f00:1::",
    "::ffff:127.0.0.1", "::7f00:1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "fe80::1",
    "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "192.0.2.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "192.0.0.8", "198.18.0.1", "no address", "", "1.2.3",
    "100.100.100.200", "168.63.129.16", "fd20:ce::254", "3fff::1", "5f00::1", "::ffff:0:a9fe:a9fe", "64:ff9b::a83f:8110",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_are_called_only_when_that_is_meant(text: str) -> None:
    assert problem(text, allow_private=False)
    assert not problem(text, allow_private=True)
    assert is_private(text)


@pytest.mark.parametrize("text", NEVER)
def test_these_are_never_called(text: str) -> None:
    assert problem(text, allow_private=False)
    assert problem(text, allow_private=True)


@pytest.mark.parametrize("text", PUBLIC)
def test_the_public_internet_may_be_called(text: str) -> None:
    assert not problem(text, allow_private=False)
    assert not is_private(text)


@given(st.ip_addresses())
def test_what_may_be_called_is_of_the_public_internet_however_it_is_written(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not problem(str(address), allow_private=False):
        assert not is_private(str(address))
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert all(not problem(str(one), allow_private=False) for one in inner(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_alike(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for text in (f"::ffff:{address}", str(ipaddress.IPv6Address((0x64_FF9B << 96) | number))):
        assert bool(problem(text, allow_private=False)) == bool(problem(str(address), allow_private=False))
        assert bool(problem(text, allow_private=True)) == bool(problem(str(address), allow_private=True))
    wrapped = str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1))
    assert inner(ipaddress.ip_address(wrapped)) == [address]
    if problem(str(address), allow_private=False):
        assert problem(wrapped, allow_private=False)


@given(st.ip_addresses())
def test_allowing_private_addresses_allows_no_less(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if problem(str(address), allow_private=True):
        assert problem(str(address), allow_private=False)
