"""What a session offers follows from its bank and the address it came in on."""

from dataclasses import replace

import pytest

from amavispy.config.model import ServerSettings
from amavispy.mail.envelope import Connection
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings
from amavispy.server.profiles import Profiles, smtp_profile

HERE = Connection("127.0.0.1:10024", "127.0.0.1", 4711, "127.0.0.1", 10024)
WITH_TLS = ServerSettings(smtpd_tls_cert_file="c", smtpd_tls_key_file="k")


def profile_of(server=None, connection=HERE, **settings):
    return smtp_profile(PolicyBank(Settings(**settings)), connection, server or ServerSettings())


def test_the_greeting_names_our_address_and_the_protocol():
    assert profile_of().greeting == "[127.0.0.1] ESMTP amavispy service ready"
    assert profile_of(protocol="LMTP").greeting == "[127.0.0.1] LMTP amavispy service ready"
    assert profile_of().farewell == "[127.0.0.1] amavispy closing transmission channel"


def test_a_unix_socket_is_called_localhost():
    assert profile_of(connection=Connection("/run/smtp.sock")).helo_name == "[localhost]"


def test_banners_know_variables_and_leave_strangers_alone():
    banner = "${myhostname} ${version-id} ${nonsense}"
    assert profile_of(smtpd_greeting_banner=banner, myhostname="mx.example").greeting.startswith("mx.example ")
    assert profile_of(smtpd_greeting_banner=banner).greeting.endswith(" ${nonsense}")


def test_the_keywords_stand_in_amavis_order():
    assert profile_of().keywords == (
        "VRFY",
        "PIPELINING",
        "SIZE",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "CHUNKING",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    )


def test_a_size_limit_is_announced():
    assert "SIZE 1000000" in profile_of(smtpd_message_size_limit=1_000_000).keywords


@pytest.mark.parametrize(
    ("discarded", "gone"),
    [(("DSN",), {"DSN"}), (("8bitmime",), {"8BITMIME", "SMTPUTF8"}), (("xforward",), {profile_of().keywords[-1]})],
)
def test_discarded_keywords_are_not_offered(discarded, gone):
    assert set(profile_of().keywords) - set(profile_of(smtpd_discard_ehlo_keywords=discarded).keywords) == gone


def test_starttls_is_offered_only_with_a_certificate():
    assert "STARTTLS" not in profile_of(tls_security_level_in="may").keywords
    assert profile_of(tls_security_level_in="may").tls == "none"
    offered = profile_of(WITH_TLS, tls_security_level_in="encrypt")
    assert "STARTTLS" in offered.keywords
    assert offered.tls == "encrypt"


def test_profiles_are_made_once_for_each_bank_and_address():
    profiles, bank = Profiles(ServerSettings()), PolicyBank(Settings())
    first = profiles(bank, HERE)
    assert profiles(bank, replace(HERE, peer="192.0.2.1", number=7)) is first
    assert profiles(bank, replace(HERE, local="192.0.2.9")) is not first
    assert profiles(PolicyBank(Settings(), ("OTHER",)), HERE) is not first


def test_the_memory_of_profiles_is_bounded():
    profiles, bank = Profiles(ServerSettings()), PolicyBank(Settings())
    for number in range(2000):
        profiles(bank, replace(HERE, local=f"10.0.{number // 250}.{number % 250}"))
    assert len(profiles._known) <= 500
