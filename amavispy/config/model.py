"""Model - what a configuration becomes: frozen, checked values.

`ServerSettings` holds what exists once a daemon; whatever a policy bank may override stands in
`amavispy.policy.settings.Settings` and is reached through `Config.banks`. Descriptions and the forms a file may write
stand in `config.schema`; a test holds them together. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amavispy.config.faults import Fault
from amavispy.policy.bank import Banks
from amavispy.tables.ldap_settings import NO_LDAP, LdapSettings

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ListenSocket:
    """One socket to listen on. `text` names it in logs, policies and `Connection.listener`.

    `kind` is "inet" or "unix". `host` is an IP address (without brackets), "*" for every address, or a name: of a
    network interface or, when no interface is called so, of a host; the server finds out. `path` is a Unix socket's.
    """

    text: str
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def inet(cls, host: str, port: int) -> ListenSocket:
        shown = f"[{host}]" if ":" in host else host
        return cls(f"{shown}:{port}", "inet", host=host, port=port)

    @classmethod
    def unix(cls, path: str) -> ListenSocket:
        return cls(path, "unix", path=path)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings that exist once. Times are seconds, sizes octets, "" is unset."""

    # places
    myhome: str = "/var/lib/amavispy"
    tempbase: str = "/var/lib/amavispy/tmp"
    quarantinedir: str = "/var/lib/amavispy/quarantine"
    quarantine_subdir_levels: int = 1
    pid_file: str = "/run/amavispy/amavispy.pid"
    release_key_file: str = "/var/lib/amavispy/release.key"
    # identity
    daemon_user: str = "amavispy"
    daemon_group: str = "amavispy"
    mydomain: str = "localhost"
    # processes; min_servers 0 is a fixed pool, max_requests 0 no limit
    max_servers: int = 2
    min_servers: int = 0
    min_spare_servers: int = 0
    max_spare_servers: int = 0
    max_requests: int = 1000
    # sockets; listen_sockets is complete: entries without an address were joined with inet_socket_bind
    listen_sockets: tuple[ListenSocket, ...] = (ListenSocket.inet("127.0.0.1", 10024), ListenSocket.inet("::1", 10024))
    inet_socket_bind: tuple[str, ...] = ("127.0.0.1", "::1")
    unix_socket_mode: int = 0o660
    listen_queue_size: int = 1024
    interface_policy: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # clients; max_wait: for a worker, before 421; max_queue: clients waiting; max_sessions: idle and active
    smtpd_recipient_limit: int = 1100
    max_wait: float = 60.0
    max_queue: int = 1000
    max_sessions: int = 5000
    max_tls_sessions: int = 100
    smtpd_tls_cert_file: str = ""
    smtpd_tls_key_file: str = ""
    # the next hop
    local_client_bind_address: str = ""
    smtp_connection_cache_enable: bool = True
    # logging; both may be on, and neither with debug_to_stderr
    do_syslog: bool = True
    logfile: str = ""
    debug_to_stderr: bool = False
    json_log_file: str = ""
    json_log_to_syslog: bool = False
    redis_logging_queue_size_limit: int = 100_000
    # databases, in the order in which they are tried; quarantine_index: a path, or postgresql://
    storage_sql_dsn: tuple[str, ...] = ()
    storage_redis_dsn: tuple[str, ...] = ()
    sql_quarantine_chunksize_max: int = 16_384
    quarantine_index: str = "/var/lib/amavispy/quarantine.db"
    # by category; what is older, or beyond so many octets, is removed by `amavispy quarantine expire`
    quarantine_lifetimes: Mapping[str, float] = field(default_factory=dict)
    quarantine_size_limits: Mapping[str, int] = field(default_factory=dict)
    # lookups in databases; times in seconds
    lookup_sql_dsn: tuple[str, ...] = ()
    sql_allow_8bit_address: bool = False
    sql_lookups_no_at_means_domain: bool = False
    default_ldap: LdapSettings = NO_LDAP
    ldap_lookups_no_at_means_domain: bool = False
    lookup_redis_dsn: tuple[str, ...] = ()
    lookup_redis_prefix: str = "lookup:"
    lookup_maps_imply_sql_and_ldap: bool = True
    lookup_timeout: float = 10.0
    trim_trailing_space_in_lookup_result_fields: bool = False
    dnsxl_nameservers: tuple[tuple[str, int], ...] = ()
    # limits of decoding
    spool_threshold: int = MIB
    maxlevels: int = 14
    maxfiles: int = 1500
    min_expansion_quota: int = 100 * KIB
    max_expansion_quota: int = 300 * MIB
    min_expansion_factor: float = 5.0
    max_expansion_factor: float = 500.0
    max_decoding_time: float = 8.0
    # unpacking
    sandbox: str = "auto"
    archive_passwords: tuple[str, ...] = ()
    find_archive_passwords: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `files` are those it was read from, tables included; `warnings` did not stop it."""

    server: ServerSettings
    banks: Banks
    warnings: tuple[Fault, ...] = ()
    files: tuple[str, ...] = ()
