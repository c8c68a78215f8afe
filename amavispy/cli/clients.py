"""clients - what --socket and --client mean: the connection and the client that a mail would come from.

**Failures:** click.BadParameter, exit status 2, for a socket that is not listened on or a client that is no address.
"""

from __future__ import annotations

from ipaddress import ip_address

import click

from amavispy.config.model import Config, ListenSocket
from amavispy.mail.envelope import Connection
from amavispy.policy.explain import connection_for


def connection_on(socket: str, config: Config) -> Connection:
    """The connection that a port, "address:port", "interface:port", a path or SOCK means."""
    try:
        return connection_for(socket, [_of(listen_socket) for listen_socket in config.server.listen_sockets])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--socket")


def client_address(text: str | None) -> str | None:
    """The client's address in its usual form; None for an unknown one."""
    if not text:
        return None
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        hint = "expected an IP address such as 192.0.2.1 or 2001:db8::1; leave --client out for an unknown client"
        raise click.BadParameter(f"{text} is no IP address; {hint}", param_hint="--client")


def _of(listen_socket: ListenSocket) -> Connection:
    """A connection as this socket makes it. What only the system knows, an interface's addresses, is left open."""
    host = listen_socket.host
    if listen_socket.kind == "unix":
        return Connection(listen_socket.text)
    if _is_address(host) or host == "*":
        return Connection(listen_socket.text, local=host, local_port=listen_socket.port)
    return Connection(listen_socket.text, local_port=listen_socket.port, interface=host)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
