"""Implied - the tables that lookup_maps_imply_sql_and_ldap puts before the base bank's lookup lists (chapter 5.4).

`COLUMNS` says which column of SQL (and of Redis) and which attribute of LDAP belongs to which setting. Where SQL is set
up, each of these lists begins with its column, LDAP's attribute behind it. As in amavis a list that a policy bank sets
for itself is taken as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from amavispy.config.model import ServerSettings
from amavispy.policy.directory import NUMBER, TEXT, TRUTH, Field
from amavispy.policy.lookup import LookupList
from amavispy.policy.settings import Settings


@dataclass(frozen=True, slots=True)
class Column:
    """Where databases keep a setting."""

    setting: str
    sql: str
    ldap: str
    kind: str


COLUMNS: tuple[Column, ...] = (
    Column("local_domains_maps", "local", "amavisLocal", TRUTH),
    Column("virus_lovers_maps", "virus_lover", "amavisVirusLover", TRUTH),
    Column("spam_lovers_maps", "spam_lover", "amavisSpamLover", TRUTH),
    Column("unchecked_lovers_maps", "unchecked_lover", "amavisUncheckedLover", TRUTH),
    Column("banned_files_lovers_maps", "banned_files_lover", "amavisBannedFilesLover", TRUTH),
    Column("bad_header_lovers_maps", "bad_header_lover", "amavisBadHeaderLover", TRUTH),
    Column("bypass_virus_checks_maps", "bypass_virus_checks", "amavisBypassVirusChecks", TRUTH),
    Column("bypass_spam_checks_maps", "bypass_spam_checks", "amavisBypassSpamChecks", TRUTH),
    Column("bypass_banned_checks_maps", "bypass_banned_checks", "amavisBypassBannedChecks", TRUTH),
    Column("bypass_header_checks_maps", "bypass_header_checks", "amavisBypassHeaderChecks", TRUTH),
    Column("warnvirusrecip_maps", "warnvirusrecip", "amavisWarnVirusRecip", TRUTH),
    Column("warnbannedrecip_maps", "warnbannedrecip", "amavisWarnBannedRecip", TRUTH),
    Column("warnbadhrecip_maps", "warnbadhrecip", "amavisWarnBadHeaderRecip", TRUTH),
    Column("spam_tag_level_maps", "spam_tag_level", "amavisSpamTagLevel", NUMBER),
    Column("spam_tag2_level_maps", "spam_tag2_level", "amavisSpamTag2Level", NUMBER),
    Column("spam_tag3_level_maps", "spam_tag3_level", "amavisSpamTag3Level", NUMBER),
    Column("spam_kill_level_maps", "spam_kill_level", "amavisSpamKillLevel", NUMBER),
    Column("spam_dsn_cutoff_level_maps", "spam_dsn_cutoff_level", "amavisSpamDsnCutoffLevel", NUMBER),
    Column(
        "spam_quarantine_cutoff_level_maps", "spam_quarantine_cutoff_level", "amavisSpamQuarantineCutoffLevel", NUMBER
    ),
    Column("message_size_limit_maps", "message_size_limit", "amavisMessageSizeLimit", NUMBER),
    Column("spam_subject_tag_maps", "spam_subject_tag", "amavisSpamSubjectTag", TEXT),
    Column("spam_subject_tag2_maps", "spam_subject_tag2", "amavisSpamSubjectTag2", TEXT),
    Column("spam_subject_tag3_maps", "spam_subject_tag3", "amavisSpamSubjectTag3", TEXT),
    Column("virus_quarantine_to_maps", "virus_quarantine_to", "amavisVirusQuarantineTo", TEXT),
    Column("spam_quarantine_to_maps", "spam_quarantine_to", "amavisSpamQuarantineTo", TEXT),
    Column("banned_quarantine_to_maps", "banned_quarantine_to", "amavisBannedQuarantineTo", TEXT),
    Column("unchecked_quarantine_to_maps", "unchecked_quarantine_to", "amavisUncheckedQuarantineTo", TEXT),
    Column("bad_header_quarantine_to_maps", "bad_header_quarantine_to", "amavisBadHeaderQuarantineTo", TEXT),
    Column("clean_quarantine_to_maps", "clean_quarantine_to", "amavisCleanQuarantineTo", TEXT),
    Column("archive_quarantine_to_maps", "archive_quarantine_to", "amavisArchiveQuarantineTo", TEXT),
    Column("addr_extension_virus_maps", "addr_extension_virus", "amavisAddrExtensionVirus", TEXT),
    Column("addr_extension_spam_maps", "addr_extension_spam", "amavisAddrExtensionSpam", TEXT),
    Column("addr_extension_banned_maps", "addr_extension_banned", "amavisAddrExtensionBanned", TEXT),
    Column("addr_extension_bad_header_maps", "addr_extension_bad_header", "amavisAddrExtensionBadHeader", TEXT),
    Column("newvirus_admin_maps", "newvirus_admin", "amavisNewVirusAdmin", TEXT),
    Column("virus_admin_maps", "virus_admin", "amavisVirusAdmin", TEXT),
    Column("spam_admin_maps", "spam_admin", "amavisSpamAdmin", TEXT),
    Column("banned_admin_maps", "banned_admin", "amavisBannedAdmin", TEXT),
    Column("bad_header_admin_maps", "bad_header_admin", "amavisBadHeaderAdmin", TEXT),
    Column("banned_filename_maps", "banned_rulenames", "amavisBannedRuleNames", TEXT),
    Column("disclaimer_options_bysender_maps", "disclaimer_options", "amavisDisclaimerOptions", TEXT),
    Column("forward_method_maps", "forward_method", "amavisForwardMethod", TEXT),
    Column("sa_userconf_maps", "sa_userconf", "amavisSaUserConf", TEXT),
    Column("sa_username_maps", "sa_username", "amavisSaUserName", TEXT),
)


def field_of(source: str, name: str, kind: str) -> Field:
    """The table for a column. Being found at all makes an address local where there is no column that says so."""
    return Field(source, name, kind, True if name.lower() in ("local", "amavislocal") and kind == TRUTH else None)


def with_implied_tables(base: Settings, server: ServerSettings, overrides: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The base bank's settings with the tables of the databases that are set up."""
    has_ldap = base.enable_ldap or any(bank.get("enable_ldap") for bank in overrides.values())
    if not server.lookup_maps_imply_sql_and_ldap or not (server.lookup_sql_dsn or has_ldap):
        return base
    known = {setting.name for setting in fields(base)}
    changed: dict[str, Any] = {}
    for column in COLUMNS:
        if column.setting in known:
            sql = [field_of("sql", column.sql, column.kind)] if server.lookup_sql_dsn else []
            ldap = [field_of("ldap", column.ldap, column.kind)] if has_ldap else []
            changed[column.setting] = LookupList.of((*sql, *ldap, *getattr(base, column.setting).tables))
    return replace(base, **changed)


def with_base_clauses(base: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The banks' overrides, with what sql_clause of a bank leaves open taken from the base bank (chapter 4.2)."""
    return {
        name: {key: {**base.sql_clause, **value} if key == "sql_clause" else value for key, value in bank.items()}
        for name, bank in overrides.items()
    }
