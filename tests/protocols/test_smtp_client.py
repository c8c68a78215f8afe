"""The client session without a network: every dialogue is heard whole and octet by octet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.protocols.smtp_client import GROUP_SIZE, SmtpClient
from amavispy.protocols.smtp_client_errand import Errand, Want

Hears = Callable[[SmtpClient, str], None]

FULL = "250-mx\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250-SMTPUTF8\n250 DSN"
ONE = Envelope("a@example.org", (Recipient("b@example.net"),), size=126)
TWO = Envelope("a@example.org", (Recipient("b@example.net"), Recipient("c@example.net")), size=126)


def octets(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n"


def at_once(client: SmtpClient, text: str) -> None:
    client.receive(octets(text))


def octet_by_octet(client: SmtpClient, text: str) -> None:
    whole = octets(text)
    for i in range(len(whole)):
        client.receive(whole[i : i + 1])


@pytest.fixture(params=[at_once, octet_by_octet])
def hears(request: pytest.FixtureRequest) -> Hears:
    way: Hears = request.param
    return way


def greeted(hears: Hears, ehlo: str = FULL, **how: object) -> SmtpClient:
    client = SmtpClient("client.example", **how)  # type: ignore[arg-type]
    hears(client, "220 mx ESMTP")
    client.take_output()
    hears(client, ehlo)
    assert client.want is Want.READY
    return client


def replies(client: SmtpClient) -> list[str | None]:
    return [None if answer is None else str(answer.reply) for answer in client.answers]


def test_it_says_ehlo_after_the_greeting_and_is_ready_after_the_reply(hears: Hears) -> None:
    client = SmtpClient("client.example")
    assert client.take_output() == b""
    hears(client, "220-mx\n220 ESMTP")
    assert client.take_output() == b"EHLO client.example\r\n"
    hears(client, FULL)
    assert client.want is Want.READY
    assert client.extensions == {"PIPELINING": "", "SIZE": "1000", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""}
    assert client.is_reusable


def test_a_server_that_knows_no_ehlo_is_greeted_with_helo(hears: Hears) -> None:
    client = SmtpClient("client.example")
    hears(client, "220 mx")
    client.take_output()
    hears(client, "502 5.5.1 what?")
    assert client.take_output() == b"HELO client.example\r\n"
    hears(client, "250 mx")
    assert client.is_reusable
    assert client.extensions == {}


def test_lmtp_says_lhlo_and_has_nothing_to_fall_back_to(hears: Hears) -> None:
    client = SmtpClient("client.example", is_lmtp=True)
    hears(client, "220 mx LMTP")
    assert client.take_output() == b"LHLO client.example\r\n"
    hears(client, "500 what?")
    assert client.want is Want.FAILED
    assert client.failure.text == "Negative response to LHLO: 500 what?"


def test_a_pipelining_server_gets_the_whole_envelope_in_one_write(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(TWO))
    assert client.take_output() == (
        b"MAIL FROM:<a@example.org> SIZE=126\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
    )
    hears(client, "250 2.1.0 Ok\n250 2.1.5 Ok\n250 2.1.5 Ok\n354 go")
    assert client.want is Want.CONTENT
    client.content_sent()
    hears(client, "250 2.0.0 Ok: queued as ABC")
    assert replies(client) == ["250 2.0.0 Ok: queued as ABC"] * 2
    assert client.is_reusable


def test_a_server_without_pipelining_gets_one_command_at_a_time(hears: Hears) -> None:
    client = greeted(hears, "250-mx\n250 SIZE")
    client.begin(Errand(TWO))
    said = []
    for reply in ("250 ok", "250 ok", "250 ok", "354 go"):
        said.append(client.take_output())
        hears(client, reply)
    assert said == [
        b"MAIL FROM:<a@example.org> SIZE=126\r\n",
        b"RCPT TO:<b@example.net>\r\n",
        b"RCPT TO:<c@example.net>\r\n",
        b"DATA\r\n",
    ]
    assert client.want is Want.CONTENT


def test_without_pipelining_nobody_accepted_means_no_data(hears: Hears) -> None:
    client = greeted(hears, "250 mx")
    client.begin(Errand(ONE))
    hears(client, "250 ok")
    client.take_output()
    hears(client, "550 5.1.1 unknown user")
    assert (client.want, client.take_output()) == (Want.READY, b"")
    assert replies(client) == ["550 5.1.1 unknown user"]


def test_an_unfinished_transaction_is_reset_before_the_next(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(ONE))
    client.take_output()
    hears(client, "250 ok\n550 no\n554 5.5.1 no valid recipients")
    assert client.is_reusable
    client.begin(Errand(ONE))
    assert client.take_output().startswith(b"RSET\r\nMAIL FROM:<a@example.org>")
    hears(client, "250 reset\n250 ok\n250 ok\n354 go")
    client.content_sent()
    hears(client, "250 taken")
    client.begin(Errand(ONE))
    assert client.take_output().startswith(b"MAIL FROM")


def test_many_recipients_are_said_in_groups_whose_replies_fit_the_buffers(hears: Hears) -> None:
    client = greeted(at_once)
    recipients = tuple(Recipient(f"r{i}@example.net") for i in range(GROUP_SIZE))
    client.begin(Errand(Envelope("a@example.org", recipients)))
    first = client.take_output()
    assert first.count(b"\r\n") == GROUP_SIZE
    hears(client, "\n".join(["250 ok"] * GROUP_SIZE))
    assert client.take_output() == f"RCPT TO:<r{GROUP_SIZE - 1}@example.net>\r\nDATA\r\n".encode()


def test_a_refused_mail_is_the_answer_for_everybody(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(TWO))
    hears(client, "421 4.3.2 shutting down\n503 5.5.1 no\n503 5.5.1 no\n503 5.5.1 no")
    assert replies(client) == ["421 4.3.2 shutting down"] * 2
    assert not client.is_reusable


def test_a_connection_that_ends_after_the_answer_changes_nothing() -> None:
    client = greeted(at_once)
    client.begin(Errand(ONE))
    at_once(client, "421 4.3.2 shutting down")
    client.receive(b"")
    assert (client.want, replies(client)) == (Want.READY, ["421 4.3.2 shutting down"])
    assert not client.is_reusable


@pytest.mark.parametrize(
    ("heard", "stage", "text"),
    [
        ("", "fwd-mail-pip", "No response to MAIL (pip)"),
        ("250 ok", "fwd-rcpt-pip", "No response to RCPT (pip) (<b@example.net>)"),
        ("250 ok\n250 ok", "fwd-rcpt-pip", "No response to RCPT (pip) (<c@example.net>)"),
        ("250 ok\n250 ok\n250 ok", "fwd-data-cmd", "No response to DATA"),
    ],
)
def test_the_end_of_the_connection_is_a_failure_of_the_stage(heard: str, stage: str, text: str) -> None:
    client = greeted(at_once)
    client.begin(Errand(TWO))
    if heard:
        at_once(client, heard)
    client.receive(b"")
    assert client.want is Want.FAILED
    assert (client.failure.stage, client.failure.text) == (stage, text)


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("hello", "Bad response to MAIL (pip): hello"),
        ("999 hello", "Bad response to MAIL (pip): 999 hello"),
        ("2500 hello", "Bad response to MAIL (pip): 2500 hello"),
        ("354 too early", "Bad response to MAIL (pip): 354 too early"),
        ("250-a\n251 b", "Bad response to MAIL (pip): 251 b"),
        ("\x1b[31m\udcff", "Bad response to MAIL (pip): \\x1B[31m\\xff"),
        ("250 " + "x" * 2048, "Bad response to MAIL (pip): a line of more than 2048 octets"),
        ("\n".join(["250-x"] * 101), "Bad response to MAIL (pip): a reply of more than 100 lines"),
    ],
)
def test_garbage_is_a_failure_of_the_stage(hears: Hears, heard: str, text: str) -> None:
    client = greeted(at_once)
    client.begin(Errand(ONE))
    hears(client, heard)
    assert client.want is Want.FAILED
    assert client.failure.text == text


@pytest.mark.parametrize(
    ("said", "expected"),
    [(b"", "451 4.5.0 No resp. to data-dot"), (b"what?\r\n", "451 4.5.0 Bad resp. to data-dot: what?")],
)
def test_no_reply_to_the_final_dot_is_a_451_since_the_server_may_have_the_mail(said: bytes, expected: str) -> None:
    client = greeted(at_once)
    client.begin(Errand(ONE))
    at_once(client, "250 ok\n250 ok\n354 go")
    client.content_sent()
    client.receive(said)
    assert (client.want, replies(client)) == (Want.READY, [expected])
    assert not client.is_reusable


def test_a_reply_before_its_time_is_never_taken_for_the_one_to_the_final_dot() -> None:
    client = greeted(at_once)
    client.begin(Errand(ONE))
    at_once(client, "250 ok\n250 ok\n354 go\n250 2.0.0 queued")
    assert client.want is Want.FAILED
    assert client.failure.text == "Text behind the reply to DATA"


def test_a_250_amid_the_content_is_no_acceptance(hears: Hears) -> None:
    client = greeted(at_once)
    client.begin(Errand(ONE))
    at_once(client, "250 ok\n250 ok\n354 go")
    hears(client, "250 queued")
    assert client.want is Want.FAILED
    assert replies(client) == [None]


def test_a_refusal_amid_the_content_is_an_answer(hears: Hears) -> None:
    client = greeted(at_once)
    client.begin(Errand(ONE))
    at_once(client, "250 ok\n250 ok\n354 go")
    hears(client, "552 5.3.4 too big")
    assert (client.want, replies(client)) == (Want.READY, ["552 5.3.4 too big"])
    assert not client.is_reusable


@pytest.mark.parametrize(
    ("dialogue", "expected"),
    [
        (["451 later", "503 no", "503 no"], "451 4.1.0 later"),
        (["250 ok", "550 no", "554 no"], "550 5.1.0 no"),
        (["250 ok", "452 full", "554 no"], "452 4.5.3 full"),
        (["250 ok", "250 ok", "451 later"], "451 4.5.0 later"),
        (["250 ok", "250 ok", "354 go", "451 later"], "451 4.6.0 later"),
        (["250 ok", "250 ok", "354 go", "250 Ok: queued as 1"], "250 2.6.0 Ok: queued as 1"),
        (["250 ok", "250 ok", "354 go", "550 4.1.1 class"], "550 5.6.0 4.1.1 class"),
    ],
)
def test_a_reply_without_an_enhanced_code_gets_the_stage_s_own(
    hears: Hears, dialogue: list[str], expected: str
) -> None:
    client = greeted(hears)
    client.begin(Errand(ONE))
    hears(client, "\n".join(dialogue[:3]))
    if client.want is Want.CONTENT:
        client.content_sent()
        hears(client, dialogue[3])
    assert replies(client) == [expected]
    assert client.answers[0]
    assert client.answers[0].said in dialogue


def test_lmtp_has_a_final_reply_for_each_accepted_recipient(hears: Hears) -> None:
    client = greeted(hears, is_lmtp=True)
    three = Envelope("a@example.org", tuple(Recipient(f"{x}@example.net") for x in "bcd"))
    client.begin(Errand(three))
    hears(client, "250 ok\n250 ok\n550 5.1.1 unknown\n250 ok\n354 go")
    client.content_sent()
    hears(client, "250 2.0.0 first")
    assert client.want is Want.READ
    hears(client, "452 4.2.2 mailbox full")
    assert replies(client) == ["250 2.0.0 first", "550 5.1.1 unknown", "452 4.2.2 mailbox full"]


def test_lmtp_that_dies_amid_the_final_replies_leaves_the_rest_in_doubt() -> None:
    client = greeted(at_once, is_lmtp=True)
    client.begin(Errand(TWO))
    at_once(client, "250 ok\n250 ok\n250 ok\n354 go")
    client.content_sent()
    at_once(client, "250 2.0.0 first")
    client.receive(b"")
    assert replies(client) == ["250 2.0.0 first", "451 4.5.0 No resp. to data-dot"]


# --- all or nobody


def test_where_all_are_needed_one_that_must_wait_keeps_the_mail_from_all(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(TWO, needs_all=True))
    hears(client, "250 ok\n250 ok\n450 4.2.1 busy\n354 go")
    assert client.want is Want.FAILED
    assert client.failure.stage == "fwd-data-chkpnt"
    assert client.failure.text.endswith("450 4.2.1 busy")
    assert not client.failure.is_broken


def test_where_all_are_needed_a_final_refusal_keeps_nobody_else_from_the_mail(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(TWO, needs_all=True))
    hears(client, "250 ok\n250 ok\n550 5.1.1 unknown\n354 go")
    assert client.want is Want.CONTENT


def test_a_final_refusal_is_withheld_when_the_rest_must_come_back(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(TWO, needs_all=True))
    hears(client, "250 ok\n250 ok\n550 5.1.1 unknown\n354 go")
    client.content_sent()
    hears(client, "451 4.3.0 disk full")
    assert client.want is Want.FAILED
    assert client.failure.text.endswith("451 4.3.0 disk full")


def test_where_each_is_answered_the_others_get_the_mail(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(TWO, needs_all=False))
    hears(client, "250 ok\n250 ok\n450 4.2.1 busy\n354 go")
    client.content_sent()
    hears(client, "250 2.0.0 taken")
    assert replies(client) == ["250 2.0.0 taken", "450 4.2.1 busy"]


@pytest.mark.parametrize(
    ("refusal", "left_over"), [("452 4.5.3 Too many", [1]), ("452 Too many", [1]), ("452 4.2.2 full", [])]
)
def test_too_many_recipients_are_left_over_for_another_transaction(refusal: str, left_over: list[int]) -> None:
    client = greeted(at_once)
    client.begin(Errand(TWO, needs_all=False))
    at_once(client, f"250 ok\n250 ok\n{refusal}\n354 go")
    client.content_sent()
    at_once(client, "250 2.0.0 taken")
    assert client.left_over == left_over


def test_too_many_are_no_reason_to_bail_out() -> None:
    client = greeted(at_once)
    client.begin(Errand(TWO, needs_all=True))
    at_once(client, "250 ok\n250 ok\n452 4.5.3 Too many\n354 go")
    assert client.want is Want.CONTENT


def test_nobody_is_left_over_when_nobody_got_the_mail() -> None:
    client = greeted(at_once)
    client.begin(Errand(TWO))
    at_once(client, "250 ok\n452 4.5.3 Too many\n452 4.5.3 Too many\n503 no")
    assert client.left_over == []
    assert replies(client) == ["452 4.5.3 Too many"] * 2


def test_a_go_ahead_for_nobody_ends_the_connection(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(ONE))
    hears(client, "250 ok\n550 5.1.1 unknown\n354 go")
    assert (client.want, replies(client)) == (Want.READY, ["550 5.1.1 unknown"])
    assert not client.is_reusable


# --- what the server can and cannot do


def test_parameters_are_said_only_where_they_are_offered(hears: Hears) -> None:
    envelope = Envelope(
        "a@example.org",
        (Recipient("b@example.net", frozenset({"DELAY", "SUCCESS"}), "rfc822;b+2Bx@example.net"),),
        size=5,
        body="8BITMIME",
        ret="HDRS",
        envid="QQ314159",
    )
    full = greeted(hears)
    full.begin(Errand(envelope, is_8bit=True))
    assert full.take_output() == (
        b"MAIL FROM:<a@example.org> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=QQ314159\r\n"
        b"RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@example.net\r\nDATA\r\n"
    )
    secretive = greeted(hears)
    secretive.begin(Errand(envelope, with_dsn=False))
    assert secretive.take_output() == b"MAIL FROM:<a@example.org> SIZE=5\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    plain = greeted(hears, "250 mx")
    plain.begin(Errand(envelope))
    assert plain.take_output() == b"MAIL FROM:<a@example.org>\r\n"


def test_8bit_content_is_not_sent_to_a_server_that_does_not_take_it(hears: Hears) -> None:
    client = greeted(hears, "250-mx\n250 PIPELINING")
    client.begin(Errand(TWO, is_8bit=True))
    assert (client.want, client.take_output()) == (Want.READY, b"")
    assert replies(client) == ["550 5.6.3 Conversion to 7BIT required but not supported"] * 2
    assert client.is_reusable


def test_addresses_beyond_ascii_need_a_server_that_takes_them(hears: Hears) -> None:
    mixed = Envelope("a@example.org", (Recipient("jörg@example.net"), Recipient("b@example.net")))
    old = greeted(hears, "250-mx\n250 PIPELINING")
    old.begin(Errand(mixed))
    assert old.take_output() == b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    assert replies(old) == ["553 5.6.7 Non-ASCII addresses not permitted for recipient", None]
    old = greeted(hears, "250-mx\n250 PIPELINING")
    old.begin(Errand(Envelope("jörg@example.net", (Recipient("b@example.net"),))))
    assert replies(old) == ["550 5.6.7 Non-ASCII addresses not permitted for sender"]
    new = greeted(hears)
    new.begin(Errand(mixed))
    assert new.take_output().startswith("MAIL FROM:<a@example.org> SMTPUTF8\r\nRCPT TO:<jörg@example.net>\r\n".encode())
    hears(new, "550 5.1.1 <jörg@example.net>: nicht hier\n503 no\n503 no\n503 no")
    assert replies(new)[0] == "550 5.1.1 <jörg@example.net>: nicht hier"


def test_a_reply_beyond_ascii_is_escaped_when_the_mail_is_ascii(hears: Hears) -> None:
    client = greeted(hears)
    client.begin(Errand(ONE))
    hears(client, "550 5.1.1 jörg\x00\n503 no\n503 no")
    assert replies(client) == ["550 5.1.1 j\\xc3\\xb6rg\\x00"]


@pytest.mark.parametrize(
    "bad", ["b@example.net>\r\nRCPT TO:<c@example.net", "b@x> NOTIFY=NEVER", "b\0@x", "b\n@x", "b c@x"]
)
def test_nothing_in_an_address_can_become_a_command(bad: str) -> None:
    client = greeted(at_once)
    client.begin(Errand(Envelope("a@example.org", (Recipient(bad),))))
    assert (client.take_output(), replies(client)) == (b"", ["553 5.1.3 Malformed recipient address"])
    client.begin(Errand(Envelope(bad, (Recipient("b@example.net"),))))
    assert (client.take_output(), replies(client)) == (b"", ["553 5.1.7 Malformed sender address"])


@pytest.mark.parametrize("address", ["", '"a b"@example.org', '"a\\">"@x', "postmaster", "a+b=c@[IPv6:::1]"])
def test_odd_but_lawful_addresses_are_said_as_they_stand(address: str) -> None:
    client = greeted(at_once)
    client.begin(Errand(Envelope(address, (Recipient("b@example.net"),))))
    assert client.take_output().startswith(f"MAIL FROM:<{address}>\r\n".encode())


def test_xforward_is_said_in_the_same_write_and_its_refusal_costs_nothing(hears: Hears) -> None:
    who = Client("192.0.2.1", 4711, "client.example", "helo.example", "ESMTP", "4XYZ", "REMOTE")
    client = greeted(hears, "250-mx\n250-PIPELINING\n250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
    client.begin(Errand(Envelope("a@example.org", (Recipient("b@example.net"),), who)))
    assert client.take_output().startswith(
        b"XFORWARD NAME=client.example ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=helo.example SOURCE=REMOTE "
        b"IDENT=4XYZ\r\nMAIL FROM:<a@example.org>\r\n"
    )
    hears(client, "550 5.7.0 not you\n250 ok\n250 ok\n354 go")
    assert client.want is Want.CONTENT


# --- TLS


def test_tls_is_asked_for_where_it_is_offered_and_the_server_greeted_anew(hears: Hears) -> None:
    client = SmtpClient("client.example", tls="may")
    hears(client, "220 mx")
    client.take_output()
    hears(client, "250-mx\n250-PIPELINING\n250 STARTTLS")
    assert client.take_output() == b"STARTTLS\r\n"
    hears(client, "220 go")
    assert client.want is Want.HANDSHAKE
    client.tls_started()
    assert client.take_output() == b"EHLO client.example\r\n"
    hears(client, "250-mx\n250 SIZE")
    assert (client.want, client.extensions) == (Want.READY, {"SIZE": ""})


def test_what_stands_behind_the_reply_to_starttls_is_not_trusted() -> None:
    client = SmtpClient("client.example", tls="may")
    at_once(client, "220 mx")
    at_once(client, "250-mx\n250 STARTTLS")
    at_once(client, "220 go\n250 injected")
    assert client.want is Want.FAILED


@pytest.mark.parametrize(("tls", "want"), [("may", Want.READY), ("encrypt", Want.FAILED), ("none", Want.READY)])
def test_a_server_without_tls_is_good_enough_unless_it_is_required(hears: Hears, tls: str, want: Want) -> None:
    client = SmtpClient("client.example", tls=tls)
    hears(client, "220 mx")
    hears(client, "250 mx")
    assert client.want is want


@pytest.mark.parametrize(("tls", "want"), [("may", Want.READY), ("encrypt", Want.FAILED)])
def test_a_refused_starttls_is_good_enough_unless_it_is_required(hears: Hears, tls: str, want: Want) -> None:
    client = SmtpClient("client.example", tls=tls)
    hears(client, "220 mx")
    hears(client, "250-mx\n250 STARTTLS")
    hears(client, "454 4.7.0 not now")
    assert client.want is want
