"""Connections to public addresses only, so that a URL in a payload cannot make the worker reach what is behind the firewall."""

import ipaddress
import socket
import ssl
import typing

import anyio
import httpcore2
import httpx2

# The special-purpose registries of IANA (RFC 6890), with multicast: what is not globally reachable, and what leads on to another address.
# Python's own lists differ from version to version.
_SPECIAL_V4 = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 only 2000::/3 is given out to the public: NAT64, v4-compatible, site-local, unique local and SRv6 addresses are all outside of it.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_SPECIAL_V6 = tuple(
    ipaddress.ip_network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class PrivateTarget(Exception):
    """The host has no public address."""


class PublicNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves a host once, refuses it unless every one of its addresses is public, and connects to an address that it has checked.

    Connecting to the address and not to the name leaves no moment for the name to change its meaning (DNS rebinding).
    """

    def __init__(self) -> None:
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the interface's
        local_address: str | None = None,
        socket_options: typing.Iterable[typing.Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = await public_address(host, port)
        return await self._backend.connect_tcp(
            address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )

    async def connect_unix_socket(self, *_: typing.Any, **__: typing.Any) -> httpcore2.AsyncNetworkStream:
        raise PrivateTarget("Unix sockets are not public")

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


async def public_address(host: str, port: int) -> str:
    """An address of ``host``. Raises PrivateTarget unless all of its addresses are public, and OSError when it has none."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_public(address):
            raise PrivateTarget(f"{host} is at {address}, which is not public")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet: not loopback, private, link-local, multicast or reserved, mapped or not."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        return ip in _GLOBAL_UNICAST and not any(ip in network for network in _SPECIAL_V6)
    return not any(ip in network for network in _SPECIAL_V4)


def public_transport() -> httpx2.AsyncHTTPTransport:
    """An HTTP transport that connects to public addresses only."""
    transport = httpx2.AsyncHTTPTransport()
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=PublicNetwork(), max_connections=100
    )
    return transport
