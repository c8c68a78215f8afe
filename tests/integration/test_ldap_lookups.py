"""Lookups in a real slapd with amavis' own schema."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amavispy.mail.address import Address
from amavispy.mail.reply import TemporaryFailure
from amavispy.policy.directory import NUMBER, TEXT, TRUTH, WBLIST, Field
from amavispy.policy.lookup import AccessList, LookupList
from amavispy.policy.settings import Settings
from amavispy.tables.directory import Databases
from amavispy.tables.failover import Failover
from amavispy.tables.ldap import LdapServer, LdapSource
from amavispy.tables.ldap_settings import LdapSettings
from tests.integration.database_servers import LDAP_ADMIN, LDAP_BASE, LDAP_PASSWORD, OpenLDAP
from tests.integration.lookup_data import address

TAG2 = Field("ldap", "amavisSpamTag2Level", NUMBER)
SETTINGS = Settings(
    enable_ldap=True,
    recipient_delimiter="+",
    spam_tag2_level_maps=LookupList.of([TAG2]),
    local_domains_maps=LookupList.of([Field("ldap", "amavisLocal", TRUTH, True), AccessList((".example.org",))]),
)


def entry(name: str, *mail: str, unit: str = "", **attributes: Any) -> str:
    lines = [
        f"dn: cn={name},{unit}{LDAP_BASE}",
        "objectClass: inetOrgPerson",
        "objectClass: amavisAccount",
        f"cn: {name}",
        "sn: x",
    ]
    lines += [f"mail: {address}" for address in mail]
    for key, values in attributes.items():
        lines += [f"amavis{key}: {value}" for value in (values if isinstance(values, list) else [values])]
    return "\n".join(lines) + "\n"


ENTRIES = (
    entry("ann", "ann@example.org", VirusLover="TRUE", SpamTag2Level="3.0", SpamSubjectTag2="[SPAM] ",
          WhitelistSender=["friend@elsewhere.example", "@.friends.example"], BlacklistSender=["@elsewhere.example"]),
    entry("domain", "other@example.net", "@example.org", VirusLover="FALSE", SpamTag2Level="4.5", SpamLover="TRUE"),
    entry("below", "@.example.org", SpamLover="FALSE", Local="FALSE"),
    entry("root", "root", SpamLover="FALSE"),
    entry("null", "<>", SpamTag2Level="1.5"),
    entry("odd", "a*(b)\\c@example.org", SpamTag2Level="2.5"),
    entry("everybody", "@.", SpamTag2Level="9.5"),
)  # fmt: skip


@pytest.fixture(scope="module")
def slapd() -> Iterator[OpenLDAP]:
    with OpenLDAP() as server:
        for text in ENTRIES:
            server.add(text)
        yield server


def source_of(*uris: str, timeout: float = 2.0, **settings: Any) -> LdapSource:
    found = LdapSettings(**{"hostname": uris, "base": LDAP_BASE, **settings})
    return LdapSource(Failover("lookup_ldap", [LdapServer(uri, found, timeout) for uri in uris]), found)


def known(source: LdapSource, path: str, *senders: str, settings: Settings = SETTINGS) -> Address:
    people = [address(sender, settings) for sender in senders]
    (found,), _ = Databases({"ldap": source}).know([address(path, settings)], people, settings)
    return found


def names(source: LdapSource, path: str) -> list[str]:
    return [row["cn"] for row in known(source, path).records.get("ldap", ())]


def test_entries_come_by_how_specific_their_key_is(slapd: OpenLDAP) -> None:
    source = source_of(slapd.uri)
    assert names(source, "Ann+Lists@Example.ORG") == ["ann", "domain", "below", "everybody"]
    assert names(source, "root@example.org") == ["root", "domain", "below", "everybody"]
    assert names(source, "root@elsewhere.example") == ["everybody"]
    assert names(source, "x@sub.example.org") == ["below", "everybody"]


@pytest.mark.parametrize(
    ("attribute", "kind", "recipient", "answer"),
    [
        ("amavisVirusLover", TRUTH, "ann@example.org", True),
        ("AMAVISVIRUSLOVER", TRUTH, "x@example.org", False),
        ("amavisSpamLover", TRUTH, "ann@example.org", True),
        ("amavisSpamLover", TRUTH, "x@sub.example.org", False),
        ("amavisSpamTag2Level", NUMBER, "ann@example.org", 3.0),
        ("amavisSpamTag2Level", NUMBER, "x@example.org", 4.5),
        ("amavisSpamSubjectTag2", TEXT, "ann@example.org", "[SPAM] "),
        ("amavisSpamSubjectTag2", TEXT, "x@example.org", None),
    ],
)
def test_the_first_entry_with_a_value_answers(
    slapd: OpenLDAP, attribute: str, kind: str, recipient: str, answer: Any
) -> None:
    assert Field("ldap", attribute, kind).find(known(source_of(slapd.uri), recipient)) == answer


def test_being_found_makes_local_unless_the_entry_says_no_or_is_everybodys(slapd: OpenLDAP) -> None:
    source, local = source_of(slapd.uri), SETTINGS.local_domains_maps.tables[0]
    assert local.find(known(source, "ann@example.org")) is True
    assert local.find(known(source, "x@sub.example.org")) is False
    assert local.find(known(source, "x@elsewhere.example")) is None


def test_nothing_in_an_address_is_a_filter(slapd: OpenLDAP) -> None:
    source = source_of(slapd.uri)
    assert names(source, '"a*(b)\\\\c"@example.org')[0] == "odd"
    for local_part in ("*", "a*", "*)(cn=*", "\\2a", "\udce4", "\x00"):
        assert names(source, f"{local_part}@example.org") == ["domain", "below", "everybody"]


def test_the_null_sender_has_a_key_of_its_own(slapd: OpenLDAP) -> None:
    made = Settings(enable_ldap=True, spam_dsn_cutoff_level_bysender_maps=LookupList.of([TAG2]))
    _, (sender,) = Databases({"ldap": source_of(slapd.uri)}).know([], [address("", made)], made)
    assert made.spam_dsn_cutoff_level_bysender_maps.find(sender) == 1.5


def test_all_recipients_are_found_by_one_search(slapd: OpenLDAP) -> None:
    source = source_of(slapd.uri)
    searches = []
    search = source._search
    source._search = lambda *arguments: searches.append(arguments) or search(*arguments)  # type: ignore[method-assign]
    paths = ["ann@example.org", "x@example.org", "x@sub.example.org", "x@elsewhere.example"]
    rows = source.fetch([address(path, SETTINGS) for path in paths], SETTINGS)
    assert [[row["cn"] for row in found] for found in rows] == [names(source_of(slapd.uri), path) for path in paths]
    assert len(searches) == 1


def test_a_thousand_recipients_are_searched_in_portions(slapd: OpenLDAP) -> None:
    rows = source_of(slapd.uri).fetch([address(f"u{n}@example.org", SETTINGS) for n in range(1000)], SETTINGS)
    assert {tuple(row["cn"] for row in found) for found in rows} == {("domain", "below", "everybody")}


def test_own_lists_of_senders_are_read(slapd: OpenLDAP) -> None:
    source = source_of(slapd.uri)
    senders = ("friend@elsewhere.example", "foe@Elsewhere.Example", "x@sub.friends.example", "x@other.example", "")
    listed = [(row["sender"], row["wb"]) for row in known(source, "ann@example.org", *senders).records[WBLIST]]
    assert listed == [
        ("friend@elsewhere.example", "B"), ("friend@elsewhere.example", "W"), ("foe@Elsewhere.Example", "B"),
        ("x@sub.friends.example", "W"),
    ]  # fmt: skip
    assert WBLIST not in known(source, "x@example.org", *senders).records


def test_a_base_may_name_the_domain(slapd: OpenLDAP) -> None:
    slapd.add(f"dn: ou=d.example,{LDAP_BASE}\nobjectClass: organizationalUnit\nou: d.example\n")
    slapd.add(entry("dora", "dora@d.example", unit="ou=d.example,", SpamTag2Level="7.5"))
    source = source_of(slapd.uri, base=f"ou=%d,{LDAP_BASE}")
    paths = ["dora@d.example", "dora@e.example", 'x@d,ou=\\"x.example', "postmaster"]
    found = source.fetch([address(path, SETTINGS) for path in paths], SETTINGS)
    assert [[row["cn"] for row in rows] for rows in found] == [["dora"], [], [], []]


def test_a_filter_may_match_several_attributes(slapd: OpenLDAP) -> None:
    source = source_of(slapd.uri, query_filter="(|(mail=%m)(&(objectClass=inetOrgPerson)(cn=%m)))")
    assert names(source, "below@example.org")[0] == "below"


def test_ldap_is_asked_only_where_it_is_enabled(slapd: OpenLDAP) -> None:
    made = Settings(spam_tag2_level_maps=LookupList.of([TAG2]))
    assert known(source_of(slapd.uri), "ann@example.org", settings=made).records == {}


def test_start_tls_needs_a_certificate_that_can_be_trusted(slapd: OpenLDAP, tmp_path: Path) -> None:
    uri = slapd.uri.replace("127.0.0.1", "localhost")
    trusted = shutil.copy(slapd.certificate, tmp_path / "ca.pem")
    assert names(source_of(uri, tls=True, cafile=str(trusted)), "ann@example.org")[0] == "ann"
    assert names(source_of(uri, tls=True, verify="none"), "ann@example.org")[0] == "ann"
    with pytest.raises(TemporaryFailure):
        names(source_of(uri, tls=True), "ann@example.org")


def test_a_login_is_needed_where_nobody_else_may_read(caplog: pytest.LogCaptureFixture) -> None:
    with OpenLDAP(private=True) as server:
        server.add(ENTRIES[0])
        login = {"bind_dn": LDAP_ADMIN, "bind_password": LDAP_PASSWORD}
        assert names(source_of(server.uri, **login), "ann@example.org") == ["ann"]
        with pytest.raises(TemporaryFailure):
            names(source_of(server.uri), "ann@example.org")
        with pytest.raises(TemporaryFailure):
            names(source_of(server.uri, **{**login, "bind_password": "wrong"}), "ann@example.org")
    assert f"login as {LDAP_ADMIN}: invalidCredentials" in caplog.text
    assert "wrong" not in caplog.text


def test_a_search_that_is_refused_defers_the_mail(slapd: OpenLDAP, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TemporaryFailure):
        names(source_of(slapd.uri, base="no base at all"), "ann@example.org")
    assert "search in no base at all: invalidDNSyntax" in caplog.text


def test_a_restarted_server_is_asked_again_a_dead_one_defers_and_another_takes_over(
    slapd: OpenLDAP, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenLDAP() as server:
        server.add(ENTRIES[0])
        source, both = source_of(server.uri), source_of(server.uri, slapd.uri)
        assert names(source, "ann@example.org") == names(both, "ann@example.org") == ["ann"]
        server.stop()
        server.start()
        assert names(source, "ann@example.org") == ["ann"]
        server.kill()
        with pytest.raises(TemporaryFailure) as caught:
            names(source, "ann@example.org")
        assert str(caught.value.reply) == "451 4.5.0 Error in processing, lookup_ldap FAILED"
        assert len(caplog.records) == 1
        assert names(both, "ann@example.org") == ["ann", "domain", "below", "everybody"]


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    with OpenLDAP() as server:
        server.add(ENTRIES[0])
        source = source_of(server.uri, timeout=0.5)
        assert names(source, "ann@example.org") == ["ann"]
        server.freeze()
        began = time.monotonic()
        with pytest.raises(TemporaryFailure):
            names(source, "ann@example.org")
        assert time.monotonic() - began < 3
