"""Which addresses that others name may be called, webhooks and places of files: a guard against calls into networks that are
none of the public's business. Pure.

The networks are those of the IANA special-purpose address registries (RFC 6890). Addresses that carry an IPv4 address inside
(mapped, NAT64, 6to4, Teredo) are judged by that one as well.
"""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER: Final[dict[str, str]] = {
    "0.0.0.0/8": "this network", "169.254.0.0/16": "link-local, where clouds keep their metadata", "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved", "::/128": "unspecified", "fe80::/10": "link-local", "ff00::/8": "multicast",
    "fd00:ec2::/32": "a cloud's metadata", "192.0.0.0/24": "for protocols", "192.0.2.0/24": "for examples",
    "198.18.0.0/15": "for benchmarks", "198.51.100.0/24": "for examples", "203.0.113.0/24": "for examples",
    "2001:db8::/32": "for examples", "100::/64": "discarded", "192.88.99.0/24": "a former relay",
    "3fff::/20": "for examples", "5f00::/16": "for segment routing", "fd20:ce::254/128": "a cloud's metadata",
    "100.100.100.200/32": "a cloud's metadata", "168.63.129.16/32": "a cloud's own services",
}  # fmt: skip
"""Never called, whatever the settings say."""
_PRIVATE: Final[dict[str, str]] = {
    "127.0.0.0/8": "loopback", "::1/128": "loopback", "10.0.0.0/8": "private", "172.16.0.0/12": "private",
    "192.168.0.0/16": "private", "100.64.0.0/10": "shared by a carrier", "fc00::/7": "unique local",
    "fec0::/10": "site-local", "64:ff9b:1::/48": "a local translator",
}  # fmt: skip
"""Called only where `allow_private` is set."""
_NEVER_NETWORKS = [(ipaddress.ip_network(net), what) for net, what in _NEVER.items()]
_PRIVATE_NETWORKS = [(ipaddress.ip_network(net), what) for net, what in _PRIVATE.items()]
_CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0:0/96"))
"""NAT64 (RFC 6052) and SIIT (RFC 2765)."""


def problem(text: str, *, allow_private: bool) -> str:
    """Why this address may not be called; empty: it may. A text that is no address may not."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "no address"
    for one in (address, *inner(address)):
        why = _problem(one, allow_private=allow_private)
        if why:
            return why
    return ""


def is_private(text: str) -> bool:
    """Whether it lies in a private network or on this host: where a plain `http` URL is fine."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return any(_within(one, _PRIVATE_NETWORKS) for one in (address, *inner(address)))


def inner(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if address.version == 4:
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _CARRIERS) or (
        int(address) >> 32 == 0 and int(address) > 1
    ):  # The latter: IPv4-compatible, long deprecated.
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return [one for one in found if one is not None]


def _problem(address: Address, *, allow_private: bool) -> str:
    never = _within(address, _NEVER_NETWORKS)
    if never:
        return never
    private = _within(address, _PRIVATE_NETWORKS)
    if private:
        return "" if allow_private else private
    inside = address.version == 6 and bool(inner(address))  # Judged by what it leads to.
    return "" if address.is_global or inside else "not of the public internet"


def _within(address: Address, networks: list[tuple[Network, str]]) -> str:
    return next((what for net, what in networks if net.version == address.version and address in net), "")
