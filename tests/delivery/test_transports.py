"""Handing mail to a next hop that does what amavisd's next hop did in the recorded cases ("amavisd: downstream").

The replies here are the transport's. `policy.decide.after_forwarding` puts `id=... - Temporary MTA failure on
relaying,` or `... - Rejected by next-hop MTA on relaying,` in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.delivery.transports import Handover, SmtpTransport, Submission, resolved
from amavispy.mail.envelope import Client, Connection, Recipient
from amavispy.mail.next_hop import NextHop
from amavispy.policy.settings import Settings
from tests.sink import CLOSE_AFTER, DROP, KEYWORDS, Sink

MAIL = b"From: a@example.org\r\nMessage-ID: <x@example.org>\r\n\r\ntest\r\n"
SETTINGS = Settings()
LOG_ID = "26701-03"
CONNECT = "451 4.5.0 From MTA() during fwd-connect"
DURING = "451 4.5.0 From MTA(*) during"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def transport() -> Iterator[SmtpTransport]:
    transport = SmtpTransport()
    yield transport
    transport.close()


def mail_to(*addresses: str, chunks: tuple[bytes, ...] = (MAIL,), splits: bool = False, **more: object) -> Submission:
    recipients = tuple(Recipient(address) for address in addresses or ("b@example.net",))
    return Submission("a@example.org", recipients, chunks, splits=splits, **more)  # type: ignore[arg-type]


def send(
    transport: SmtpTransport,
    *next_hops: NextHop,
    mail: Submission | None = None,
    settings: Settings = SETTINGS,
    seconds: float = 20.0,
) -> tuple[Handover, ...]:
    return transport.send(next_hops, mail or mail_to(), settings, Deadline.after(seconds), LOG_ID)


def said(handovers: tuple[Handover, ...]) -> list[str]:
    """The replies, with the next hop's name as MTA(*)."""
    return [re.sub(r"(smtp|lmtp):\S+?(?=[),])", "*", str(handover.reply)) for handover in handovers]


# --- the recorded cases


def test_a_mail_arrives_octet_by_octet_and_its_reply_is_passed_on(transport: SmtpTransport) -> None:
    body = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nline\r\n"
    with Sink() as sink:
        (handover,) = send(transport, sink.next_hop, mail=mail_to(chunks=(b"Received: x\r\n", body)))
        assert sink.mails[0].octets == b"Received: x\r\n" + body
        assert (sink.mails[0].sender, sink.mails[0].recipients) == ("a@example.org", ["b@example.net"])
        hop = f"smtp:[127.0.0.1]:{sink.port}"
    assert str(handover.reply) == f"250 2.0.0 from MTA({hop}): 250 2.0.0 Ok: queued"
    assert (handover.next_hop, handover.queued_as) == (hop, "250 2.0.0 Ok: queued")


@pytest.mark.parametrize(
    ("stage", "reply", "expected"),
    [
        ("connect", "451 4.3.0 try later", "{connect} (Negative greeting: {reply}): id={id}"),
        ("connect", "554 5.7.1 no way", "{connect} (Negative greeting: {reply}): id={id}"),
        ("connect", "421 4.3.2 shutting down", "{connect} (Negative greeting: {reply}): id={id}"),
        # amavisd adds ", dt: 0.001 s"; how long it took is for the log, and would make each reply another one.
        ("connect", DROP, "{connect} (No greeting): id={id}"),
        # amavisd tries HELO after a 4xx too, which no server that is busy thanks it for (RFC 5321 3.2 has 5xx only).
        ("ehlo", "451 4.3.0 try later", "{connect} (Negative response to EHLO: {reply}): id={id}"),
        ("ehlo", "421 4.3.2 shutting down", "{connect} (Negative response to EHLO: {reply}): id={id}"),
        ("ehlo", DROP, "{connect} (No response to EHLO): id={id}"),
        ("mail", "451 4.3.0 try later", "451 4.3.0 from MTA(*): {reply}"),
        ("mail", "554 5.7.1 no way", "554 5.7.1 from MTA(*): {reply}"),
        ("mail", "421 4.3.2 shutting down", "421 4.3.2 from MTA(*): {reply}"),
        ("mail", DROP, "{during} fwd-mail-pip (No response to MAIL (pip)): id={id}"),
        ("rcpt", "451 4.3.0 try later", "451 4.3.0 from MTA(*): {reply}"),
        ("rcpt", "554 5.7.1 no way", "554 5.7.1 from MTA(*): {reply}"),
        ("rcpt", "421 4.3.2 shutting down", "421 4.3.2 from MTA(*): {reply}"),
        ("rcpt", DROP, "{during} fwd-rcpt-pip (No response to RCPT (pip) (<b@example.net>)): id={id}"),
        ("data", "451 4.3.0 try later", "451 4.3.0 from MTA(*): {reply}"),
        ("data", "554 5.7.1 no way", "554 5.7.1 from MTA(*): {reply}"),
        ("data", "421 4.3.2 shutting down", "421 4.3.2 from MTA(*): {reply}"),
        # amavisd: "450 4.5.0 from MTA(*): 450 4.5.0 No response to DATA", as if the next hop had said that.
        ("data", DROP, "{during} fwd-data-cmd (No response to DATA): id={id}"),
        ("eod", "451 4.3.0 try later", "451 4.3.0 from MTA(*): {reply}"),
        ("eod", "554 5.7.1 no way", "554 5.7.1 from MTA(*): {reply}"),
        ("eod", "421 4.3.2 shutting down", "421 4.3.2 from MTA(*): {reply}"),
        ("eod", DROP, "451 4.5.0 from MTA(*): No resp. to data-dot"),
        # amavisd: "No resp. to data-dot"; there was one, and an administrator will want to see it.
        ("eod", b"garbage\r\n", "451 4.5.0 from MTA(*): Bad resp. to data-dot: garbage"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told(transport: SmtpTransport, stage: str, reply: object, expected: str) -> None:
    with Sink(replies={stage: reply}) as sink:
        assert said(send(transport, sink.next_hop)) == [
            expected.format(reply=reply, id=LOG_ID, connect=CONNECT, during=DURING)
        ]
        assert sink.mails == []


def test_a_server_that_refuses_ehlo_and_helo_is_no_next_hop(transport: SmtpTransport) -> None:
    with Sink(replies={"ehlo": "554 5.7.1 no way", "helo": "554 5.7.1 no way"}) as sink:
        assert said(send(transport, sink.next_hop)) == [
            f"{CONNECT} (Negative response to HELO: 554 5.7.1 no way): id=26701-03"
        ]


def test_a_server_that_knows_only_helo_gets_the_mail(transport: SmtpTransport) -> None:
    with Sink(replies={"ehlo": "502 5.5.1 what?"}) as sink:
        assert said(send(transport, sink.next_hop)) == ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]
        assert sink.commands[:3] == ["EHLO localhost", "HELO localhost", "MAIL FROM:<a@example.org>"]


def test_nothing_listens(transport: SmtpTransport) -> None:
    with Sink() as sink:
        pass
    (handover,) = send(transport, sink.next_hop)
    assert str(handover.reply) == (
        f"451 4.5.0 From MTA() during fwd-connect "
        f"(All attempts (1) failed connecting to smtp:[127.0.0.1]:{sink.port}): id=26701-03"
    )
    assert (handover.next_hop, handover.queued_as) == ("", "")


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_restarted_next_hop_is_not_noticed(transport: SmtpTransport, rounds: int) -> None:
    # amavisd: 451 "Broken pipe", once for each of its children. The connection is replaced instead.
    with Sink() as sink:
        send(transport, sink.next_hop)
        for _ in range(rounds):
            sink.stop()
            sink.start()
            assert said(send(transport, sink.next_hop)) == ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]
        assert len(sink.mails) == sink.connections == 1 + rounds


def test_one_of_two_refused_for_good_does_not_keep_the_mail_from_the_other(transport: SmtpTransport) -> None:
    with Sink(replies={"rcpt": {"c@example.net": "550 5.1.1 unknown user"}}) as sink:
        assert said(send(transport, sink.next_hop, mail=mail_to("b@example.net", "c@example.net"))) == [
            "250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued",
            "550 5.1.1 from MTA(*): 550 5.1.1 unknown user",
        ]
        assert sink.mails[0].recipients == ["b@example.net"]


def test_one_of_two_refused_for_now_keeps_the_mail_from_both(transport: SmtpTransport) -> None:
    # amavisd: "(Bail out, DATA accepted but tempfailed recips, not an LMTP input)"; it does not say why.
    with Sink(replies={"rcpt": {"c@example.net": "450 4.2.1 busy"}}) as sink:
        assert (
            said(send(transport, sink.next_hop, mail=mail_to("b@example.net", "c@example.net")))
            == [
                f"{DURING} fwd-data-chkpnt (Bail out, one reply for all recipients and not all can have "
                "it now: 450 4.2.1 busy): id=26701-03"
            ]
            * 2
        )
        assert sink.wires == []
        assert sink.connections == 1


def test_one_of_two_refused_for_now_costs_the_other_nothing_when_each_is_answered(transport: SmtpTransport) -> None:
    with Sink(replies={"rcpt": {"c@example.net": "450 4.2.1 busy"}}) as sink:
        assert said(send(transport, sink.next_hop, mail=mail_to("b@example.net", "c@example.net", splits=True))) == [
            "250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued",
            "450 4.2.1 from MTA(*): 450 4.2.1 busy",
        ]


# --- refusals in mixed company


def test_a_final_refusal_is_withheld_while_the_others_have_to_come_back(transport: SmtpTransport) -> None:
    # Otherwise the sender would get a bounce with every attempt.
    with Sink(replies={"rcpt": {"b@example.net": "550 5.1.1 unknown"}, "eod": "451 4.3.0 disk full"}) as sink:
        handovers = send(transport, sink.next_hop, mail=mail_to("b@example.net", "c@example.net"))
        assert [handover.reply.code for handover in handovers] == [451, 451]


def test_a_final_refusal_is_told_where_each_is_answered_even_if_the_session_breaks(transport: SmtpTransport) -> None:
    with Sink(replies={"rcpt": {"b@example.net": "550 5.1.1 unknown"}, "eod": DROP}) as sink:
        handovers = send(transport, sink.next_hop, mail=mail_to("b@example.net", "c@example.net", splits=True))
        assert [handover.reply.code for handover in handovers] == [550, 451]


def test_those_who_are_too_many_get_the_mail_in_another_transaction(transport: SmtpTransport) -> None:
    everybody = [f"r{i}@example.net" for i in range(7)]
    with Sink() as sink:
        sink.replies["rcpt"] = lambda _: (
            "452 4.5.3 Error: too many recipients" if sink.commands[-1].count("RCPT") and _count(sink) > 3 else "250 ok"
        )
        handovers = send(transport, sink.next_hop, mail=mail_to(*everybody))
        assert [mail.recipients for mail in sink.mails] == [everybody[:3], everybody[3:6], everybody[6:]]
        assert {handover.reply.code for handover in handovers} == {250}
        assert sink.connections == 1


def _count(sink: Sink) -> int:
    """RCPT commands since the last MAIL."""
    verbs = [command[:4] for command in sink.commands]
    return verbs[len(verbs) - verbs[::-1].index("MAIL") :].count("RCPT")


def test_when_even_the_first_is_too_many_the_mail_waits(transport: SmtpTransport) -> None:
    with Sink(replies={"rcpt": "452 too many"}) as sink:
        assert said(send(transport, sink.next_hop)) == ["452 4.5.3 from MTA(*): 452 too many"]


def test_a_full_mailbox_is_no_reason_to_try_again_at_once(transport: SmtpTransport) -> None:
    with Sink(replies={"rcpt": {"c@example.net": "452 4.2.2 mailbox full"}}) as sink:
        handovers = send(transport, sink.next_hop, mail=mail_to("b@example.net", "c@example.net"))
        assert [handover.reply.code for handover in handovers] == [451, 451]
        assert sink.mails == []


def test_a_connection_on_which_all_were_refused_is_reset_and_used_again(transport: SmtpTransport) -> None:
    with Sink(replies={"rcpt": ["550 5.1.1 unknown", "250 ok"]}) as sink:
        assert said(send(transport, sink.next_hop)) == ["550 5.1.1 from MTA(*): 550 5.1.1 unknown"]
        assert said(send(transport, sink.next_hop)) == ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]
        assert sink.connections == 1
        assert "RSET" in sink.commands


# --- LMTP, sockets, parameters


def test_lmtp_has_a_reply_for_each_recipient(transport: SmtpTransport) -> None:
    finals = {"b@example.net": "250 2.0.0 <b> Saved", "c@example.net": "452 4.2.2 <c> full", "d@example.net": b"x\r\n"}
    with Sink(lmtp=True, replies={"eod": finals}) as sink:
        assert said(send(transport, sink.next_hop, mail=mail_to(*finals, splits=True))) == [
            "250 2.0.0 from MTA(*): 250 2.0.0 <b> Saved",
            "452 4.2.2 from MTA(*): 452 4.2.2 <c> full",
            "451 4.5.0 from MTA(*): Bad resp. to data-dot: x",
        ]
        assert sink.commands[0] == "LHLO localhost"


def test_a_unix_socket_is_a_next_hop(transport: SmtpTransport, tmp_path: Path) -> None:
    with Sink(path=tmp_path / "lmtp.sock", lmtp=True) as sink:
        (handover,) = send(transport, sink.next_hop)
        assert str(handover.reply) == f"250 2.0.0 from MTA(lmtp:{sink.path}): 250 2.0.0 Ok: queued"
        assert len(sink.mails) == 1


def test_ipv6_and_host_names_are_next_hops(transport: SmtpTransport) -> None:
    with Sink(host="::1") as sink:
        (handover,) = send(transport, sink.next_hop)
        assert handover.next_hop == f"smtp:[::1]:{sink.port}"
    with Sink() as sink:
        (handover,) = send(transport, NextHop("smtp", "localhost", sink.port))
        assert handover.reply.code == 250


def test_the_source_address_can_be_chosen() -> None:
    transport = SmtpTransport(bind_address="127.0.0.9", caches=False)
    peers: list[str] = []
    with Sink() as sink:
        sink.replies["connect"] = lambda _: peers.append(sink.peers()[-1]) or "220 ok"  # type: ignore[func-returns-value]
        assert said(send(transport, sink.next_hop)) == ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]
    assert peers == ["127.0.0.9"]


def test_the_client_s_parameters_travel_on(transport: SmtpTransport) -> None:
    recipient = Recipient("b@example.net", frozenset({"FAILURE"}), "rfc822;B@example.net")
    mail = Submission(
        "a@example.org", (recipient,), (MAIL,), Client("192.0.2.1"), ret="FULL", envid="X1", body="8BITMIME"
    )
    with Sink(keywords=(*KEYWORDS, "XFORWARD ADDR")) as sink:
        send(transport, sink.next_hop, mail=mail)
        assert sink.commands[1:4] == [
            "XFORWARD ADDR=192.0.2.1",
            f"MAIL FROM:<a@example.org> SIZE={len(MAIL)} BODY=8BITMIME RET=FULL ENVID=X1",
            "RCPT TO:<b@example.net> NOTIFY=FAILURE ORCPT=rfc822;B@example.net",
        ]


def test_8bit_content_goes_only_where_it_is_taken(transport: SmtpTransport) -> None:
    umlauts = mail_to(chunks=("Subject: x\r\n\r\nä\r\n".encode(),))
    with Sink() as sink:
        send(transport, sink.next_hop, mail=umlauts)
        assert "BODY=8BITMIME" in sink.mails[0].commands[0]
    with Sink(keywords=("PIPELINING",)) as sink:
        assert said(send(transport, sink.next_hop, mail=umlauts)) == [
            "550 5.6.3 Conversion to 7BIT required but not supported"
        ]
        ascii_only = mail_to(body="8BITMIME")
        assert said(send(transport, sink.next_hop, mail=ascii_only)) == ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]


@pytest.mark.parametrize(
    ("reply", "queued_as"),
    [
        ("250 2.0.0 Ok: queued as 553261D1CB0", "553261D1CB0"),
        ("250 2.0.0 from MTA(smtp:[::1]:10025): 250 2.0.0 Ok: queued as 4XYZ", "4XYZ"),
        ("250 OK id=1abcDE-000000-00", "250 OK id=1abcDE-000000-00"),
    ],
)
def test_the_next_hop_s_queue_id_is_found(transport: SmtpTransport, reply: str, queued_as: str) -> None:
    with Sink(replies={"eod": reply}) as sink:
        assert send(transport, sink.next_hop)[0].queued_as == queued_as


def test_a_refusal_has_no_queue_id(transport: SmtpTransport) -> None:
    with Sink(replies={"eod": "550 5.7.1 was queued as X"}) as sink:
        assert send(transport, sink.next_hop)[0].queued_as == ""


def test_a_reply_of_many_lines_is_passed_on_as_one(transport: SmtpTransport) -> None:
    with Sink(replies={"eod": "250-2.0.0 Ok\n250 2.0.0 queued as X1"}) as sink:
        (handover,) = send(transport, sink.next_hop)
        assert str(handover.reply).endswith(": 250 2.0.0 Ok queued as X1")
        assert handover.queued_as == "X1"


# --- next hops


def test_another_next_hop_takes_over_when_one_is_dead_or_unwilling(transport: SmtpTransport) -> None:
    with Sink() as dead:
        pass
    with Sink(replies={"connect": "421 4.3.2 no"}) as unwilling, Sink() as alive:
        hops = (dead.next_hop, unwilling.next_hop, alive.next_hop)
        for _ in range(8):
            assert send(transport, *hops)[0].next_hop == str(alive.next_hop)
        assert len(alive.mails) == 8
        assert unwilling.connections <= 1  # remembered, and tried last


def test_all_next_hops_dead_are_told_together(transport: SmtpTransport) -> None:
    with Sink() as one, Sink() as other:
        pass
    (handover,) = send(transport, one.next_hop, other.next_hop)
    assert "All attempts (2) failed connecting to smtp:[127.0.0.1]:" in handover.reply.text
    assert str(one.port) in handover.reply.text
    assert str(other.port) in handover.reply.text


def test_several_next_hops_share_the_work(transport: SmtpTransport) -> None:
    with Sink() as one, Sink() as other:
        for _ in range(40):
            send(transport, one.next_hop, other.next_hop)
        assert one.mails
        assert other.mails
        assert len(one.mails) + len(other.mails) == 40


def test_stars_stand_for_the_client_s_host_and_the_port_after_ours() -> None:
    came = Connection("10024", "192.0.2.1", 4711, "192.0.2.2", 10024)
    assert resolved((NextHop.parse("smtp:*:*"),), came) == (NextHop("smtp", "192.0.2.1", 10025),)
    assert resolved((NextHop("lmtp", "*", 24),), came) == (NextHop("lmtp", "192.0.2.1", 24),)
    fixed = (NextHop("smtp", "192.0.2.9", 25), NextHop("lmtp", path="/x"))
    assert resolved(fixed, came) is fixed


def test_stars_mean_nothing_when_the_client_came_by_a_unix_socket(transport: SmtpTransport) -> None:
    hops = resolved((NextHop.parse("smtp:*:*"),), Connection("/sock"))
    assert said(send(transport, *hops)) == [f"{CONNECT} (All attempts (1) failed connecting to *): id=26701-03"]


# --- kept connections


def test_a_connection_is_kept_and_a_mail_takes_two_writes() -> None:
    transport = SmtpTransport()
    with Sink() as sink:
        send(transport, sink.next_hop)
        before = len(sink.reads)
        send(transport, sink.next_hop)
        assert sink.connections == 1
        assert sink.reads[before:] == [
            f"MAIL FROM:<a@example.org> SIZE={len(MAIL)}\r\nRCPT TO:<b@example.net>\r\nDATA\r\n".encode(),
            MAIL + b".\r\n",
        ]
        transport.close()


def test_without_caching_every_mail_has_its_own_connection_and_a_goodbye() -> None:
    transport = SmtpTransport(caches=False)
    with Sink() as sink:
        send(transport, sink.next_hop)
        send(transport, sink.next_hop)
        sink.wait_for(lambda: sink.commands.count("QUIT") == 2)
        assert sink.connections == 2


@pytest.mark.parametrize(("steps", "connections"), [((18.0,), 1), ((18.1,), 2), ((15.0,) * 4, 2), ((15.0,) * 3, 1)])
def test_a_connection_is_not_kept_for_ever(steps: tuple[float, ...], connections: int) -> None:
    clock = Clock()
    transport = SmtpTransport(clock=clock)
    with Sink() as sink:
        send(transport, sink.next_hop)
        for step in steps:
            clock.now += step
            send(transport, sink.next_hop)
        assert sink.connections == connections
        transport.close()


def test_idle_connections_are_closed_when_there_is_time_for_it() -> None:
    clock = Clock()
    transport = SmtpTransport(clock=clock)
    with Sink() as sink:
        send(transport, sink.next_hop)
        transport.close_idle()
        assert "QUIT" not in sink.commands
        clock.now += 31.0
        transport.close_idle()
        sink.wait_for(lambda: sink.commands[-1] == "QUIT")


def test_no_more_than_eight_connections_are_kept() -> None:
    transport = SmtpTransport()
    sinks = [Sink() for _ in range(9)]
    for sink in sinks:
        sink.start()
        send(transport, sink.next_hop)
    sinks[0].wait_for(lambda: sinks[0].commands[-1] == "QUIT")
    assert all(sink.commands[-1] == "DATA" for sink in sinks[1:])
    transport.close()
    for sink in sinks:
        sink.stop()


def test_banks_with_other_names_do_not_share_a_connection(transport: SmtpTransport) -> None:
    with Sink() as sink:
        send(transport, sink.next_hop)
        send(transport, sink.next_hop, settings=Settings(localhost_name="other.example"))
        assert [command for command in sink.commands if command.startswith("EHLO")] == [
            "EHLO localhost",
            "EHLO other.example",
        ]


def test_a_server_that_said_421_meanwhile_is_greeted_anew(transport: SmtpTransport) -> None:
    with Sink(replies={"mail": ["250 ok", CLOSE_AFTER + "421 4.4.2 timeout exceeded", "250 ok"]}) as sink:
        send(transport, sink.next_hop)
        assert said(send(transport, sink.next_hop)) == ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]
        assert sink.connections == 2


def test_a_server_that_says_421_to_everybody_is_asked_only_once_more(transport: SmtpTransport) -> None:
    with Sink(replies={"mail": ["250 ok", "421 4.3.2 overloaded"]}) as sink:
        send(transport, sink.next_hop)
        assert said(send(transport, sink.next_hop)) == ["421 4.3.2 from MTA(*): 421 4.3.2 overloaded"]
        assert sink.connections == 2
