"""Which addresses are connected to. A name may lead anywhere, and elsewhere the next time it is looked up: what is
judged is the address that a socket is made for."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

REFUSED = "is no public address"
"""In the reason of every refusal."""
NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


class RefusedAddressError(OSError):
    """Nothing was sent there."""


def why_refused(text: str, *, allow_private: bool) -> str | None:
    """Why nothing is asked of this address; None where it may be.

    `allow_private`: an intranet's, and this machine's own; never link-local ones, where clouds hand out credentials.
    """
    address = _inner(ipaddress.ip_address(text))
    never = address.is_link_local or address.is_multicast or address.is_unspecified
    if never or not (address.is_global or (allow_private and _is_private(address))):
        return f"{text} {REFUSED}" + ("" if never else ": --allow-private is for intranets")
    return None


def _inner(address: Address) -> Address:
    """The IPv4 address that a translator would make of it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in NAT64):
        return _inner(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    teredo = address.teredo
    found = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
    if found is None and int(address) >> 32 == 0 and int(address) > 1:  # ::1.2.3.4, of old
        found = ipaddress.IPv4Address(int(address))
    return _inner(found) if found else address


def _is_private(address: Address) -> bool:
    shared = isinstance(address, ipaddress.IPv4Address) and address in ipaddress.IPv4Network("100.64.0.0/10")
    return address.is_private or shared


def socket_factory(*, allow_private: bool) -> Callable[[AddressInfo], socket.socket]:
    """Makes sockets for what may be asked. Raises RefusedAddressError for the rest; the next address is tried."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if why := why_refused(str(address[0]), allow_private=allow_private):
            raise RefusedAddressError(errno.EACCES, why)
        return socket.socket(family, kind, protocol)

    return make
