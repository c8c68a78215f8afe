"""Carrying out a disposition: who gets the mail, with what on top, and what the client hears."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from amavispy.deadline import Deadline
from amavispy.delivery.forward import Forward, HandBack
from amavispy.delivery.received import received_value
from amavispy.delivery.transports import SmtpTransport
from amavispy.mail.disposition import Destiny, Disposition, HeaderEdits, RecipientDisposition
from amavispy.mail.envelope import Connection, Envelope, Recipient
from amavispy.mail.message import Content, Ids, Message
from amavispy.mail.next_hop import NextHop
from amavispy.mail.outcome import Outcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings
from tests.sink import Sink

MAIL = b"From: a@example.org\r\nSubject: test\r\n\r\nbody\r\n"
BANK = PolicyBank(Settings(myhostname="mail.example.com"))
CLEAN = ContentsCategory(Category.CLEAN)
VIRUS = ContentsCategory(Category.VIRUS)
CAME = Connection("10024", "192.0.2.1", 4711, "127.0.0.1", 10024, helo="mta.example.com")


@pytest.fixture
def transport() -> Iterator[SmtpTransport]:
    transport = SmtpTransport()
    yield transport
    transport.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


def message(*addresses: str, octets: bytes = MAIL) -> Message:
    return Message(
        Envelope("a@example.org", tuple(Recipient(address) for address in addresses), size=1),
        Content(octets),
        Ids("26701-03", "ZzkABGZDvnF1"),
        CAME,
        "ESMTP",
        datetime(2024, 2, 5, 6, 7, 8, tzinfo=timezone(timedelta(hours=1))),
    )


def passed(address: str, *next_hops: NextHop, edits: HeaderEdits | None = None) -> RecipientDisposition:
    return RecipientDisposition(
        Recipient(address), (CLEAN,), None, Destiny.PASS, None, next_hops, edits or HeaderEdits()
    )


def blocked(address: str, destiny: Destiny, reply: Reply) -> RecipientDisposition:
    return RecipientDisposition(Recipient(address), (VIRUS, CLEAN), VIRUS, destiny, reply, (), HeaderEdits())


def deliver(forward: Forward | HandBack, *fates: RecipientDisposition, octets: bytes = MAIL) -> Outcome:
    mail = message(*(fate.recipient.address for fate in fates), octets=octets)
    return forward.deliver(mail, Disposition(fates), BANK, Deadline.after(20.0))


def test_a_passed_mail_gets_its_received_field_on_top_and_arrives_unchanged(
    transport: SmtpTransport, sink: Sink
) -> None:
    edits = HeaderEdits(prepend=(("X-Virus-Scanned", "amavis"),))
    outcome = deliver(Forward(transport), passed("b@example.net", sink.next_hop, edits=edits))
    assert (
        sink.mails[0].octets
        == (
            b"X-Virus-Scanned: amavis\r\n"
            b"Received: from mta.example.com ([192.0.2.1])\r\n"
            b"\tby localhost (mail.example.com [127.0.0.1]) (amavispy, port 10024)\r\n"
            b"\twith ESMTP id ZzkABGZDvnF1 for <b@example.net>;\r\n"
            b"\tMon, 5 Feb 2024 06:07:08 +0100\r\n"
        )
        + MAIL
    )
    (recipient,) = outcome.recipients
    assert recipient.is_passed
    assert str(recipient.reply) == f"250 2.0.0 from MTA({sink.next_hop}): 250 2.0.0 Ok: queued"
    assert (recipient.next_hop, recipient.queued_as) == (str(sink.next_hop), "250 2.0.0 Ok: queued")


def test_size_is_that_of_the_mail_as_it_leaves(transport: SmtpTransport, sink: Sink) -> None:
    deliver(Forward(transport), passed("b@example.net", sink.next_hop))
    assert f" SIZE={len(sink.mails[0].octets)}" in sink.mails[0].commands[0]


def test_recipients_with_the_same_edits_travel_together_and_nobody_reads_of_the_other(
    transport: SmtpTransport, sink: Sink
) -> None:
    spam = HeaderEdits(subject_tag="***SPAM*** ")
    outcome = deliver(
        Forward(transport),
        passed("b@example.net", sink.next_hop),
        passed("c@example.net", sink.next_hop, edits=spam),
        passed("d@example.net", sink.next_hop, edits=HeaderEdits()),
    )
    assert [mail.recipients for mail in sink.mails] == [["b@example.net", "d@example.net"], ["c@example.net"]]
    assert b"example.net" not in sink.mails[0].octets
    assert b"Subject: ***SPAM*** test\r\n" in sink.mails[1].octets
    assert [r.disposition.recipient.address for r in outcome.recipients] == [
        "b@example.net",
        "c@example.net",
        "d@example.net",
    ]


def test_blocked_recipients_keep_their_reply_and_get_nothing(transport: SmtpTransport, sink: Sink) -> None:
    discarded = Reply(250, "2.7.0", "Ok, discarded")
    outcome = deliver(
        Forward(transport),
        blocked("b@example.net", Destiny.DISCARD, discarded),
        passed("c@example.net", sink.next_hop),
    )
    assert sink.mails[0].recipients == ["c@example.net"]
    assert outcome.recipients[0].reply == discarded
    assert not outcome.recipients[0].is_passed


def test_a_refusal_of_the_next_hop_makes_the_recipient_one_of_the_mta_s(transport: SmtpTransport, sink: Sink) -> None:
    sink.replies["rcpt"] = {"c@example.net": "550 5.1.1 unknown user"}
    outcome = deliver(
        Forward(transport), passed("b@example.net", sink.next_hop), passed("c@example.net", sink.next_hop)
    )
    good, refused = outcome.recipients
    assert good.is_passed
    assert refused.disposition.blocking == ContentsCategory(Category.MTA, 2)
    assert str(refused.reply) == (
        "550 5.1.1 id=26701-03 - Rejected by next-hop MTA on relaying, "
        f"from MTA({sink.next_hop}): 550 5.1.1 unknown user"
    )
    reply, _ = outcome.single_reply("26701-03")
    assert str(reply) == f"250 2.0.0 from MTA({sink.next_hop}): 250 2.0.0 Ok: queued, but 1 REJECT"


def test_the_client_hears_what_amavisd_s_client_hears_when_nothing_listens(transport: SmtpTransport) -> None:
    with Sink() as gone:
        pass
    outcome = deliver(Forward(transport), passed("b@example.net", gone.next_hop))
    reply, _ = outcome.single_reply("26701-03")
    assert str(reply) == (
        "451 4.5.0 id=26701-03 - Temporary MTA failure on relaying, From MTA() during fwd-connect "
        f"(All attempts (1) failed connecting to smtp:[127.0.0.1]:{gone.port}): id=26701-03"
    )


def test_after_a_temporary_failure_the_rest_waits_too_where_one_reply_is_for_all(
    transport: SmtpTransport, sink: Sink
) -> None:
    with Sink() as gone:
        pass
    fates = passed("b@example.net", gone.next_hop), passed("c@example.net", sink.next_hop)
    outcome = deliver(Forward(transport, splits=False), *fates)
    assert sink.mails == []
    assert str(outcome.recipients[1].reply) == (
        "451 4.5.0 id=26701-03 - Temporary MTA failure on relaying, "
        "Giving up due to previous temporary failures, id=26701-03"
    )
    outcome = deliver(Forward(transport, splits=True), *fates)
    assert len(sink.mails) == 1
    assert [r.reply.code for r in outcome.recipients] == [451, 250]


def test_nobody_gets_a_mail_that_somebody_s_policy_makes_the_client_keep(transport: SmtpTransport, sink: Sink) -> None:
    later = blocked("b@example.net", Destiny.TEMPFAIL, Reply(450, "4.7.0", "Temporary failure"))
    outcome = deliver(Forward(transport, splits=False), passed("c@example.net", sink.next_hop), later)
    assert [r.reply.code for r in outcome.recipients] == [451, 450]
    outcome = deliver(Forward(transport, splits=True), passed("c@example.net", sink.next_hop), later)
    assert [r.reply.code for r in outcome.recipients] == [250, 450]
    assert len(sink.mails) == 1


def test_a_mail_that_has_come_round_too_often_is_refused(transport: SmtpTransport, sink: Sink) -> None:
    loop = b"Received: from x by y;\r\n\tdate\r\n"
    outcome = deliver(Forward(transport), passed("b@example.net", sink.next_hop), octets=loop * 100 + MAIL)
    assert outcome.recipients[0].is_passed
    outcome = deliver(Forward(transport), passed("b@example.net", sink.next_hop), octets=loop * 101 + MAIL)
    reply = outcome.recipients[0].reply
    assert (reply.code, reply.enhanced) == (554, "5.4.6")
    assert reply.text.endswith("Reject: Too many hops: 101 'Received:' header fields, id=26701-03")


def test_received_in_the_body_is_no_hop(transport: SmtpTransport, sink: Sink) -> None:
    octets = MAIL + b"Received: x\r\n" * 200
    assert deliver(Forward(transport), passed("b@example.net", sink.next_hop), octets=octets).recipients[0].is_passed


def test_without_a_next_hop_the_client_keeps_the_mail(transport: SmtpTransport) -> None:
    outcome = deliver(Forward(transport), passed("b@example.net"))
    assert outcome.recipients[0].reply.is_tempfail


def test_stars_go_back_to_where_the_mail_came_from(transport: SmtpTransport, sink: Sink) -> None:
    mail = replace(message("b@example.net"), connection=Connection("x", "127.0.0.1", 4711, "127.0.0.1", sink.port - 1))
    fate = passed("b@example.net", NextHop.parse("smtp:*:*"))
    Forward(transport).deliver(mail, Disposition((fate,)), BANK, Deadline.after(20.0))
    assert len(sink.mails) == 1


def test_handing_back_says_go_on_to_everybody_who_is_not_blocked() -> None:
    rejected = Reply(554, "5.7.0", "Reject")
    outcome = deliver(HandBack(), passed("b@example.net"), blocked("c@example.net", Destiny.REJECT, rejected))
    assert [str(r.reply) for r in outcome.recipients] == [
        "250 2.5.0 Ok, id=26701-03, continue delivery",
        "554 5.7.0 Reject",
    ]
    assert outcome.recipients[0].is_passed
    assert not HandBack().can_split
    assert not HandBack().adds_received


# --- the Received field


def received(mail: Message, *recipients: str) -> str:
    return received_value(mail, BANK.settings, list(recipients)).replace("\n\t", " ")


def test_a_client_on_a_unix_socket_has_no_address() -> None:
    mail = replace(message(), connection=Connection("/run/amavispy.sock"), protocol="LMTP")
    assert received(mail) == (
        "from unknown by localhost (mail.example.com) (amavispy, unix socket) with LMTP id ZzkABGZDvnF1; "
        "Mon, 5 Feb 2024 06:07:08 +0100"
    )


@pytest.mark.parametrize("protocol", ["SMTP", "ESMTP", "ESMTPS", "ESMTPSA", "LMTP", "LMTPS", "UTF8SMTP", "UTF8LMTPS"])
def test_registered_protocols_are_named(protocol: str) -> None:
    assert f" with {protocol} id " in received(replace(message(), protocol=protocol))


@pytest.mark.parametrize("protocol", ["AM.PDP", "milter", "", "ESMTP\r\nX: y"])
def test_others_are_not(protocol: str) -> None:
    assert " with " not in received(replace(message(), protocol=protocol))


def test_what_a_client_calls_itself_cannot_leave_its_place() -> None:
    mail = replace(message(), connection=replace(CAME, helo="x\r\nSubject: y (z" + "w" * 999))
    value = received(mail)
    assert value.startswith("from x??Subject:?y??z")
    assert len(value) < 450


@pytest.mark.parametrize(
    "address", ['"a b"@example.net', "jörg@example.net", "b\r\nX: y@example.net", "b" * 300, "a>b"]
)
def test_an_odd_recipient_is_not_named(address: str) -> None:
    assert " for <" not in received(message(), address)


@pytest.mark.parametrize("address", ["b@example.net", "b+ext=x@sub.example.net", "postmaster", "o'b_c-d.e@x"])
def test_an_ordinary_recipient_is(address: str) -> None:
    assert f" for <{address}>;" in received(message(), address)


@pytest.mark.parametrize(
    ("offset", "date"),
    [
        (timedelta(hours=5, minutes=45), "Mon, 5 Feb 2024 06:07:08 +0545"),
        (timedelta(hours=-3, minutes=-30), "Mon, 5 Feb 2024 06:07:08 -0330"),
        (timedelta(0), "Mon, 5 Feb 2024 06:07:08 +0000"),
    ],
)
def test_the_date_tells_the_zone(offset: timedelta, date: str) -> None:
    moment = datetime(2024, 2, 5, 6, 7, 8, tzinfo=timezone(offset))
    assert received(replace(message(), received_at=moment)).endswith(f"; {date}")
