"""Databases in a configuration: what is connected to, which tables are implied, what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from amavispy.config.faults import ConfigError
from amavispy.config.implied import COLUMNS
from amavispy.policy.blocklist import Blocklist, Blocklisted
from amavispy.policy.directory import NUMBER, TEXT, TRUTH, Field
from amavispy.policy.lookup import Constant
from tests.config.loading import load

SQL = 'lookup_sql_dsn = "sqlite:////var/lib/amavispy/lookup.db"\n'
LDAP = '[default_ldap]\nbase = "dc=example,dc=org"\n'


def faults_of(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(directory, text)
    return [f"{fault}".partition("toml:")[2] for fault in caught.value.faults]


def test_sql_and_ldap_stand_before_the_lists_they_belong_to(tmp_path: Path) -> None:
    settings = load(tmp_path, SQL + "enable_ldap = true\nspam_tag2_level_maps = 5\n" + LDAP).banks.base.settings
    assert settings.spam_tag2_level_maps.tables == (
        Field("sql", "spam_tag2_level", NUMBER), Field("ldap", "amavisSpamTag2Level", NUMBER), Constant(5.0),
    )  # fmt: skip
    assert settings.local_domains_maps.tables == (
        Field("sql", "local", TRUTH, True), Field("ldap", "amavisLocal", TRUTH, True),
    )  # fmt: skip
    assert settings.banned_filename_maps.tables[0] == Field("sql", "banned_rulenames", TEXT)


def test_without_a_database_or_against_it_nothing_is_implied(tmp_path: Path) -> None:
    for text in ("", SQL + "lookup_maps_imply_sql_and_ldap = false\n"):
        assert load(tmp_path, text).banks.base.settings.spam_lovers_maps.tables == ()


def test_a_list_that_a_bank_sets_is_taken_as_written(tmp_path: Path) -> None:
    banks = load(tmp_path, SQL + "[policy_bank.MYUSERS]\nspam_kill_level_maps = 9\n").banks
    bank = banks.base.overlaid_with(banks.named["MYUSERS"]).settings
    assert bank.spam_kill_level_maps.fixed == 9.0
    assert len(bank.spam_tag2_level_maps.tables) == 2


def test_clauses_of_a_bank_leave_the_others_as_they_are(tmp_path: Path) -> None:
    text = SQL + '[sql_clause]\nsel_policy = """SELECT *\nFROM users WHERE email IN (%k)"""\n'
    banks = load(tmp_path, text + '[policy_bank.MYUSERS]\nsql_clause = { sel_wblist = "" }\n').banks
    bank = banks.base.overlaid_with(banks.named["MYUSERS"]).settings
    assert bank.sql_clause == {"sel_policy": "SELECT * FROM users WHERE email IN (%k)", "sel_wblist": ""}


def test_a_column_of_ones_own_needs_a_clause_of_ones_own(tmp_path: Path) -> None:
    text = SQL + 'sa_username_maps = [{ sql = "our_user" }]\n'
    assert faults_of(tmp_path, text)[0].startswith('2: sa_username_maps[1]: amavis\' schema has no column "our_user"')
    own = text + '[sql_clause]\nsel_policy = "SELECT * FROM ours WHERE k IN (%k)"\n'
    assert Field("sql", "our_user", TEXT) in load(tmp_path, own).banks.base.settings.sa_username_maps.tables


def test_ldap_has_its_settings(tmp_path: Path) -> None:
    more = 'hostname = ["a", "ldaps://b/"]\nbind_dn = "cn=x"\nbind_password = "$ecret"\ntimeout = "5s"\ntls = true\n'
    ldap = load(tmp_path, LDAP + more).server.default_ldap
    assert (ldap.hostname, ldap.bind_password, ldap.timeout, ldap.tls) == (("a", "ldaps://b/"), "$ecret", 5.0, True)
    assert "$ecret" not in repr(ldap)


def test_blocklists_stand_in_lists_and_in_rules_for_clients(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'blacklist_sender_maps = [{ dnsxl = ["A.example.", "b.example"], expected = ["1.2"] }]\n'
        '[[client_ipaddr_policy]]\ndnsxl = "zen.example"\nbanks = ["X"]\n[policy_bank.X]\n',
    ).banks.base.settings
    assert settings.blacklist_sender_maps.tables == (Blocklisted(Blocklist(("a.example", "b.example"), ("1.2",))),)
    (rule,) = settings.client_ipaddr_policy
    assert (rule.dnsxl, rule.networks.texts) == (Blocklist(("zen.example",)), ())


@pytest.mark.parametrize(
    ("text", "module", "said"),
    [
        (SQL, "sqlalchemy", "1: lookup_sql_dsn[1]: needs the Python module sqlalchemy, which is not installed; pip"
                            " install 'amavispy[sql]'"),
        ('lookup_redis_dsn = "redis://h"\n', "redis", "1: lookup_redis_dsn: needs the Python module redis, which is not"
                                                      " installed; pip install 'amavispy[redis]'"),
        ("enable_ldap = true\n" + LDAP, "ldap3", "1: enable_ldap: needs the Python module ldap3, which is not"
                                                 " installed; pip install 'amavispy[ldap]'"),
        ('blacklist_sender_maps = [{ dnsxl = "a.example" }]\n', "dns", "1: blacklist_sender_maps[1]: needs the Python"
         " module dns, which is not installed; pip install 'amavispy[dns]'"),
    ],
)  # fmt: skip
def test_a_missing_module_is_told_with_its_extra(
    text: str, module: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == module else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert faults_of(tmp_path, text) == [said]


def test_columns_of_settings_that_exist_have_their_kind(tmp_path: Path) -> None:
    names = [column.sql for column in COLUMNS]
    assert len(names) == len(set(names))
    settings = load(tmp_path, SQL).banks.base.settings
    known = [column for column in COLUMNS if hasattr(settings, column.setting)]
    assert len(known) > 25
    for column in known:
        table = getattr(settings, column.setting).tables[0]
        assert (table.source, table.name, table.kind) == ("sql", column.sql, column.kind)
