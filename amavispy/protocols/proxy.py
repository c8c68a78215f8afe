"""Proxy - the PROXY protocol: who really connected, said by the load balancer before the first octet of SMTP.

Both versions of HAProxy's proxy-protocol.txt: the text line of version 1 and the binary header of version 2. The caller
shows all octets received so far and keeps what stands behind the header. A caller asks only peers that it trusts and
whose listener has `haproxy_target_enabled`; it must never guess whether a header is there.

amavisd understands version 1 only. Like amavisd we refuse UNKNOWN, and what version 2 has instead of it: a client that
cannot be named would get the balancer's rights.

**Failures:** PeerError; the connection is closed, and the reply is for the log more than for the peer.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from amavispy.mail.reply import PeerError, Reply
from amavispy.protocols.xforward import normal_address

LINE_LIMIT: Final = 107  # octets with CRLF: proxy-protocol.txt 2.1
EXTENSION_LIMIT: Final = 4096  # octets of addresses and TLVs that we wait for; the field itself could say 65535

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n")
_LOCAL, _PROXY = 0x20, 0x21  # version 2, command
_TCP4, _TCP6 = 0x11, 0x21  # address family, transport


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The connection as the balancer got it. `peer` is None when the balancer speaks for itself (a health check).

    Addresses are normal IPs ("192.0.2.1", "2001:db8::1"; IPv4-mapped as dotted quad).
    """

    peer: str | None = None
    peer_port: int = 0
    local: str | None = None
    local_port: int = 0


def read_header(octets: bytes) -> tuple[ProxyHeader, int] | None:
    """The header at the start of all octets so far, and its length; None while it is not there as a whole.

    PeerError as soon as it cannot become a header any more.
    """
    if octets.startswith(_SIGNATURE):
        return _read_binary(octets)
    if octets.startswith(b"PROXY "):
        return _read_line(octets)
    if _SIGNATURE.startswith(octets) or b"PROXY ".startswith(octets):
        return None
    raise _refusal("PROXY header expected")


def _read_line(octets: bytes) -> tuple[ProxyHeader, int] | None:
    end = octets.find(b"\n", 0, LINE_LIMIT) + 1
    if not end:
        if len(octets) >= LINE_LIMIT:
            raise _refusal("PROXY header too long")
        return None
    match = _LINE.fullmatch(octets, 0, end)
    if not match:
        raise _refusal("bad PROXY header")
    version, peer, local = (group.decode() for group in match.groups()[:3])
    ports = int(match[4]), int(match[5])
    if max(ports) > 65535:
        raise _refusal("bad port in PROXY header")
    return ProxyHeader(_address(peer, version), ports[0], _address(local, version), ports[1]), end


def _address(text: str, version: str) -> str:
    try:
        if str(ip_address(text).version) == version:
            return normal_address(text) or text
    except ValueError:
        pass
    raise _refusal("bad address in PROXY header")


def _read_binary(octets: bytes) -> tuple[ProxyHeader, int] | None:
    """proxy-protocol.txt 2.2: signature, version and command, family and transport, length, addresses, TLVs."""
    if len(octets) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", octets, 12)
    if command not in (_LOCAL, _PROXY) or length > EXTENSION_LIMIT:
        raise _refusal("bad PROXY header")
    end = 16 + length
    if len(octets) < end:
        return None
    if command == _LOCAL:
        return ProxyHeader(), end
    return _addresses(family, octets[16:end]), end


def _addresses(family: int, octets: bytes) -> ProxyHeader:
    width = {_TCP4: 4, _TCP6: 16}.get(family)
    if not width or len(octets) < 2 * width + 4:
        raise _refusal("bad address family in PROXY header")
    peer, local, peer_port, local_port = struct.unpack_from(f"!{width}s{width}sHH", octets)
    return ProxyHeader(_binary_address(peer), peer_port, _binary_address(local), local_port)


def _binary_address(octets: bytes) -> str | None:
    return normal_address(str(ip_address(octets)))


def _refusal(reason: str) -> PeerError:
    return PeerError(Reply(421, "4.3.2", f"Service not available, {reason}"), closes=True)
