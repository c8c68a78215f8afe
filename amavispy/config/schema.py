"""Schema - every setting once: its name, what it may be, its default, and what it is for.

The defaults are raw, as a file would write them ("$MYHOME/tmp", "8m"); converted they are the defaults of
`config.model.ServerSettings` and `policy.settings.Settings`, which a test compares. docs/settings.md and
etc/amavispy.toml are printed from this table. Nothing here converts or checks by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amavispy.config.banned import banned_filename_maps_kind, banned_rule_lists_kind
from amavispy.config.databases import ldap_kind, nameservers_kind, sql_clause_kind
from amavispy.config.kinds import (
    Kind,
    boolean_kind,
    choice,
    duration,
    enumeration,
    integer,
    number,
    octal,
    path,
    secrets,
    size,
    text,
    words,
)
from amavispy.config.lookups import (
    SCORE,
    SIZE,
    TEXT,
    TRUTH,
    VIRUS_BANKS,
    VIRUS_SCORE,
    lookup_list,
    nested,
    networks_kind,
)
from amavispy.config.sockets import address_kind, bind_kind, interface_policy_kind, listen_sockets_kind, next_hops_kind
from amavispy.config.storage import (
    index_kind,
    lifetimes_kind,
    partition_kind,
    quarantine_method_kind,
    redis_kind,
    sizes_kind,
    sql_kind,
)
from amavispy.config.structures import banned_rules_kind, client_rules_kind, scanners
from amavispy.mail.disposition import Destiny
from amavispy.policy.virus_name_defaults import VIRUS_NAME_SCORES


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` is what a file would write; `about` one line for documentation."""

    name: str
    kind: Kind
    default: Any
    about: str


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that belong together. Those that are `bankable` may stand in a [policy_bank.NAME] too."""

    title: str
    is_bankable: bool
    settings: tuple[Setting, ...]


_HOST = r"localhost|(?=.{4,253}$)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?"
_ADDRESS = r'|[^\s<>@"]+@[^\s<>@"]+'
_DELIMITERS = r"|[!#$%&'*+/=?^_~.-]{1,8}"
_FIELD_NAME = r"[!-9;-~]{1,76}"  # RFC 5322 3.6.8
_TLS = {"none": "none", "may": "may", "encrypt": "encrypt"}
_SANDBOX = {"auto": "auto", "required": "required", "off": "off"}
_FORMATS = {"resend": "resend", "attach": "attach", "arf": "arf"}
_PROTOCOLS = {"": "", "SMTP": "SMTP", "LMTP": "LMTP", "AM.PDP": "AM.PDP"}
_SPOKEN = "this version speaks SMTP, LMTP and AM.PDP"
_NO_PROTOCOLS = dict.fromkeys(("milter", "MILTER", "TCP-LOOKUP", "COURIER", "QMQPqq"), _SPOKEN)
_KEYWORDS = (
    "VRFY", "PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME",
    "STARTTLS", "XFORWARD",
)  # fmt: skip
_HEADER_TESTS = ("other", "mime", "syntax", "empty", "long", "control", "8bit", "missing", "multiple")
_FACILITIES = ("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp")
_LOCALS = tuple(f"local{n}" for n in range(8))

_AV_TYPES = ("clamd", "yara", "sssp", "savapi", "icap", "daemon", "command")
_VIRUS_NAME_SCORES = [{"regexp": [list(rule) for rule in VIRUS_NAME_SCORES]}]

_TRUTH = boolean_kind()
_DESTINY = enumeration(Destiny, "D_")
_DESTINY_OR_NOT = choice({"": None, **{f"D_{destiny.name}": destiny for destiny in Destiny}})
_YES_NO = lookup_list(TRUTH)
_LEVEL = lookup_list(SCORE)
_TEXTS = lookup_list(TEXT)
_SENDERS = lookup_list(nested(TRUTH))
_SENDER_SCORES = lookup_list(nested(SCORE))
_ADVICE = ("soft reject", "reject", "discard", "quarantine", "add header", "rewrite subject", "header edits")
_HOPS = next_hops_kind()
_NETWORKS = networks_kind()
_QUARANTINE = quarantine_method_kind()

# fmt: off
SERVER: tuple[Group, ...] = (
    Group("Places and identity", False, (
        Setting("myhome", path(), "/var/lib/amavispy",
                "Directory of all that the daemon keeps; $MYHOME in other texts."),
        Setting("tempbase", path(), "$MYHOME/tmp", "Directory for spool files of large mail."),
        Setting("quarantinedir", path(), "$MYHOME/quarantine", "Directory of the quarantine."),
        Setting("quarantine_subdir_levels", integer(0, 1), 1,
                "1 spreads the quarantine over directories named by the mail_id's first character."),
        Setting("pid_file", path(optional=True), "/run/amavispy/amavispy.pid", "File with the master's process id."),
        Setting("release_key_file", path(), "$MYHOME/release.key",
                "Secret that ties a mail_id to its secret_id; made when missing."),
        Setting("daemon_user", text("user", _USER, "the name of a user"), "amavispy", "User the daemon runs as."),
        Setting("daemon_group", text("group", _USER, "the name of a group"), "amavispy", "Group the daemon runs as."),
        Setting("mydomain", text("domain", f"|{_HOST}", "a domain"), "",
                "Domain of this site; when empty, what follows the first dot of myhostname."),
    )),
    Group("Processes", False, (
        Setting("max_servers", integer(1, 10000), 2, "Workers; each processes one message at a time."),
        Setting("min_servers", integer(0, 10000), 0, "Workers kept at least; 0 always keeps max_servers."),
        Setting("min_spare_servers", integer(0, 10000), 0, "Idle workers kept at least, when min_servers is set."),
        Setting("max_spare_servers", integer(0, 10000), 0, "Idle workers kept at most, when min_servers is set."),
        Setting("max_requests", integer(0, 2_000_000_000), 1000,
                "Messages after which a worker is replaced; 0 never. amavis has 20."),
    )),
    Group("Listen sockets", False, (
        Setting("listen_sockets", listen_sockets_kind(), [10024],
                "Where to listen; a port alone is joined with every address of inet_socket_bind."),
        Setting("inet_socket_bind", bind_kind(), ["127.0.0.1", "::1"],
                "Addresses for listen sockets that are a port alone."),
        Setting("unix_socket_mode", Kind('octal digits: "0660"', octal), "0660", "Permission bits of Unix sockets."),
        Setting("listen_queue_size", integer(1, 65535), 1024,
                "Connections the system keeps waiting for us on a socket."),
        Setting("interface_policy", interface_policy_kind(), {},
                "Policy banks by socket: port, address:port, interface:port, a path, or SOCK for every Unix socket."),
    )),
    Group("Clients", False, (
        Setting("smtpd_recipient_limit", integer(1, 1_000_000), 1100,
                "Recipients a transaction may have; the next one is told 452."),
        Setting("max_wait", duration(1, 3600), 60,
                "How long a client may wait for a free worker before it is told 421."),
        Setting("max_queue", integer(1, 1_000_000), 1000, "Clients that may wait for a worker at the same time."),
        Setting("max_sessions", integer(1, 1_000_000), 5000, "Connections open at the same time, idle ones included."),
        Setting("max_tls_sessions", integer(1, 100_000), 100,
                "Connections with TLS open at the same time; each keeps a worker."),
        Setting("smtpd_tls_cert_file", path(optional=True), "", "Certificate with its chain (PEM) for STARTTLS."),
        Setting("smtpd_tls_key_file", path(optional=True), "", "The certificate's private key (PEM)."),
    )),
    Group("Next hops", False, (
        Setting("local_client_bind_address", address_kind(), "",
                "Address our own connections come from; empty leaves it to the system."),
        Setting("smtp_connection_cache_enable", _TRUTH, True, "Keep connections to next hops open between messages."),
    )),
    Group("Where logs go", False, (
        Setting("do_syslog", _TRUTH, True, "Log to syslog."),
        Setting("logfile", path(optional=True), "", "File to append the log to."),
        Setting("debug_to_stderr", _TRUTH, False, "Log to standard error, and nowhere else."),
        Setting("json_log_file", path(optional=True), "", "File to append an event in JSON to, one line a message."),
        Setting("json_log_to_syslog", _TRUTH, False, "Send the event to syslog too, behind the mark @cee:."),
        Setting("redis_logging_queue_size_limit", integer(1, 1_000_000_000), 100_000,
                "Events kept in the list redis_logging_key; the oldest go first."),
    )),
    Group("Databases", False, (
        Setting("storage_sql_dsn", sql_kind(), [],
                "Database for records of all mail and quarantine by \"sql:\", in amavis' tables; of several the first "
                "that answers. `amavispy db init` makes the tables."),
        Setting("storage_redis_dsn", redis_kind(), [], "Redis server for events; of several the first that answers."),
        Setting("sql_quarantine_chunksize_max", integer(1024, 65_535), 16_384,
                "Octets of a quarantined mail in one row of the table quarantine."),
        Setting("quarantine_index", index_kind(), "$MYHOME/quarantine.db",
                "Index of everything in quarantine, by which `amavispy quarantine` finds it. Nodes that share a "
                "quarantine share it in PostgreSQL."),
        Setting("quarantine_lifetimes", lifetimes_kind(), {},
                "Age at which `amavispy quarantine expire` removes kept mail, by category; others stay."),
        Setting("quarantine_size_limits", sizes_kind(), {},
                "Octets that all kept mail of a category may have; expire removes the oldest beyond."),
    )),
    Group("Lookups in databases", False, (
        Setting("lookup_sql_dsn", sql_kind(), [],
                "Database with amavis' tables users, policy, wblist and mailaddr; of several the first that answers."),
        Setting("sql_allow_8bit_address", _TRUTH, False,
                "The columns email are VARBINARY or bytea: addresses are octets. Otherwise what is not ASCII is ?."),
        Setting("sql_lookups_no_at_means_domain", _TRUTH, False,
                "Keys in SQL are written as in hash tables: user@, example.com, .example.com, and a dot."),
        Setting("default_ldap", ldap_kind(), {},
                "LDAP server with amavis' schema, for enable_ldap: hosts, login, base and filter of the search."),
        Setting("ldap_lookups_no_at_means_domain", _TRUTH, False,
                "Keys in LDAP are written as in hash tables: user@, example.com, .example.com, and a dot."),
        Setting("lookup_redis_dsn", redis_kind(), [],
                "Redis server for tables { redis = \"spam_lover\" }; of several the first that answers."),
        Setting("lookup_redis_prefix", text("text", r"[!-~]{0,60}", "at most 60 printable characters"), "lookup:",
                "What the names of Redis' hashes begin with; a key such as user@example.com follows."),
        Setting("lookup_maps_imply_sql_and_ldap", _TRUTH, True,
                "Put the columns of SQL and the attributes of LDAP before the lookup lists they belong to."),
        Setting("lookup_timeout", duration(0.1, 600), 10,
                "Time a database may take to connect and to answer; then the next is asked, or the mail is deferred."),
        Setting("trim_trailing_space_in_lookup_result_fields", _TRUTH, False,
                "Remove blanks at the end of texts that databases answer with."),
        Setting("dnsxl_nameservers", nameservers_kind(), [],
                "Name servers asked for blocklists; none are the system's."),
    )),
    Group("Limits of decoding", False, (
        Setting("spool_threshold", size(4096, 1 << 32), "1MiB",
                "Mail up to this size stays in memory, larger mail goes to a spool file."),
        Setting("maxlevels", integer(1, 100), 14, "Depth of containers within containers."),
        Setting("maxfiles", integer(1, 1_000_000), 1500, "Parts a mail may be decoded into."),
        Setting("min_expansion_quota", size(), "100KiB", "Octets that every mail may be decoded into."),
        Setting("max_expansion_quota", size(), "300MiB",
                "Octets that no mail may be decoded into, unless min_expansion_factor allows them."),
        Setting("min_expansion_factor", number(0, 1e6), 5, "Times its size that every mail may be decoded into."),
        Setting("max_expansion_factor", number(0, 1e6), 500,
                "Times its size that a mail may be decoded into, up to max_expansion_quota."),
        Setting("max_decoding_time", duration(0.1, 3600), 8, "How long decoding a mail may take."),
    )),
    Group("Unpacking", False, (
        Setting("sandbox", choice(_SANDBOX), "auto",
                "Confine what unpacks archives: as far as the kernel grants, fully or do not start, or not at all."),
        Setting("archive_passwords", secrets(), [], "Passwords that are tried on encrypted archives."),
        Setting("find_archive_passwords", _TRUTH, False,
                "Try words of the mail's text as passwords on its encrypted archives."),
    )),
)
# fmt: on

# fmt: off
BANK: tuple[Group, ...] = (
    Group("The session", True, (
        Setting("protocol", choice(_PROTOCOLS, _NO_PROTOCOLS), "",
                "What is spoken; empty is SMTP and LMTP on inet sockets. Unix sockets need it."),
        Setting("originating", _TRUTH, False, "The mail comes from our own users."),
        Setting("inet_acl", _NETWORKS, ["127.0.0.1", "::1"], "Who may connect to an inet socket."),
        Setting("haproxy_target_enabled", _TRUTH, False,
                "Connections start with a PROXY header that names the real client."),
        Setting("myhostname", text("host name", _HOST, 'a fully qualified host name or "localhost"'), "localhost",
                "This host's fully qualified name."),
        Setting("localhost_name", text("host name", _HOST, 'a host name or "localhost"'), "localhost",
                "Name we give in EHLO to next hops and in Received."),
        Setting("child_timeout", duration(5, 86400), "8m", "Time a message may take, from its last octet on."),
        Setting("smtpd_timeout", duration(5, 86400), "8m", "Time a client may be silent."),
        Setting("smtpd_greeting_banner", text(), "${helo-name} ${protocol} ${product} service ready",
                "Text of the greeting."),
        Setting("smtpd_quit_banner", text(), "${helo-name} ${product} closing transmission channel",
                "Text of the farewell."),
        Setting("smtpd_discard_ehlo_keywords", words(_KEYWORDS), [],
                "EHLO keywords that are not announced."),
        Setting("smtpd_message_size_limit", size(), 0,
                "Largest message taken; 0 is no limit. See also message_size_limit_maps."),
        Setting("smtpd_forbid_bare_newline", choice({"normalize": "normalize", "reject": "reject"}), "normalize",
                "What a line end without CR, or a CR without LF, leads to."),
        Setting("tls_security_level_in", choice(_TLS), "none", "STARTTLS for clients: none, offered, or required."),
        Setting("tls_security_level_out", choice(_TLS), "none",
                "STARTTLS towards next hops: none, when offered, or required."),
        Setting("auth_required_release", _TRUTH, True, "A release request needs the secret_id."),
        Setting("client_ipaddr_policy", client_rules_kind(), [],
                "Policy banks by the original client's address; the first match counts, then those with also. "
                "When it is not set, mynetworks lead to the bank MYNETS, if there is one."),
        Setting("mynetworks", _NETWORKS, ["127.0.0.0/8", "::1"],
                "Our own networks; $mynetworks in other network lists."),
    )),
    Group("Logging", True, (
        Setting("log_level", integer(-5, 5), 0, "How much is logged: 0 one line a message, 5 everything."),
        Setting("syslog_ident", text("word", r"[!-~]{1,48}", "a word of at most 48 characters"), "amavis",
                "Name in syslog."),
        Setting("syslog_facility", choice({name: name for name in (*_FACILITIES, *_LOCALS)}), "mail",
                "Facility in syslog."),
    )),
    Group("Where mail goes", True, (
        Setting("forward_method", _HOPS, "smtp:[127.0.0.1]:10025",
                "Next hop for mail that passes; of several the next is tried when one fails."),
        Setting("notify_method", _HOPS, "smtp:[127.0.0.1]:10025", "Next hop for bounces and notices."),
        Setting("release_method", _HOPS, "smtp:[127.0.0.1]:10025", "Next hop for released mail."),
        Setting("requeue_method", _HOPS, "smtp:[127.0.0.1]:25",
                "Next hop for mail that is released to be checked again."),
        Setting("release_format", choice(_FORMATS), "resend",
                "How released mail is sent: as it is, attached to a mail that warns, or in an abuse report."),
        Setting("report_format", choice(_FORMATS), "arf", "How reported mail is sent."),
        Setting("soft_bounce", _TRUTH, False, "Answer 4xx where 5xx is meant."),
        Setting("propagate_dsn_if_possible", _TRUTH, True, "Pass the client's DSN wishes to next hops that know DSN."),
    )),
    Group("Addresses", True, (
        Setting("local_domains_maps", _YES_NO, [], "Recipients that are ours."),
        Setting("localpart_is_case_sensitive", _TRUTH, False, "Lookups respect capitals in local parts."),
        Setting("recipient_delimiter", text("characters", _DELIMITERS, 'characters such as "+", or ""'), "",
                "Characters that start an address extension, each by itself: user+extension@domain."),
        Setting("message_size_limit_maps", lookup_list(SIZE), [], "Largest message by recipient; 0 is no limit."),
        Setting("sql_clause", sql_clause_kind(), {},
                "SQL of your own for sel_policy and sel_wblist; \"\" asks nothing."),
        Setting("enable_ldap", _TRUTH, False, "Ask the LDAP server of default_ldap."),
    )),
    Group("What is checked", True, (
        Setting("bypass_decode_parts", _TRUTH, False, "Do not decode mail into its parts."),
        Setting("bypass_virus_checks_maps", _YES_NO, [], "Recipients whose mail is not checked for viruses."),
        Setting("bypass_spam_checks_maps", _YES_NO, [], "Recipients whose mail is not checked for spam."),
        Setting("bypass_banned_checks_maps", _YES_NO, [], "Recipients whose mail is not checked for banned names."),
        Setting("bypass_header_checks_maps", _YES_NO, [],
                "Recipients whose mail is not checked for bad header fields."),
        Setting("av_scanners", scanners(*_AV_TYPES), [],
                "Virus scanners, side by side: name, type, what the type needs, timeout, on_failure (tempfail, "
                "unchecked, pass): scanners.md."),
        Setting("av_scanners_backup", scanners(*_AV_TYPES), [],
                "Virus scanners that are asked when all of av_scanners failed."),
        Setting("first_infected_stops_scan", _TRUTH, False,
                "The first virus scanner that finds something ends the others' work; they are not listed then."),
        Setting("spam_scanners", scanners("spamd", "rspamd", "program"), [],
                "Spam scanners, side by side, their scores added: name, type, address or command, timeout, on_failure "
                "(tempfail, unchecked, pass), score_factor and more: scanners-spam.md."),
        Setting("sa_mail_body_size_limit", size(), "400KiB",
                "Octets of a mail's body that spamd and programs get, and at most 64 KiB of header; 0 is no limit."),
        Setting("sa_username_maps", _TEXTS, [],
                "User, by recipient, whose preferences spamd applies: one request for each of them."),
        Setting("whitelist_sender_maps", _YES_NO, [],
                "Senders, by envelope and From field, whose mail is no spam. Anybody can claim to be one of them."),
        Setting("blacklist_sender_maps", _YES_NO, [], "Senders whose mail is spam, whatever its score."),
        Setting("per_recip_whitelist_sender_lookup_tables", _SENDERS, [],
                "By recipient: lookup lists of senders, asked before whitelist_sender_maps."),
        Setting("per_recip_blacklist_sender_lookup_tables", _SENDERS, [],
                "By recipient: lookup lists of senders, asked before blacklist_sender_maps."),
        Setting("score_sender_maps", _SENDER_SCORES, [],
                "By recipient: lookup lists of senders and points that are added to the score; all that match add up."),
        Setting("honoured_scanner_advice", words((*_ADVICE, "greylist"), frozenset), list(_ADVICE),
                "Which of rspamd's actions are followed, beside its score, and whether its header edits are."),
        Setting("banned_filename_re", banned_rules_kind(), [],
                "Patterns of banned names and types, searched in order, whatever the case; the value false allows."),
        Setting("banned_rules", banned_rule_lists_kind(), {},
                "Lists of banned rules by name, for banned_filename_maps."),
        Setting("banned_filename_maps", banned_filename_maps_kind(), "DEFAULT",
                "Which lists of banned_rules hold for a recipient, all that are found; DEFAULT is banned_filename_re."),
        Setting("banned_namepath_re", banned_rules_kind(), [],
                "Patterns searched in the whole path of a part, a line a level: P= L= M= T= N= A= with tabs between."),
        Setting("allowed_header_tests", words((*_HEADER_TESTS, "utf8"), frozenset), list(_HEADER_TESTS),
                "Tests of the header section."),
        Setting("viruses_that_fake_sender_maps", _YES_NO, True, "Viruses, by name, whose sender is not told."),
        Setting("virus_name_to_spam_score_maps", lookup_list(VIRUS_SCORE), _VIRUS_NAME_SCORES,
                "Scores by virus name: a finding of nothing but such names is spam, of the highest of them."),
        Setting("virus_name_to_policy_bank_maps", lookup_list(VIRUS_BANKS), [],
                "Policy banks by virus name, loaded when the virus was found and before it is decided what follows."),
    )),
    Group("What becomes of it", True, (
        Setting("final_virus_destiny", _DESTINY, "D_DISCARD", "Mail with a virus."),
        Setting("final_banned_destiny", _DESTINY, "D_DISCARD", "Mail with a banned name or type."),
        Setting("final_unchecked_destiny", _DESTINY, "D_PASS", "Mail that could not be checked."),
        Setting("final_ambiguous_destiny", _DESTINY_OR_NOT, "",
                "Mail that two readers could understand differently; empty: as final_unchecked_destiny."),
        Setting("final_spam_destiny", _DESTINY, "D_PASS", "Spam: a score of the kill level or more."),
        Setting("final_bad_header_destiny", _DESTINY, "D_PASS", "Mail with bad header fields."),
        Setting("final_oversized_destiny", _DESTINY, "D_BOUNCE", "Mail larger than its recipient allows."),
        Setting("virus_lovers_maps", _YES_NO, [], "Recipients who get mail with viruses."),
        Setting("banned_files_lovers_maps", _YES_NO, [], "Recipients who get mail with banned names."),
        Setting("unchecked_lovers_maps", _YES_NO, [], "Recipients who get unchecked mail."),
        Setting("spam_lovers_maps", _YES_NO, [], "Recipients who get spam."),
        Setting("bad_header_lovers_maps", _YES_NO, [], "Recipients who get mail with bad header fields."),
        Setting("spam_tag_level_maps", _LEVEL, 2.0, "Score from which header fields tell about spam."),
        Setting("spam_tag2_level_maps", _LEVEL, 6.31, "Score from which mail is marked as spam."),
        Setting("spam_tag3_level_maps", _LEVEL, [], "Score from which spam is marked as blatant."),
        Setting("spam_kill_level_maps", _LEVEL, 6.31, "Score from which final_spam_destiny holds."),
        Setting("spam_dsn_cutoff_level_maps", _LEVEL, 10.0, "Score from which spam does not bounce."),
        Setting("spam_dsn_cutoff_level_bysender_maps", _LEVEL, [],
                "The same by sender; the lower of both counts."),
        Setting("spam_quarantine_cutoff_level_maps", _LEVEL, [], "Score from which spam is not quarantined."),
        Setting("spam_subject_tag_maps", _TEXTS, [], "Put before the subject of mail from the tag level on."),
        Setting("spam_subject_tag2_maps", _TEXTS, "***SPAM*** ", "Put before the subject of spam."),
        Setting("spam_subject_tag3_maps", _TEXTS, [], "Put before the subject of blatant spam."),
        Setting("undecipherable_subject_tag", text(), "***UNCHECKED*** ", "Put before the subject of unchecked mail."),
    )),
    Group("Quarantine and notices", True, (
        Setting("virus_quarantine_method", _QUARANTINE, "local:virus-%m", "How mail with viruses is kept."),
        Setting("banned_files_quarantine_method", _QUARANTINE, "local:banned-%m", "How banned mail is kept."),
        Setting("spam_quarantine_method", _QUARANTINE, "local:spam-%m.gz", "How spam is kept."),
        Setting("bad_header_quarantine_method", _QUARANTINE, "local:badh-%m",
                "How mail with bad header fields is kept."),
        Setting("unchecked_quarantine_method", _QUARANTINE, "", "How unchecked mail is kept."),
        Setting("clean_quarantine_method", _QUARANTINE, "", "How clean mail is kept."),
        Setting("archive_quarantine_method", _QUARANTINE, "", "How a copy of every mail is kept, whatever was found."),
        Setting("virus_quarantine_to_maps", _TEXTS, "virus-quarantine",
                "Quarantine for mail with viruses, by recipient; \"\" keeps nothing."),
        Setting("banned_quarantine_to_maps", _TEXTS, "banned-quarantine", "Quarantine for banned mail, by recipient."),
        Setting("spam_quarantine_to_maps", _TEXTS, "spam-quarantine", "Quarantine for spam, by recipient."),
        Setting("bad_header_quarantine_to_maps", _TEXTS, "bad-header-quarantine",
                "Quarantine for mail with bad header fields, by recipient."),
        Setting("unchecked_quarantine_to_maps", _TEXTS, "unchecked-quarantine",
                "Quarantine for unchecked mail, by recipient."),
        Setting("clean_quarantine_to_maps", _TEXTS, "clean-quarantine", "Quarantine for clean mail, by recipient."),
        Setting("archive_quarantine_to_maps", _TEXTS, "archive-quarantine",
                "Archive of every mail, by recipient; \"%a\" is the recipient himself."),
        Setting("mailfrom_to_quarantine", text("address", rf"|<>{_ADDRESS}", 'an address, "<>" or ""'), "",
                "Envelope sender of copies that are sent to a mailbox; empty is the mail's own, \"<>\" none."),
        Setting("mailfrom_notify_sender", text("address", _ADDRESS, 'an address or ""'), "",
                "Address bounces name as their author; empty is postmaster@$myhostname."),
    )),
    Group("Records", True, (
        Setting("partition_tag", partition_kind(), "",
                "Column partition_tag of records in SQL: what can be purged together."),
        Setting("sql_store_info_for_all_msgs", _TRUTH, True,
                "Record all mail in SQL; otherwise only what is quarantined there."),
        Setting("redis_logging_key", text(), "", "List in Redis that gets an event in JSON for every message."),
    )),
    Group("Header fields", True, (
        Setting("x_header_tag", text("header field name", _FIELD_NAME, "the name of a header field"), "X-Virus-Scanned",
                "Name of the field that says we were here."),
        Setting("x_header_line", text(), "amavispy at $mydomain", "Its value; \"\" adds no field."),
        Setting("sa_spam_level_char", text("one character", r"|[!-~]", 'one character, or ""'), "*",
                "Repeated in X-Spam-Level; \"\" adds no field."),
        Setting("remove_existing_x_scanned_headers", _TRUTH, False, "Remove such fields that others added."),
        Setting("remove_existing_spam_headers_maps", _YES_NO, True,
                "Remove X-Spam fields that others added, by recipient."),
    )),
)
# fmt: on

SERVER_SETTINGS: Mapping[str, Setting] = {s.name: s for group in SERVER for s in group.settings}
BANK_SETTINGS: Mapping[str, Setting] = {s.name: s for group in BANK for s in group.settings}
ALL_SETTINGS: Mapping[str, Setting] = {**SERVER_SETTINGS, **BANK_SETTINGS}
