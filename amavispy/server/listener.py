"""listener - listen sockets: every form the configuration allows, bound once, kept over reloads.

In: the configured ListenSockets, those already open (a reload) and those a supervisor handed over (LISTEN_FDS). Out:
Listeners; a socket that is already open is kept, so its queue of clients is too. One entry may give several sockets: an
interface or host name with several addresses, "*" with one a family.

**Failures:** `ListenError` names every socket that cannot be opened and why; what was newly opened is closed again. An
address of a family this machine does not have is left out with a log line.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from amavispy.config.model import ListenSocket, ServerSettings
from amavispy.server import interfaces

_LOG = logging.getLogger("amavispy.server")
_FIRST_INHERITED = 3  # sd_listen_fds(3)
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class ListenError(Exception):
    """Sockets that cannot be opened; the text has one line for each."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, as asked for: family and address. Port 0 asks for any free port."""

    family: socket.AddressFamily
    address: Any

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return str(self.address)
        host, port = self.address[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """An open listen socket, non-blocking. `text` is the entry it comes from; `inode` that of its socket file, or 0."""

    text: str
    place: Place
    sock: socket.socket
    inode: int = 0

    @property
    def is_unix(self) -> bool:
        return self.place.family == socket.AF_UNIX

    def close(self) -> None:
        """Close it, and remove its socket file if that is still ours. Only the master calls this."""
        self.sock.close()
        if self.inode and _inode_of(self.place.address) == self.inode:
            os.unlink(self.place.address)


def open_listeners(
    server: ServerSettings, kept: Sequence[Listener] = (), inherited: Sequence[socket.socket] = ()
) -> tuple[Listener, ...]:
    """Open every listen socket of the settings, in their order; those of `kept` and `inherited` that fit are used.

    Inherited sockets that no entry asks for are closed.
    """
    opening = _Opening(server, kept, inherited)
    for wanted in server.listen_sockets:
        opening.open(wanted)
    return opening.finish()


def inherited_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets a supervisor passed to this process (sd_listen_fds(3)); the variables are removed."""
    count = environment.pop("LISTEN_FDS", "0")
    pid = environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count)):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets


def _places(wanted: ListenSocket, known: Mapping[str, tuple[str, ...]]) -> list[Place]:
    """All addresses that an entry means: a path, one address, those of an interface, or those of a host name."""
    if wanted.kind == "unix":
        return [Place(socket.AF_UNIX, wanted.path)]
    if wanted.host == "*":
        return [Place(socket.AF_INET6, ("::", wanted.port)), Place(socket.AF_INET, ("0.0.0.0", wanted.port))]
    hosts = known.get(wanted.host, (wanted.host,))
    places = []
    for host in hosts:
        for family, _, _, _, address in socket.getaddrinfo(host, wanted.port, type=socket.SOCK_STREAM):
            plain = (str(address[0]), int(address[1]))
            scope = int(address[3]) if len(address) == 4 else 0
            places.append(Place(family, (*plain, 0, scope) if scope else plain))
    return list(dict.fromkeys(places))


class _Opening:
    """One pass over the entries: what is open already, what is open now, what went wrong."""

    def __init__(self, server: ServerSettings, kept: Sequence[Listener], inherited: Sequence[socket.socket]) -> None:
        self._server = server
        self._known = interfaces.addresses()
        self._kept = {_key(listener.text, listener.place): listener for listener in kept}
        self._inherited = inherited
        self._open: dict[object, Listener] = {}
        self._faults: list[str] = []

    def open(self, wanted: ListenSocket) -> None:
        try:
            places = _places(wanted, self._known)
        except OSError as error:
            self._faults.append(f"cannot listen on {wanted.text}: {error.strerror or error}")
            return
        for place in places:
            try:
                self._open_at(wanted.text, place)
            except OSError as error:
                self._refused(wanted.text, place, error)

    def _open_at(self, text: str, place: Place) -> None:
        key = _key(text, place)
        if key in self._open:
            return
        if old := self._kept.get(key):
            self._open[key] = Listener(text, place, old.sock, old.inode)
        elif (offer := next((sock for sock in self._inherited if _fits(sock, place)), None)) is None:
            self._open[key] = _bound(text, place, self._server)
        elif all(listener.sock is not offer for listener in self._open.values()):
            self._open[key] = _prepared(text, place, offer, self._server.listen_queue_size)

    def _refused(self, text: str, place: Place, error: OSError) -> None:
        if _lacks_family(error, place, self._known):
            _LOG.warning("not listening on %s: %s is not available here", text, place.family.name)
        else:
            self._faults.append(f"cannot listen on {text}: {place}: {error.strerror or error}")

    def finish(self) -> tuple[Listener, ...]:
        if not self._open and not self._faults:
            self._faults.append("there is no socket to listen on")
        if self._faults:
            for listener in [listener for key, listener in self._open.items() if key not in self._kept]:
                listener.close()
            raise ListenError("\n".join(self._faults))
        used = [listener.sock for listener in self._open.values()]
        for sock in [sock for sock in self._inherited if sock not in used]:
            _LOG.warning("closing the inherited socket %s: no listen_sockets entry asks for it", sock.getsockname())
            sock.close()
        return tuple(self._open.values())


def _key(text: str, place: Place) -> object:
    """What makes two listen sockets the same: the place; with port 0, any free one, only the entry can tell."""
    return (text, place) if place.address[1:2] == (0,) else place


def _bound(text: str, place: Place, server: ServerSettings) -> Listener:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        if place.family == socket.AF_UNIX:
            return _bound_to_path(text, place, sock, server)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place.address)
        return _prepared(text, place, sock, server.listen_queue_size)
    except BaseException:
        sock.close()
        raise


def _bound_to_path(text: str, place: Place, sock: socket.socket, server: ServerSettings) -> Listener:
    _remove_stale(place.address)
    # The mode comes from the umask: a chmod afterwards would leave a moment with another mode, and would follow a link.
    umask = os.umask(0o777 & ~server.unix_socket_mode)
    try:
        sock.bind(place.address)
    finally:
        os.umask(umask)
    prepared = _prepared(text, place, sock, server.listen_queue_size)
    return Listener(text, place, prepared.sock, _inode_of(place.address))


def _prepared(text: str, place: Place, sock: socket.socket, backlog: int) -> Listener:
    sock.setblocking(False)
    if place.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it on Linux
    sock.listen(backlog)
    return Listener(text, place, sock)


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more; OSError when somebody does, or when it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is something else than a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full, so somebody listens
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _fits(sock: socket.socket, place: Place) -> bool:
    """Whether an inherited socket serves the place; [::] without V6ONLY serves 0.0.0.0 too."""
    name = sock.getsockname()
    if sock.family == place.family:
        return bool(name == place.address if place.family == socket.AF_UNIX else name[:2] == place.address[:2])
    if (sock.family, place.family) != (socket.AF_INET6, socket.AF_INET):
        return False
    serves_both = not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return serves_both and name[:2] == ("::", place.address[1]) and place.address[0] == "0.0.0.0"


def _lacks_family(error: OSError, place: Place, known: Mapping[str, tuple[str, ...]]) -> bool:
    if error.errno in _NO_FAMILY:
        return True
    is_v6 = place.family == socket.AF_INET6
    return is_v6 and error.errno == errno.EADDRNOTAVAIL and not interfaces.has_ipv6(known)


def _inode_of(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0
