"""Wiring - from a configuration to things that run: the only file that knows concrete classes.

Everything a worker needs is made here, in the master and before it forks: patterns compiled, rules of scanners built,
keys and certificates read. Connections are opened by the workers themselves.

Failures: ConfigError, also when something the configuration names (a key, a certificate, a rule file) is unusable.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from encodings.aliases import aliases
from functools import partial
from typing import TYPE_CHECKING

from amavispy.config.faults import ConfigError, Fault
from amavispy.config.loader import load_config
from amavispy.config.model import Config, ServerSettings
from amavispy.config.sources import Sources
from amavispy.delivery.forward import Forward, HandBack
from amavispy.delivery.index_database import IndexDatabase
from amavispy.delivery.notify import Notifier
from amavispy.delivery.quarantine import Quarantine
from amavispy.delivery.quarantine_desk import Places, QuarantineDesk
from amavispy.delivery.quarantine_index import QuarantineIndex
from amavispy.delivery.quarantined import Vault
from amavispy.delivery.release import Ledger, Release
from amavispy.delivery.transports import SmtpTransport
from amavispy.inspection.archives import UNPACKERS
from amavispy.inspection.budget import Limits
from amavispy.inspection.confinement import NOTHING, Grants, for_decoding, for_tools
from amavispy.inspection.decoder import Decoder
from amavispy.inspection.external_tools import confinable, find_tools, tool_table
from amavispy.inspection.file_types import FileTypes
from amavispy.inspection.inspector import Inspector
from amavispy.inspection.passwords import Passwords
from amavispy.inspection.sandbox import Sandbox
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.unpacking import Unpacking, report
from amavispy.journal import Journal
from amavispy.journal.event_log import EventFile, EventLog, EventRedis, EventSyslog, Place
from amavispy.journal.journal import Recorder
from amavispy.journal.transports import FileTransport, StderrTransport, SyslogTransport, Transport
from amavispy.mail.ids import IdIssuer
from amavispy.pipeline import Pipeline
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.directory import has_blocklists
from amavispy.policy.settings import ScannerSpec, Settings
from amavispy.server.ampdp_session import AmpdpSession
from amavispy.server.children import fork
from amavispy.server.plan import Plan
from amavispy.server.profiles import Profiles
from amavispy.server.session import Services, Sessions
from amavispy.server.smtp_session import SmtpSession
from amavispy.tables.directory import Databases, Resolver, Source
from amavispy.tables.failover import Failover

if TYPE_CHECKING:
    from amavispy.delivery.quarantine_sql import SqlQuarantine
    from amavispy.journal.database import Database

_KEY_OCTETS = 32
_DATAGRAM_OCTETS = 60_000  # a line of JSON must not be split


def make_plan(sources: Sources, *, debug: bool = False) -> Plan:
    """Read the configuration and make everything that runs on it. `debug` logs to the terminal."""
    config = load_config(sources)
    _load_codecs()
    server = config.server
    storage, ids = _storage(config), IdIssuer(_release_key(server.release_key_file))
    journal = Journal(_log_transport(config, debug), config.banks.base.settings, _recorders(config, storage, ids))
    journal.install()
    config.banks.directory = _directory(config)
    transport = SmtpTransport(bind_address=server.local_client_bind_address, caches=server.smtp_connection_cache_enable)
    sessions = _sessions(config, journal, transport, storage, ids)
    return Plan(server, config.banks, sessions, journal.reopen, transport.close_idle)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What looks at mail without a daemon: the configuration, and an inspector as the daemon has it."""

    config: Config
    inspector: Inspector


def make_inspection(sources: Sources, *, debug: bool = False) -> Inspection:
    """The inspector of these sources for one process of whatever user: nothing is listened on, kept or sent.

    Without any file the settings are the defaults, the rules are those most sites start from, and YARA looks for
    viruses. Log lines go to standard error with `debug`, otherwise nowhere.
    """
    if not sources.files:
        sources = replace(sources, overrides=(*_embedded_settings(), *sources.overrides))
    config = load_config(replace(sources, checks_ownership=False))
    if debug:
        Journal(StderrTransport(is_for_people=True), config.banks.base.settings).install()
    elif not logging.getLogger("amavispy").handlers:
        logging.getLogger("amavispy").addHandler(logging.NullHandler())
    _load_codecs()
    config = replace(config, server=replace(config.server, tempbase=tempfile.gettempdir()))
    return Inspection(config, _inspector(config))


def _embedded_settings() -> Iterator[str]:
    """What is scanned when there is no configuration; the strings of JSON are strings of TOML."""
    rules = [rule.pattern for rule in DEFAULT_BANNED_FILENAME_RE]
    yield f"banned_filename_re = {json.dumps(rules)}"
    yield 'av_scanners = [{ name = "YARA", type = "yara", rules = ["builtin"] }]'


def _load_codecs() -> None:
    """Python imports a character set's codec when it is first met: in a worker, from files its user may not read."""
    for name in {*aliases.values(), "idna"}:
        with contextlib.suppress(LookupError):
            codecs.lookup(name)


@dataclass(frozen=True, slots=True)
class Storage:
    """What keeps mail and records beyond files; what is not configured is None. Connected to when first used."""

    database: Database | None
    store: SqlQuarantine | None
    index: QuarantineIndex | None


@dataclass(frozen=True, slots=True)
class Keeping:
    """The quarantine for people, without a daemon."""

    config: Config
    desk: QuarantineDesk


def make_keeping(sources: Sources) -> Keeping:
    """The quarantine of these sources. Raises ConfigError, also when there is no index. Logs where the daemon does."""
    config = load_config(sources)
    _load_codecs()
    server = config.server
    if server.do_syslog or server.logfile:
        Journal(_log_transport(config, False), config.banks.base.settings).install()
    else:
        logging.getLogger("amavispy").addHandler(logging.NullHandler())
    storage = _storage(config)
    if storage.index is None:
        raise _unusable("quarantine_index", "there is no index to find mail by", "a path or postgresql://...")
    vault = Vault(server.quarantinedir, storage.store, storage.index)
    transport = SmtpTransport(bind_address=server.local_client_bind_address, caches=False)
    release = Release(transport, vault, lambda _mail_id, _secret_id: True, _ledgers(storage))
    host = config.banks.base.settings.myhostname
    return Keeping(
        config, QuarantineDesk(Places(server.quarantinedir, storage.index, vault, storage.store, host), release)
    )


def make_database(sources: Sources) -> tuple[Config, Database]:
    """The database of records. Raises ConfigError, also when none is configured."""
    config = load_config(sources)
    storage = _storage(config)
    if storage.database is None:
        raise _unusable("storage_sql_dsn", "there is no database", '"postgresql://user:password@host/database"')
    return config, storage.database


def _storage(config: Config) -> Storage:
    server, database, store, index = config.server, None, None, None
    key = "storage_sql_dsn"
    try:
        if server.storage_sql_dsn:
            from amavispy.delivery.quarantine_sql import SqlQuarantine  # 29 MB that few need
            from amavispy.journal.database import Database, DatabaseFailure, as_stored

            database = Database(server.storage_sql_dsn)
            store = SqlQuarantine(database, DatabaseFailure, as_stored, server.sql_quarantine_chunksize_max)
        key = "quarantine_index"
        if server.quarantine_index:
            index = QuarantineIndex(IndexDatabase(server.quarantine_index), config.banks.base.settings.myhostname)
    except ImportError as error:
        raise _unusable(key, f"it needs a library: {error}", "pip install amavispy[sql]") from error
    return Storage(database, store, index)


def _ledgers(storage: Storage) -> list[Ledger]:
    return [ledger for ledger in (storage.index, storage.store) if ledger]


def _recorders(config: Config, storage: Storage, ids: IdIssuer) -> list[Recorder]:
    """What keeps records of every mail beside the log."""
    server = config.server
    recorders: list[Recorder] = []
    if storage.database:
        from amavispy.journal.sql_log import SqlLog  # not without SQLAlchemy

        recorders.append(SqlLog(storage.database, ids.secret_of))
    places: list[Place] = []
    try:
        if server.json_log_file:
            places.append(EventFile(server.json_log_file))
        if server.json_log_to_syslog:
            places.append(EventSyslog(SyslogTransport(line_limit=_DATAGRAM_OCTETS)))
        if any(settings.redis_logging_key for settings in _all_settings(config)):
            places.append(EventRedis(server.storage_redis_dsn, server.redis_logging_queue_size_limit))
    except OSError as error:
        raise _unusable("json_log_file", f"{server.json_log_file}: {error.strerror}", "a file we may write") from error
    except ImportError as error:
        raise _unusable("storage_redis_dsn", f"it needs a library: {error}", "pip install amavispy[redis]") from error
    return [*recorders, EventLog(places)] if places else recorders


def _sessions(config: Config, journal: Journal, transport: SmtpTransport, storage: Storage, ids: IdIssuer) -> Sessions:
    server = config.server
    quarantine = Quarantine(
        server.quarantinedir, server.quarantine_subdir_levels, transport, storage.store, storage.index
    )
    vault = Vault(server.quarantinedir, storage.store, storage.index)
    services = Services(
        server=server,
        banks=config.banks,
        pipeline=Pipeline(
            _inspector(config), quarantine, Notifier(transport), journal, config.banks, config.banks.directory
        ),
        forward_each=Forward(transport, splits=True),
        forward_all=Forward(transport),
        hand_back=HandBack(),
        release=Release(transport, vault, ids.verifies, _ledgers(storage)),
        journal=journal,
        ids=ids,
        profile=Profiles(server),
        tls=_tls_context(server),
    )
    return Sessions(services, {"SMTP": SmtpSession, "AM.PDP": AmpdpSession})


def _directory(config: Config) -> Databases | None:
    """The databases that lookup lists ask, None when there are none. Their modules are imported only when needed."""
    server = config.server
    settings = list(_all_settings(config))
    sources: dict[str, Source] = {}
    resolver: Resolver | None = None
    if server.lookup_sql_dsn:
        sources["sql"] = _sql_source(server)
    if any(each.enable_ldap for each in settings):
        sources["ldap"] = _ldap_source(server)
    if server.lookup_redis_dsn:
        sources["redis"] = _redis_source(server)
    if any(has_blocklists(each) for each in settings):
        from amavispy.tables.dnsxl import BlocklistResolver

        resolver = BlocklistResolver(server.dnsxl_nameservers)
    return Databases(sources, resolver) if sources or resolver else None


def _sql_source(server: ServerSettings) -> Source:
    from amavispy.tables.sql import SqlOptions, SqlSource
    from amavispy.tables.sql_server import SqlServer

    try:
        servers = [SqlServer(dsn, server.lookup_timeout) for dsn in server.lookup_sql_dsn]
    except ValueError as error:
        raise _unusable("lookup_sql_dsn", str(error), "a database that can be used") from error
    options = SqlOptions(
        server.sql_allow_8bit_address,
        server.sql_lookups_no_at_means_domain,
        server.trim_trailing_space_in_lookup_result_fields,
    )
    return SqlSource(Failover("lookup_sql", servers), options)


def _ldap_source(server: ServerSettings) -> Source:
    from amavispy.tables.ldap import LdapServer, LdapSource

    ldap = server.default_ldap
    servers = [LdapServer(host, ldap, server.lookup_timeout) for host in ldap.hostname]
    return LdapSource(
        Failover("lookup_ldap", servers),
        ldap,
        no_at_means_domain=server.ldap_lookups_no_at_means_domain,
        trims=server.trim_trailing_space_in_lookup_result_fields,
    )


def _redis_source(server: ServerSettings) -> Source:
    from amavispy.tables.redis import RedisServer, RedisSource

    try:
        servers = [RedisServer(dsn, server.lookup_timeout) for dsn in server.lookup_redis_dsn]
    except ValueError as error:
        raise _unusable("lookup_redis_dsn", str(error), "a Redis server") from error
    trims = server.trim_trailing_space_in_lookup_result_fields
    return RedisSource(Failover("lookup_redis", servers), server.lookup_redis_prefix, trims=trims)


def _inspector(config: Config) -> Inspector:
    server = config.server
    limits = Limits(
        server.maxlevels,
        server.maxfiles,
        server.min_expansion_quota,
        server.max_expansion_quota,
        int(server.min_expansion_factor),
        int(server.max_expansion_factor),
        server.max_decoding_time,
    )
    try:
        scanning = Scanning(_scanners(config), server.tempbase)
    except ValueError as error:
        raise _unusable("av_scanners", str(error), "a scanner that can be set up") from error
    inspector = Inspector(_decoder(server, limits), scanning)
    for settings in _all_settings(config):
        inspector.prepare(settings)
    return inspector


def _decoder(server: ServerSettings, limits: Limits) -> Decoder:
    """The decoder with its confined children; they are forked by a worker when it first meets an archive."""
    grants = Grants.of_this_system()
    if server.sandbox == "required" and not grants.is_complete:
        raise _unusable("sandbox", f'"required", but this system does not grant {grants.missing}', '"auto" or "off"')
    is_confined = server.sandbox != "off"
    confined = grants if is_confined else NOTHING
    tools = find_tools()
    unpacking = Unpacking(
        Sandbox(_start_child, UNPACKERS, partial(for_decoding, confined)),
        Sandbox(_start_child, tool_table(tools), partial(for_tools, confined, *confinable(tools)), "tool decoder"),
    )
    report(grants, is_confined, tools, unpacking.table())
    passwords = Passwords(server.archive_passwords, server.find_archive_passwords)
    return Decoder(limits, FileTypes(), unpacking.table(), passwords, server.tempbase)


def _start_child(run: Callable[[], None]) -> int:
    return fork(run, ())


def _all_settings(config: Config) -> Iterator[Settings]:
    """The base bank's settings and each named bank's on top of them."""
    base = config.banks.base
    yield base.settings
    for named in config.banks.named.values():
        yield base.overlaid_with(named).settings


def _scanners(config: Config) -> Iterator[ScannerSpec]:
    for settings in _all_settings(config):
        yield from (*settings.av_scanners, *settings.av_scanners_backup, *settings.spam_scanners)


def _log_transport(config: Config, debug: bool) -> Transport:
    server = config.server
    if debug or server.debug_to_stderr:
        return StderrTransport(is_for_people=True)
    if server.do_syslog:
        return SyslogTransport()
    if server.logfile:
        try:
            return FileTransport(server.logfile, config.banks.base.settings.myhostname.partition(".")[0])
        except OSError as error:
            raise _unusable("logfile", f"{server.logfile}: {error.strerror}", "a file we may write") from error
    return StderrTransport()


def _release_key(path: str) -> bytes:
    """The secret behind every secret_id: made once, 0600, kept over restarts."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise _unusable(
            "release_key_file", f"{path}: {error.strerror}", "a file in a directory we may write"
        ) from error
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_OCTETS))
    try:
        with open(path, "rb") as file:
            key = file.read(4096)
        IdIssuer(key)
    except (OSError, ValueError) as error:
        raise _unusable("release_key_file", f"{path}: {error}", "32 random octets") from error
    return key


def _tls_context(server: ServerSettings) -> ssl.SSLContext | None:
    if not (server.smtpd_tls_cert_file and server.smtpd_tls_key_file):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(server.smtpd_tls_cert_file, server.smtpd_tls_key_file)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("smtpd_tls_cert_file", str(error), "a certificate and its key in PEM") from error
    return context


def _unusable(key: str, problem: str, allowed: str) -> ConfigError:
    return ConfigError((Fault("configuration", 0, key, problem, allowed),))
