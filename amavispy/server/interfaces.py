"""interfaces - the network interfaces of this machine and their addresses.

The only module that knows netifaces; where that cannot be built or imported, psutil answers instead. Addresses are
text as `ipaddress` writes it; a link-local IPv6 address keeps its scope ("fe80::1%eth0"), else it cannot be bound.

**Failures:** none of its own; a machine whose interfaces cannot be read seems to have none, and that is logged.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable, Mapping

import psutil

try:  # at once, while the files can be read: later we are somebody else
    import netifaces
except ImportError:
    netifaces = None

_LOG = logging.getLogger("amavispy.server")


def addresses() -> dict[str, tuple[str, ...]]:
    """Every interface with its IPv4 and IPv6 addresses, in the system's order."""
    try:
        found = _from_netifaces() if netifaces else _from_psutil()
    except OSError as error:
        _LOG.error("cannot read the network interfaces: %s", error)
        return {}
    return {name: _normal(texts, name) for name, texts in found.items()}


def by_address(interfaces: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The interface that each address belongs to, addresses without their scope."""
    return {text.partition("%")[0]: name for name, texts in interfaces.items() for text in texts}


def has_ipv6(interfaces: Mapping[str, tuple[str, ...]]) -> bool:
    """False where IPv6 is compiled out or switched off."""
    return any(":" in text for texts in interfaces.values() for text in texts)


def _from_netifaces() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in netifaces.interfaces():
        families = netifaces.ifaddresses(name)
        entries = [*families.get(socket.AF_INET, ()), *families.get(socket.AF_INET6, ())]
        found[name] = [entry["addr"] for entry in entries if "addr" in entry]
    return found


def _from_psutil() -> dict[str, list[str]]:
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [entry.address for entry in entries if entry.family in families]
        for name, entries in psutil.net_if_addrs().items()
    }


def _normal(texts: Iterable[str], interface: str) -> tuple[str, ...]:
    normal = []
    for text in texts:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        bare = text.partition("%")[0]
        scoped = f"{bare}%{interface}" if address.version == 6 and address.is_link_local else str(address)
        normal.append(scoped)
    return tuple(dict.fromkeys(normal))
