"""Sockets - listen sockets, next hops and the keys of interface_policy, as a file writes them.

Nothing is resolved here: a name may be a network interface's or a host's, and only the server can tell.

**Failures:** BadValue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from amavispy.config.kinds import BadValue, Context, Kind, each, integer_of, show, text_of
from amavispy.config.model import ListenSocket
from amavispy.mail.next_hop import NextHop

_INET = re.compile(r"(?:\[(?P<literal>[^]]+)\]|(?P<host>[^][:/\s]+)):(?P<port>\d{1,5})")
_SUFFIX = re.compile(r"[/|](?:tcp|ssl)$", re.I)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_PATH_LIMIT = 107  # unix(7): sun_path holds 108 octets with its NUL
_FORMS = 'a port, "address:port", "[v6]:port", "interface:port", "*:port" or "/path"'
_BANK = re.compile(r"[^\s,/\x00-\x1f\x7f]{1,64}")


def listen_socket(value: Any, context: Context) -> ListenSocket:
    """One entry of listen_sockets; its host is "" when it is a port alone."""
    if isinstance(value, int) and not isinstance(value, bool):
        return ListenSocket("", "inet", port=integer_of(value, 1, 65535))
    text = text_of(value, context) if isinstance(value, str) else ""
    plain = _SUFFIX.sub("", text) if not text.startswith("/") else text.removesuffix("|unix")
    plain = plain.removeprefix("unix:").removeprefix("inet:").removeprefix("inet6:")
    if plain.startswith("/"):
        return ListenSocket.unix(_socket_path(plain))
    if plain.isascii() and plain.isdigit():
        return ListenSocket("", "inet", port=_port(plain))
    match = _INET.fullmatch(plain)
    if not match:
        raise BadValue(f"{show(value)} is not a listen socket", f"expected {_FORMS}")
    return ListenSocket.inet(host(match["literal"] or match["host"], bool(match["literal"])), _port(match["port"]))


def asks_for_tls(value: Any) -> bool:
    """Whether an entry has the suffix that asks for TLS from the first octet."""
    return isinstance(value, str) and not value.startswith("/") and value.lower().endswith(("/ssl", "|ssl"))


def host(text: str, is_literal: bool = False) -> str:
    """An address in its usual form, "*", or a name as it is."""
    if text == "*":
        return text
    try:
        bare = re.sub("^ipv6:", "", text, flags=re.I)
        return str(ip_address(bare))
    except ValueError:
        if is_literal or not _NAME.fullmatch(text) or re.fullmatch(r"[\d.]+", text):
            raise BadValue(f"{show(text)} is not an address", 'expected an IP address, "*" or the name of an interface')
        return text


def _port(text: str) -> int:
    return integer_of(int(text[:9]), 1, 65535)


def _socket_path(path: str) -> str:
    if len(path.encode()) > _PATH_LIMIT:
        raise BadValue(f"the path of this socket has {len(path.encode())} octets", f"expected at most {_PATH_LIMIT}")
    return path


def _listen_sockets(value: Any, context: Context) -> tuple[ListenSocket, ...]:
    if not isinstance(value, list):
        raise BadValue(f"{show(value)} is not a list", f"expected a list of listen sockets: {_FORMS}")
    return tuple(each(enumerate(value), lambda v: listen_socket(v, context)))


def joined(sockets: tuple[ListenSocket, ...], bind: tuple[str, ...]) -> tuple[tuple[int, ListenSocket], ...]:
    """The sockets with every port that has no address joined with every address of inet_socket_bind (chapter 2.1).

    Each with its index in `sockets`.
    """
    lists = ([s] if s.text else [ListenSocket.inet(a, s.port) for a in bind or ("*",)] for s in sockets)
    return tuple((index, socket) for index, group in enumerate(lists) for socket in group)


def _bind(value: Any, context: Context) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]

    def convert(entry: Any) -> str:
        text = text_of(entry, context)
        is_literal = text.startswith("[") and text.endswith("]")
        return host(text[1:-1] if is_literal else text, is_literal) if text else "*"

    return tuple(each(enumerate(entries), convert)) if isinstance(value, list) else (convert(value),)


def bank_names(value: Any, context: Context) -> tuple[str, ...]:
    """One bank, "A,B", or a list of banks."""
    if not isinstance(value, list):
        return tuple(bank_name(name.strip()) for name in text_of(value, context).split(","))
    return tuple(each(enumerate(value), lambda name: bank_name(text_of(name, context))))


def bank_name(name: str) -> str:
    """A name that can stand in a path of banks ("A/B") and in a list of them ("A,B")."""
    if not _BANK.fullmatch(name):
        raise BadValue(
            f"{show(name)} cannot be the name of a policy bank", "expected 1 to 64 characters, no blank, comma or /"
        )
    return name


def _interface_policy(value: Any, context: Context) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise BadValue(f"{show(value)} is not a table", "expected [interface_policy] with lines SOCKET = BANK")
    pairs = ((key, (key, names)) for key, names in value.items())
    return dict(each(pairs, lambda pair: (policy_key(pair[0], context), bank_names(pair[1], context))))


def policy_key(key: str, context: Context) -> str:
    """A key of interface_policy, written as connections are looked up."""
    if key == "SOCK":
        return key
    found = listen_socket(key, context)
    return found.text or str(found.port)


def next_hops(value: Any, context: Context) -> tuple[NextHop, ...]:
    """One next hop or several, tried in order; "" or [] is none."""
    if isinstance(value, list):
        return tuple(each(enumerate(value), lambda entry: _next_hop(entry, context)))
    return () if value == "" else (_next_hop(value, context),)


def _next_hop(value: Any, context: Context) -> NextHop:
    text = text_of(value, context) if isinstance(value, str) else ""
    try:
        return NextHop.parse(text)
    except ValueError as error:
        raise BadValue(f"{show(text or value)} is not a next hop", str(error))


def _ip_address(value: Any, context: Context) -> str:
    text = text_of(value, context)
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise BadValue(f"{show(text)} is not an IP address", 'expected an IP address, or ""')


def address_kind() -> Kind:
    return Kind('IP address, "" for none', _ip_address, is_text=True)


def listen_sockets_kind() -> Kind:
    return Kind(f"list of {_FORMS}", _listen_sockets)


def bind_kind() -> Kind:
    return Kind('list of addresses, interfaces or "*"', _bind)


def interface_policy_kind() -> Kind:
    return Kind("table: socket = bank", _interface_policy)


def next_hops_kind() -> Kind:
    return Kind('"smtp:[address]:port", "lmtp:/path", or a list of these', next_hops)
