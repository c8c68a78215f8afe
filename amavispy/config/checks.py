"""Checks - what settings must be to each other, beyond what each must be by itself.

A check looks at a `Draft` and yields findings. It is left out when a setting it needs has a fault already: conclusions
from a wrong value would only hide the one thing to mend.

Faults are what cannot work or would do harm (a mail loop, a bounce nobody can send, a socket that two use); warnings
what works but is hardly meant (a bank nothing leads to, a network that never matches).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from amavispy.config import bank_checks, socket_checks, table_checks
from amavispy.config.conversion import Draft
from amavispy.config.findings import Finding, fault, warning

Check = Callable[[Draft], Iterator[Finding]]


def findings(draft: Draft) -> Iterator[Finding]:
    """All findings of all checks whose settings are sound."""
    for check, needed in _CHECKS:
        if draft.faulty.isdisjoint(needed):
            yield from check(draft)


def elastic_pool(draft: Draft) -> Iterator[Finding]:
    """The rules of specification 1.3 for a pool that grows and shrinks."""
    server = draft.server
    if not server.min_servers:
        for name in ("min_spare_servers", "max_spare_servers"):
            if getattr(server, name):
                yield warning((name,), "has no effect without min_servers", "set min_servers too, or remove it")
        return
    rules = (
        ("min_spare_servers", "min_servers", 0),
        ("min_spare_servers", "max_spare_servers", 0),
        ("max_spare_servers", "max_servers", 1),
        ("min_servers", "max_servers", 0),
    )
    for name, other, distance in rules:
        bound = getattr(server, other) - distance
        if getattr(server, name) > bound:
            allowed = f"{'less than' if distance else 'at most'} {other}"
            problem = f"{getattr(server, name)} does not fit the other limits"
            yield fault((name,), problem, f"expected at most {bound}, {allowed}")


def numbers_that_fight(draft: Draft) -> Iterator[Finding]:
    server = draft.server
    if 0 < server.max_requests < 10:
        allowed = "hundreds are usual, 0 never replaces a worker"
        yield warning(("max_requests",), f"a worker is replaced after only {server.max_requests} messages", allowed)
    if server.max_sessions < server.max_servers:
        problem = f"{server.max_sessions} sessions cannot keep {server.max_servers} workers busy"
        yield warning(("max_sessions",), problem, "expected several times max_servers")
    for low, high in (("min_expansion_quota", "max_expansion_quota"), ("min_expansion_factor", "max_expansion_factor")):
        if getattr(server, low) > getattr(server, high):
            yield warning((low,), f"is larger than {high}", f"{high} then never counts")


def silence(draft: Draft) -> Iterator[Finding]:
    server = draft.server
    if not (server.do_syslog or server.logfile or server.debug_to_stderr):
        yield warning(("do_syslog",), "nothing is logged anywhere", "set do_syslog or logfile")


def identity(draft: Draft) -> Iterator[Finding]:
    if draft.base.myhostname == "localhost":
        problem = "replies, bounces and the log call this host localhost"
        yield warning(("myhostname",), problem, 'set it to this host\'s name: "mail.example.com"')
    implied = draft.server.lookup_maps_imply_sql_and_ldap and (draft.server.lookup_sql_dsn or draft.base.enable_ldap)
    if not draft.base.local_domains_maps and not implied:
        problem = "no recipient is local, so nobody gets spam marks or notices"
        yield warning(("local_domains_maps",), problem, 'set it to your domains: [[".example.com"]]')


def nothing_scans(draft: Draft) -> Iterator[Finding]:
    every = [settings for _, settings in draft.banks()]
    if not any(settings.av_scanners for settings in every):
        yield warning(("av_scanners",), "no virus scanner, mail is not checked for viruses", "add an [[av_scanners]]")
    if not any(settings.spam_scanners for settings in every):
        yield warning(("spam_scanners",), "no spam scanner, mail is not checked for spam", "add a [[spam_scanners]]")


def daemon_is_root(draft: Draft) -> Iterator[Finding]:
    if draft.server.daemon_user == "root":
        yield fault(("daemon_user",), "the daemon must not run as root", "expected a user of its own")


_SOCKETS = frozenset(("listen_sockets", "inet_socket_bind", "interface_policy", "protocol"))
_DATABASES = frozenset(("lookup_sql_dsn", "lookup_redis_dsn", "default_ldap", "enable_ldap"))
_BANKS = frozenset(("interface_policy", "client_ipaddr_policy"))

_CHECKS: tuple[tuple[Check, frozenset[str]], ...] = (
    (elastic_pool, frozenset(("max_servers", "min_servers", "min_spare_servers", "max_spare_servers"))),
    (numbers_that_fight, frozenset(("max_requests", "max_sessions", "max_servers", "min_expansion_quota"))),
    (silence, frozenset(("do_syslog", "logfile", "debug_to_stderr"))),
    (identity, frozenset(("myhostname", "local_domains_maps"))),
    (nothing_scans, frozenset(("av_scanners", "spam_scanners"))),
    (daemon_is_root, frozenset(("daemon_user",))),
    (socket_checks.no_sockets, _SOCKETS),
    (socket_checks.sockets_twice, _SOCKETS),
    (socket_checks.unix_without_protocol, _SOCKETS),
    (socket_checks.smtp_without_next_hop, _SOCKETS | {"forward_method"}),
    (socket_checks.keys_without_socket, _SOCKETS),
    (socket_checks.tls_suffix, _SOCKETS),
    (
        socket_checks.tls_without_certificate,
        frozenset(("tls_security_level_in", "smtpd_tls_cert_file", "smtpd_tls_key_file")),
    ),
    (socket_checks.tls_takes_all_workers, frozenset(("tls_security_level_in", "max_tls_sessions", "max_servers"))),
    (socket_checks.mail_loops, _SOCKETS | {"forward_method", "notify_method", "release_method"}),
    (socket_checks.closed_to_others, _SOCKETS | {"inet_acl"}),
    (bank_checks.unknown_banks, _BANKS),
    (bank_checks.unreachable_banks, _BANKS | {"protocol"}),
    (bank_checks.bounces_without_next_hop, frozenset(("notify_method",))),
    (bank_checks.unknown_banned_rules, frozenset(("banned_rules", "banned_filename_maps"))),
    (bank_checks.quarantine_without_database, frozenset(("storage_sql_dsn",))),
    (bank_checks.events_without_redis, frozenset(("storage_redis_dsn",))),
    (table_checks.tables_without_database, _DATABASES),
    (table_checks.unknown_columns, _DATABASES | {"sql_clause"}),
    (table_checks.ldap_without_base, frozenset(("default_ldap", "enable_ldap"))),
    (table_checks.missing_modules, _DATABASES),
    (bank_checks.tables_never_asked, frozenset()),
    (bank_checks.networks_in_vain, frozenset(("client_ipaddr_policy",))),
    (bank_checks.rules_in_vain, frozenset(("client_ipaddr_policy",))),
)
