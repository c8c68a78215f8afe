"""Spam scanners behind the running daemon: what the client hears, and what reaches the next hop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.daemons import GTUBE, Rspamd, Spamd
from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import RunningDaemon
from tests.sink import Sink

HEADER = MAIL.partition(b"Hi\r\n")[0]
TABLES = """
[[spam_scanners]]
name = "rspamd"
type = "rspamd"
address = "{rspamd}"
score_factor = 0.5

[[spam_scanners]]
name = "SpamAssassin"
type = "spamd"
address = "127.0.0.1:{spamd}"
compress = true

[[spam_scanners]]
name = "shell"
type = "program"
command = ["/bin/sh", "-c", "grep -q casino && exit 1"]
statuses = {{ "0" = 0.0, "1" = 0.25 }}
"""
EXTRA = """
final_spam_destiny = "D_REJECT"
spam_tag_level_maps = -999.0
spam_tag3_level_maps = 50.0
spam_subject_tag3_maps = "*BLATANT* "
sa_username_maps = [{ "ann@example.com" = "ann" }]
whitelist_sender_maps = [["friend@example.org"]]
score_sender_maps = [{ "bob@example.com" = [{ "a@example.org" = 1.5 }] }]
log_level = 2
"""


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def daemon(sink: Sink) -> Iterator[tuple[int, RunningDaemon]]:
    with Rspamd() as rspamd, Spamd() as spamd:
        spamd.prefers("ann", "score ALL_TRUSTED 0", "blacklist_from a@example.org")
        tables = TABLES.format(rspamd=rspamd.socket, spamd=spamd.port)
        port, config = small_config(sink.port, extra=EXTRA, tables=tables)
        with RunningDaemon(config) as running:
            yield port, running


def deliver(port: int, octets: bytes, *recipients: str) -> str:
    with Talk(port) as talk:
        talk.greet()
        return talk.deliver(octets, *recipients)


def test_all_scanners_add_to_the_score_of_an_ordinary_mail(daemon: tuple[int, RunningDaemon], sink: Sink) -> None:
    port, running = daemon
    assert deliver(port, MAIL, "cid@example.com").startswith("250 2.0.0 ")
    told = sink.mails[-1].octets.replace(b"\r\n ", b" ")
    assert b"X-Spam-Flag: NO\r\n" in told
    assert b"RECIPIENTS=0.5" in told
    assert b"shell.1=0.25" in told
    assert "spam-tag, <a@example.org> -> <cid@example.com>, No, score=" in running.wait_for_log("spam-tag, ")


def test_recipients_with_scores_of_their_own_get_mails_of_their_own(
    daemon: tuple[int, RunningDaemon], sink: Sink
) -> None:
    port, running = daemon
    before = len(sink.mails)
    assert deliver(port, MAIL, "bob@example.com", "cid@example.com").startswith("250 2.0.0 ")
    mails = {mail.recipients[0]: mail.octets.replace(b"\r\n ", b" ") for mail in sink.mails[before:]}
    assert b"AM.WBL=1.5" in mails["bob@example.com"]
    assert sum(b"AM.WBL" in octets for octets in mails.values()) == 1
    assert ".." in running.log().rpartition("Hits: ")[2].partition(",")[0]


def test_a_users_own_preferences_reject_for_him(daemon: tuple[int, RunningDaemon]) -> None:
    port, _ = daemon
    assert deliver(port, MAIL, "ann@example.com").startswith("554 5.7.0 Reject, id=")


def test_gtube_is_rejected(daemon: tuple[int, RunningDaemon]) -> None:
    port, running = daemon
    assert deliver(port, HEADER + GTUBE + b"\r\n", "cid@example.com").startswith("554 5.7.0 Reject, id=")
    running.wait_for_log("Blocked SPAM {RejectedInbound,Quarantined}")


def test_a_soft_reject_leaves_the_mail_with_the_client(daemon: tuple[int, RunningDaemon], sink: Sink) -> None:
    port, _ = daemon
    before = len(sink.mails)
    reply = deliver(port, HEADER.replace(b"Subject: t", b"Subject: later") + b"Hi\r\n", "cid@example.com")
    assert reply.startswith("451 4.7.1 Come back later, id=")
    assert len(sink.mails) == before


def test_header_edits_of_rspamd_reach_the_next_hop(daemon: tuple[int, RunningDaemon], sink: Sink) -> None:
    port, _ = daemon
    octets = b"X-Old: forged\r\n" + HEADER.replace(b"Subject: t", b"Subject: edits") + b"Hi\r\n"
    assert deliver(port, octets, "cid@example.com").startswith("250 2.0.0 ")
    assert b"X-Rspamd-Said: hello\r\n" in sink.mails[-1].octets
    assert b"X-Old" not in sink.mails[-1].octets


def test_a_whitelisted_sender_is_not_scored(daemon: tuple[int, RunningDaemon], sink: Sink) -> None:
    port, running = daemon
    octets = HEADER.replace(b"From: a@", b"From: friend@") + GTUBE + b"\r\n"
    assert deliver(port, octets, "cid@example.com").startswith("250 2.0.0 ")
    told = sink.mails[-1].octets.replace(b"\r\n ", b" ")
    assert b"X-Spam-Status: No, score=x tagged_above=-999 required=6.31 WHITELISTED tests=[]" in told
    running.wait_for_log("wbl: whitelisted sender <a@example.org>,<friend@example.org> => <cid@example.com>")
