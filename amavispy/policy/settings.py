"""Settings - every setting that a policy bank may override, typed, with its default.

One frozen value. Descriptions and the forms a configuration file may write stand in `config.schema`; a test holds the
two together. Lookup lists end in `_maps`: ask `find`; an empty list answers None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amavispy.mail.disposition import Destiny
from amavispy.mail.next_hop import NextHop
from amavispy.mail.verdict import OnFailure
from amavispy.policy.blocklist import Blocklist
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.lookup import IpTable, LookupList
from amavispy.policy.virus_name_defaults import DEFAULT_VIRUS_NAME_TO_SPAM_SCORE

_NOBODY = LookupList()


@dataclass(frozen=True, slots=True)
class ScannerSpec:
    """One [[av_scanners]] or [[spam_scanners]] entry. `address`: a socket path or "host:port"; `rules`: YARA sources.

    `command` is a program with its arguments, `inquiry` what else virus scanners need. Spam scanners: `score_factor`
    multiplies scores, `mail_body_size_limit` (octets, 0 no limit) stands in for sa_mail_body_size_limit, `statuses` are
    (exit status, score) of a program.
    """

    name: str
    type: str
    address: str = ""
    rules: tuple[str, ...] = ()
    timeout: float = 30.0
    on_failure: OnFailure = OnFailure.TEMPFAIL
    command: tuple[str, ...] = ()
    score_factor: float = 1.0
    mail_body_size_limit: int | None = None
    user: str = ""
    compress: bool = False
    password: str = field(default="", repr=False)
    mta_name: str = ""
    statuses: tuple[tuple[int, float], ...] = ()
    inquiry: Inquiry = Inquiry()


@dataclass(frozen=True, slots=True)
class ClientRule:
    """One [[client_ipaddr_policy]] entry: these networks, and clients that a blocklist has, get these banks; `also`
    applies it after an earlier match.
    """

    networks: IpTable
    banks: tuple[str, ...]
    also: bool = False
    dnsxl: Blocklist | None = None


@dataclass(frozen=True, slots=True)
class BannedRule:
    """One entry of a list of banned rules. `pattern` is searched in every key of a part; `value` false allows."""

    pattern: str
    value: str | bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """All bank-able settings at one moment. Times are seconds, sizes octets."""

    # the session
    protocol: str = ""
    originating: bool = False
    inet_acl: IpTable = IpTable.of(("127.0.0.1", "::1"))
    haproxy_target_enabled: bool = False
    myhostname: str = "localhost"
    localhost_name: str = "localhost"
    child_timeout: float = 480.0
    smtpd_timeout: float = 480.0
    smtpd_greeting_banner: str = "${helo-name} ${protocol} ${product} service ready"
    smtpd_quit_banner: str = "${helo-name} ${product} closing transmission channel"
    smtpd_discard_ehlo_keywords: tuple[str, ...] = ()
    smtpd_message_size_limit: int = 0
    smtpd_forbid_bare_newline: str = "normalize"
    tls_security_level_in: str = "none"
    tls_security_level_out: str = "none"
    auth_required_release: bool = True
    client_ipaddr_policy: tuple[ClientRule, ...] = ()
    mynetworks: IpTable = IpTable.of(("127.0.0.0/8", "::1"))
    # logging
    log_level: int = 0
    syslog_ident: str = "amavis"
    syslog_facility: str = "mail"
    # where mail goes
    forward_method: tuple[NextHop, ...] = (NextHop("smtp", "127.0.0.1", 10025),)
    notify_method: tuple[NextHop, ...] = (NextHop("smtp", "127.0.0.1", 10025),)
    release_method: tuple[NextHop, ...] = (NextHop("smtp", "127.0.0.1", 10025),)
    requeue_method: tuple[NextHop, ...] = (NextHop("smtp", "127.0.0.1", 25),)
    release_format: str = "resend"
    report_format: str = "arf"
    soft_bounce: bool = False
    propagate_dsn_if_possible: bool = True
    # addresses
    local_domains_maps: LookupList = _NOBODY
    localpart_is_case_sensitive: bool = False
    recipient_delimiter: str = ""
    message_size_limit_maps: LookupList = _NOBODY
    # databases; sql_clause: only what differs from amavis' own
    sql_clause: Mapping[str, str] = field(default_factory=dict)
    enable_ldap: bool = False
    # what is checked
    bypass_decode_parts: bool = False
    bypass_virus_checks_maps: LookupList = _NOBODY
    bypass_spam_checks_maps: LookupList = _NOBODY
    bypass_banned_checks_maps: LookupList = _NOBODY
    bypass_header_checks_maps: LookupList = _NOBODY
    av_scanners: tuple[ScannerSpec, ...] = ()
    av_scanners_backup: tuple[ScannerSpec, ...] = ()
    first_infected_stops_scan: bool = False
    spam_scanners: tuple[ScannerSpec, ...] = ()
    sa_mail_body_size_limit: int = 400 * 1024
    sa_username_maps: LookupList = _NOBODY
    whitelist_sender_maps: LookupList = _NOBODY
    blacklist_sender_maps: LookupList = _NOBODY
    per_recip_whitelist_sender_lookup_tables: LookupList = _NOBODY
    per_recip_blacklist_sender_lookup_tables: LookupList = _NOBODY
    score_sender_maps: LookupList = _NOBODY
    honoured_scanner_advice: frozenset[str] = frozenset(
        ("soft reject", "reject", "discard", "quarantine", "add header", "rewrite subject", "header edits")
    )
    banned_filename_re: tuple[BannedRule, ...] = ()
    banned_rules: Mapping[str, tuple[BannedRule, ...]] = field(default_factory=dict)
    banned_filename_maps: LookupList = LookupList.constant("DEFAULT")
    banned_namepath_re: tuple[BannedRule, ...] = ()
    allowed_header_tests: frozenset[str] = frozenset(
        ("other", "mime", "syntax", "empty", "long", "control", "8bit", "missing", "multiple")
    )
    viruses_that_fake_sender_maps: LookupList = LookupList.constant(True)
    virus_name_to_spam_score_maps: LookupList = DEFAULT_VIRUS_NAME_TO_SPAM_SCORE
    virus_name_to_policy_bank_maps: LookupList = _NOBODY
    # what becomes of it
    final_virus_destiny: Destiny = Destiny.DISCARD
    final_banned_destiny: Destiny = Destiny.DISCARD
    final_unchecked_destiny: Destiny = Destiny.PASS
    final_ambiguous_destiny: Destiny | None = None  # as final_unchecked_destiny
    final_spam_destiny: Destiny = Destiny.PASS
    final_bad_header_destiny: Destiny = Destiny.PASS
    final_oversized_destiny: Destiny = Destiny.BOUNCE
    virus_lovers_maps: LookupList = _NOBODY
    banned_files_lovers_maps: LookupList = _NOBODY
    unchecked_lovers_maps: LookupList = _NOBODY
    spam_lovers_maps: LookupList = _NOBODY
    bad_header_lovers_maps: LookupList = _NOBODY
    spam_tag_level_maps: LookupList = LookupList.constant(2.0)
    spam_tag2_level_maps: LookupList = LookupList.constant(6.31)
    spam_tag3_level_maps: LookupList = _NOBODY
    spam_kill_level_maps: LookupList = LookupList.constant(6.31)
    spam_dsn_cutoff_level_maps: LookupList = LookupList.constant(10.0)
    spam_dsn_cutoff_level_bysender_maps: LookupList = _NOBODY
    spam_quarantine_cutoff_level_maps: LookupList = _NOBODY
    spam_subject_tag_maps: LookupList = _NOBODY
    spam_subject_tag2_maps: LookupList = LookupList.constant("***SPAM*** ")
    spam_subject_tag3_maps: LookupList = _NOBODY
    undecipherable_subject_tag: str = "***UNCHECKED*** "
    # quarantine
    virus_quarantine_method: str = "local:virus-%m"
    banned_files_quarantine_method: str = "local:banned-%m"
    spam_quarantine_method: str = "local:spam-%m.gz"
    bad_header_quarantine_method: str = "local:badh-%m"
    unchecked_quarantine_method: str = ""
    clean_quarantine_method: str = ""
    archive_quarantine_method: str = ""
    virus_quarantine_to_maps: LookupList = LookupList.constant("virus-quarantine")
    banned_quarantine_to_maps: LookupList = LookupList.constant("banned-quarantine")
    spam_quarantine_to_maps: LookupList = LookupList.constant("spam-quarantine")
    bad_header_quarantine_to_maps: LookupList = LookupList.constant("bad-header-quarantine")
    unchecked_quarantine_to_maps: LookupList = LookupList.constant("unchecked-quarantine")
    clean_quarantine_to_maps: LookupList = LookupList.constant("clean-quarantine")
    archive_quarantine_to_maps: LookupList = LookupList.constant("archive-quarantine")
    mailfrom_to_quarantine: str = ""
    # records
    partition_tag: str = ""
    sql_store_info_for_all_msgs: bool = True
    redis_logging_key: str = ""
    mailfrom_notify_sender: str = ""
    # header fields
    x_header_tag: str = "X-Virus-Scanned"
    x_header_line: str = ""
    sa_spam_level_char: str = "*"
    remove_existing_x_scanned_headers: bool = False
    remove_existing_spam_headers_maps: LookupList = LookupList.constant(True)
