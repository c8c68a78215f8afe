"""Socket checks - listen sockets against each other, against interface_policy, and against what their banks say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from amavispy.config.conversion import Draft
from amavispy.config.findings import Finding, fault, warning
from amavispy.config.model import ListenSocket
from amavispy.config.sockets import asks_for_tls
from amavispy.config.sources import Path
from amavispy.mail.next_hop import NextHop
from amavispy.policy.settings import Settings

_OUR_NAMES = ("127.0.0.1", "::1", "localhost")


def keys_of(socket: ListenSocket) -> tuple[str, ...]:
    """The keys of interface_policy that surely hold for connections to a socket; an interface's own may too."""
    if socket.kind == "unix":
        return ("SOCK", socket.path)
    return (str(socket.port), socket.text)


def banks_of(draft: Draft, socket: ListenSocket) -> list[str]:
    """The names of the banks a connection to this socket gets, in order."""
    policy = draft.server.interface_policy
    return [name for key in dict.fromkeys(keys_of(socket)) for name in policy.get(key, ()) if name in draft.overrides]


def settings_of(draft: Draft, socket: ListenSocket) -> Settings:
    """The settings a connection to this socket starts with."""
    settings = draft.base
    for name in banks_of(draft, socket):
        settings = replace(settings, **draft.overrides[name])
    return settings


def sockets_twice(draft: Draft) -> Iterator[Finding]:
    sockets = draft.server.listen_sockets
    for index, socket in enumerate(sockets):
        earlier = next((other for other in sockets[:index] if _clash(socket, other)), None)
        if earlier:
            yield fault(
                draft.socket_places[index], f"{socket.text} listens where {earlier.text} does", "every socket only once"
            )


def _clash(one: ListenSocket, other: ListenSocket) -> bool:
    if one.kind != other.kind or one.kind == "unix":
        return one.text == other.text
    return one.port == other.port and (one.host == other.host or "*" in (one.host, other.host))


def no_sockets(draft: Draft) -> Iterator[Finding]:
    if not draft.server.listen_sockets:
        yield fault(("listen_sockets",), "there is no socket to listen on", "expected at least one")


def unix_without_protocol(draft: Draft) -> Iterator[Finding]:
    for place, socket in zip(draft.socket_places, draft.server.listen_sockets, strict=True):
        if socket.kind == "unix" and not settings_of(draft, socket).protocol:
            yield fault(
                place,
                f"protocol not specified, UNIX: no bank of {socket.path} sets it",
                "give it a bank in interface_policy (SOCK or the path) with protocol",
            )


def smtp_without_next_hop(draft: Draft) -> Iterator[Finding]:
    found: dict[Path, list[str]] = {}
    for socket in draft.server.listen_sockets:
        settings = settings_of(draft, socket)
        if settings.protocol in ("", "SMTP", "LMTP") and not settings.forward_method:
            setting = [name for name in banks_of(draft, socket) if "forward_method" in draft.overrides[name]]
            path: Path = ("policy_bank", setting[-1]) if setting else ()
            found.setdefault((*path, "forward_method"), []).append(socket.text)
    for path, sockets in found.items():
        yield fault(path, f"mail that comes in at {', '.join(sockets)} has no next hop", "SMTP and LMTP need one")


def keys_without_socket(draft: Draft) -> Iterator[Finding]:
    sockets = draft.server.listen_sockets
    known = {key for socket in sockets for key in keys_of(socket)}
    ports = {str(s.port) for s in sockets if s.kind == "inet" and not _is_address(s.host)}
    for key in draft.server.interface_policy:
        host, _, port = key.rpartition(":")
        is_open = port in ports or (not _is_address(host.strip("[]")) and port in known)
        if key not in known and not (host and not key.startswith("/") and is_open):
            yield warning(("interface_policy", key), "no listen socket has this key", f"sockets: {_list(sockets)}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _list(sockets: tuple[ListenSocket, ...]) -> str:
    texts = [socket.text for socket in sockets[:8]]
    return ", ".join(texts) + (", ..." if len(sockets) > 8 else "")


def tls_suffix(draft: Draft) -> Iterator[Finding]:
    raw = draft.merged.values.get("listen_sockets", [])
    for index, entry in enumerate(raw):
        if asks_for_tls(entry):
            path = ("listen_sockets", index)
            yield warning(
                path, "TLS from the first octet is not available in this version", "the socket offers STARTTLS only"
            )


def tls_without_certificate(draft: Draft) -> Iterator[Finding]:
    server = draft.server
    if bool(server.smtpd_tls_cert_file) != bool(server.smtpd_tls_key_file):
        missing = "smtpd_tls_key_file" if server.smtpd_tls_cert_file else "smtpd_tls_cert_file"
        given = "smtpd_tls_cert_file" if server.smtpd_tls_cert_file else "smtpd_tls_key_file"
        yield fault((given,), f"{missing} is missing", "a certificate needs its key and a key its certificate")
    for path, settings in draft.banks():
        is_own = not path or "tls_security_level_in" in draft.overrides[str(path[1])]
        if is_own and settings.tls_security_level_in != "none" and not server.smtpd_tls_cert_file:
            allowed = "set smtpd_tls_cert_file and smtpd_tls_key_file"
            yield fault((*path, "tls_security_level_in"), "there is no certificate for TLS", allowed)


def tls_takes_all_workers(draft: Draft) -> Iterator[Finding]:
    """A session with TLS stays with its worker (docs/decisions/0003)."""
    server = draft.server
    offers = any(settings.tls_security_level_in != "none" for _, settings in draft.banks())
    if offers and server.max_tls_sessions >= server.max_servers:
        problem = f"{server.max_tls_sessions} sessions with TLS can keep all {server.max_servers} workers to themselves"
        yield warning(("max_tls_sessions",), problem, "expected less than max_servers")


def mail_loops(draft: Draft) -> Iterator[Finding]:
    """A forward_method that leads back to us lets mail turn in circles; notices that do are checked by ourselves."""
    for path, settings in draft.banks():
        own = draft.overrides[str(path[1])] if path else {"forward_method", "notify_method", "release_method"}
        for name in ("forward_method", "notify_method", "release_method"):
            hops = getattr(settings, name) if name in own else ()
            for hop in hops:
                if socket := _ours(hop, draft.server.listen_sockets):
                    problem = f"{str(hop).replace('[*]', '*')} is our own listen socket {socket.text}"
                    is_forward = name == "forward_method"
                    yield (fault if is_forward else warning)((*path, name), problem, _LOOP if is_forward else _CHECKED)


_LOOP = "mail would go round in circles; name the MTA's port"
_CHECKED = "such mail is checked once more; name the MTA's port"


def _ours(hop: NextHop, sockets: tuple[ListenSocket, ...]) -> ListenSocket | None:
    """The listen socket that a next hop leads to. "*" is the client's host, and the port after that mail came in on."""
    if hop.path:
        return next((s for s in sockets if s.path == hop.path), None)
    if hop.host == "*" and not hop.port:
        ports = {s.port + 1 for s in sockets if s.kind == "inet"}
        return next((s for s in sockets if s.port in ports), None)
    return next((s for s in sockets if s.port == hop.port and _is_same_host(s.host, hop.host)), None)


def _is_same_host(listening: str, named: str) -> bool:
    is_local = named in _OUR_NAMES or (_is_address(named) and ip_address(named).is_loopback)
    if listening == "*":
        return is_local
    if listening == "lo" or (named == "localhost" and listening in _OUR_NAMES):
        return is_local
    return (
        _is_address(named) and _is_address(listening) and ip_address(named) == ip_address(listening)
    ) or named == listening


def closed_to_others(draft: Draft) -> Iterator[Finding]:
    """A socket for other hosts whose inet_acl admits this host alone: the classic of containers."""
    for place, socket in zip(draft.socket_places, draft.server.listen_sockets, strict=True):
        reaches_others = socket.kind == "inet" and not _is_same_host("*", socket.host) and socket.host != "lo"
        if reaches_others and settings_of(draft, socket).inet_acl == Settings().inet_acl:
            yield warning(
                place, f"{socket.text} listens for other hosts, but inet_acl admits only this one", "extend inet_acl"
            )
