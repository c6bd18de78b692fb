"""Which addresses a stranger's URL must not reach, and what the operator of the server allows in addition.

Numbers and names only: nothing is resolved or fetched here (`image_url`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from depth_anything_ros.errors import SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

WEB_PORTS = {"http": 80, "https": 443}

# Written out, because `ipaddress.is_global` differs between Python versions and lets multicast, 6to4
# and NAT64 pass. Sources: the IANA special-purpose address registries, and the clouds' manuals.
BLOCKED_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a cloud's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent, at an address that looks public
        "169.254.0.0/16",  # link-local; 169.254.169.254 is most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        # IPv6 hands out global unicast from 2000::/3 only. Below it lie loopback, the IPv4-mapped,
        # -compatible and -translated forms and NAT64 (64:ff9b::/96, 64:ff9b:1::/48); above it unique
        # local fc00::/7 (fd00:ec2::254 is metadata), link-local fe80::/10, site-local fec0::/10, ff00::/8.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# IPv6 networks that carry an IPv4 address, and the number of bits to its right.
EMBEDDED_IPV4: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
TEREDO = IPv6Network("2001::/32")  # its client address is stored inverted

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")


@dataclass(frozen=True)
class AllowEntry:
    """One parsed entry of `ImageUrlSettings.allow`: a host name or a network, and a port or None."""

    target: str | Network
    port: int | None

    @classmethod
    def parse(cls, text: str) -> AllowEntry:
        """Read `host`, `host:port`, `10.0.0.0/8`, `10.0.0.0/8:8080`, `fd00::/8` or `[fd00::1]:8080`.

        Raises:
            SettingsError: it is none of these.
        """
        match = re.fullmatch(r"(?:\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(?::(?P<port>\d{1,5}))?", text.lower())
        target = (match["name"] or match["v6"] or "") if match else text.lower()
        port = int(match["port"]) if match and match["port"] else None
        if port is not None and not 0 < port < 65536:
            raise SettingsError(f"image_url_allow: {text!r} has a port outside 1..65535")
        try:
            return cls(ip_network(target), port)
        except ValueError:
            if "/" in target or not is_host_name(target):
                raise SettingsError(
                    f"image_url_allow: {text!r} is no host, address or network (host bits 0), with or without :port"
                ) from None
        return cls(target, port)

    def matches(self, host: str, address: Address, port: int) -> bool:
        """Whether the entry allows this host or address on this port."""
        if port != self.port and (self.port is not None or port not in WEB_PORTS.values()):
            return False
        return host == self.target if isinstance(self.target, str) else address in self.target


def is_blocked(address: Address) -> bool:
    """Whether the address is in any network that a stranger's URL must not reach."""
    return any(address in network for network in BLOCKED_NETWORKS)


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """The IPv4 address inside a mapped, translated, NAT64, 6to4 or Teredo address."""
    if isinstance(address, IPv4Address):
        return None
    if address in TEREDO:
        return IPv4Address(~int(address) & 0xFFFFFFFF)
    for network, shift in EMBEDDED_IPV4:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


def is_host_name(host: str) -> bool:
    """A DNS name in lower case. One that ends in a number is an IPv4 address in disguise."""
    return bool(HOST_NAME.fullmatch(host)) and not NUMBER.fullmatch(host.rpartition(".")[2])
