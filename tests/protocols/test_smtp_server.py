"""The engine's own promises: order of calls, limits, what travels, and that no octets whatever make it raise."""

import marshal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amavispy.mail.envelope import Client
from amavispy.mail.reply import Reply
from amavispy.protocols.events import Chunk, Data, EndOfMail, Event, Mail, Rcpt, Signal
from amavispy.protocols.smtp_input import LINE_LIMIT
from amavispy.protocols.smtp_server import SmtpServer
from tests.protocols.dialogue import PROFILE, QUEUED, Caller, Case

MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<b@example.net>\r\n"
TLS = replace(PROFILE, tls="may", keywords=(*PROFILE.keywords, "STARTTLS"))
NO = Reply(450, "4.7.1", "Not now")


def engine_after(octets: bytes, **options) -> SmtpServer:
    engine = SmtpServer(options.pop("profile", PROFILE), **options)
    engine.receive(octets)
    return engine


def events_of(engine: SmtpServer) -> list[Event]:
    """All events until octets are wanted; everything is accepted."""
    events: list[Event] = []
    while (event := engine.next_event()) not in (Signal.NEED_DATA, Signal.CLOSED, Signal.TRANSACTION_STARTS):
        events.append(event)
        if isinstance(event, Mail | Rcpt | Data):
            engine.accept()
        elif isinstance(event, EndOfMail):
            engine.answer([event.fault or QUEUED])
    return [*events, event]


def test_an_event_wants_its_answer_before_the_next_one():
    engine = engine_after(b"EHLO x\r\n" + MAIL)
    engine.next_event()
    with pytest.raises(RuntimeError, match="has not been answered"):
        engine.next_event()


@pytest.mark.parametrize("call", ["accept", "refuse", "answer", "tls_started"])
def test_an_answer_nobody_asked_for_is_a_bug_of_the_caller(call: str):
    arguments = {"refuse": [NO], "answer": [[NO]]}.get(call, [])
    engine = engine_after(b"EHLO x\r\n")
    engine.next_event()
    with pytest.raises(RuntimeError):
        getattr(engine, call)(*arguments)


def test_a_mail_is_answered_not_accepted():
    engine = engine_after(b"EHLO x\r\n" + MAIL)
    engine.next_event()
    with pytest.raises(RuntimeError, match="does not want this answer"):
        engine.answer([QUEUED])
    engine.accept()


@pytest.mark.parametrize(("hello", "count"), [(b"EHLO", 2), (b"LHLO", 3), (b"LHLO", 0)])
def test_the_number_of_replies_must_fit(hello: bytes, count: int):
    engine = engine_after(hello + b" x\r\n" + MAIL + RCPT + RCPT + b"DATA\r\n.\r\n")
    while not isinstance(engine.next_event(), EndOfMail):
        engine.accept()
    with pytest.raises(ValueError, match="replies for"):
        engine.answer([QUEUED] * count)


def test_data_carries_the_whole_envelope():
    octets = b"XFORWARD ADDR=203.0.113.7\r\nMAIL FROM:<a@x> SIZE=5 BODY=8bitmime SMTPUTF8 RET=full ENVID=q+2B\r\n"
    data = events_of(engine_after(b"EHLO x\r\n" + octets + RCPT + b"DATA\r\n"))[2]
    assert isinstance(data, Data)
    envelope = data.envelope
    assert envelope.client == Client(address="203.0.113.7")
    assert (envelope.sender, envelope.size, envelope.body, envelope.smtputf8) == ("a@x", 5, "8BITMIME", True)
    assert (envelope.ret, envelope.envid, envelope.auth) == ("FULL", "q+2B", "")
    assert [r.address for r in envelope.recipients] == ["b@example.net"]


@pytest.mark.parametrize("moment", [Mail, Data])
@pytest.mark.parametrize("verb", [b"DATA\r\n123456\r\n.\r\n", b"BDAT 8 LAST\r\n123456\r\n"])
def test_the_caller_may_set_another_size_limit(moment: type, verb: bytes):
    engine = engine_after(b"EHLO x\r\n" + MAIL + RCPT + verb, profile=replace(PROFILE, size_limit=1000))
    while not isinstance(event := engine.next_event(), EndOfMail):
        if isinstance(event, Mail | Rcpt | Data):
            engine.accept(size_limit=7 if isinstance(event, moment) else None)
    assert event.fault == Reply(552, "5.3.4", "Message size (8 B) exceeds size limit")


def test_no_limit_of_the_caller_lifts_the_profile_s():
    engine = engine_after(
        b"EHLO x\r\n" + MAIL + RCPT + b"DATA\r\n123456\r\n.\r\n", profile=replace(PROFILE, size_limit=7)
    )
    while not isinstance(event := engine.next_event(), EndOfMail):
        if isinstance(event, Mail | Rcpt | Data):
            engine.accept(size_limit=0)
    assert event.fault is None


def test_a_line_of_ten_megabytes_costs_no_memory_and_one_reply():
    engine = engine_after(b"EHLO x\r\n")
    engine.next_event()
    engine.take_output()
    for _ in range(160):
        engine.receive(b"x" * 65536)
        assert engine.next_event() is Signal.NEED_DATA
        assert not engine.has_input
    engine.receive(b"\r\nNOOP\r\n")
    engine.next_event()
    assert engine.take_output() == b"500 5.5.2 Error: line too long\r\n250 2.0.0 Ok NOOP\r\n"


def test_half_a_line_waits_and_counts_as_input():
    engine = engine_after(b"x" * LINE_LIMIT)
    assert engine.next_event() is Signal.NEED_DATA
    assert engine.has_input
    assert not engine.has_output


def test_a_mail_that_is_too_big_is_not_stored():
    engine = engine_after(b"EHLO x\r\n" + MAIL + RCPT + b"DATA\r\n", profile=replace(PROFILE, size_limit=100_000))
    events_of(engine)
    passed = 0
    for _ in range(100):
        engine.receive(b"x" * 65534 + b"\r\n")
        passed += sum(len(event.octets) for event in events_of(engine) if isinstance(event, Chunk))
    assert passed <= 100_000


def test_replies_gather_until_they_are_taken():
    engine = SmtpServer(PROFILE)
    engine.greet()
    engine.receive(b"HELO x\r\nNOOP\r\n")
    engine.next_event()
    assert engine.has_output
    assert engine.take_output().count(b"\r\n") == 3
    assert not engine.has_output
    assert engine.take_output() == b""


@pytest.mark.parametrize(
    ("before", "mail", "protocol"),
    [
        (b"HELO x\r\n", MAIL, "SMTP"),
        (b"HELO x\r\n", b"MAIL FROM:<a@x> SMTPUTF8\r\n", "SMTP"),
        (b"EHLO x\r\n", MAIL, "ESMTP"),
        (b"LHLO x\r\n", MAIL, "LMTP"),
        (b"EHLO x\r\n", b"MAIL FROM:<a@x> SMTPUTF8\r\n", "UTF8SMTP"),
        (b"LHLO x\r\n", b"MAIL FROM:<a@x> SMTPUTF8\r\n", "UTF8LMTP"),
    ],
)
def test_the_protocol_has_its_registered_name(before: bytes, mail: bytes, protocol: str):
    plain, encrypted = engine_after(before), engine_after(b"EHLO y\r\nSTARTTLS\r\n", profile=TLS)
    assert encrypted.next_event() is Signal.START_TLS
    encrypted.tls_started()
    encrypted.receive(before)
    for engine, name in ((plain, protocol), (encrypted, protocol if protocol == "SMTP" else protocol + "S")):
        engine.receive(mail)
        events_of(engine)
        assert engine.protocol == name
        assert engine.is_lmtp == ("LMTP" in name)
        assert engine.helo_name == "x"


def test_before_the_greeting_it_is_smtp_with_nobody():
    assert (SmtpServer(PROFILE).protocol, SmtpServer(PROFILE).helo_name) == ("SMTP", "")


# STARTTLS


def test_plain_text_behind_starttls_is_never_read():
    """RFC 3207 5: whoever sits on the wire could have added it."""
    engine = engine_after(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@example.org>\r\n", profile=TLS)
    assert engine.next_event() is Signal.START_TLS
    assert engine.take_output().endswith(b"220 2.0.0 Ready to start TLS\r\n")
    assert not engine.has_input
    engine.receive(b"NOOP\r\n")
    engine.tls_started()
    assert engine.next_event() is Signal.NEED_DATA
    assert engine.take_output() == b""


def test_nothing_happens_between_starttls_and_the_handshake():
    engine = engine_after(b"EHLO x\r\nSTARTTLS\r\n", profile=TLS)
    engine.next_event()
    with pytest.raises(RuntimeError):
        engine.next_event()


def test_a_handshake_that_failed_ends_the_session():
    engine = engine_after(b"EHLO x\r\nSTARTTLS\r\n", profile=TLS)
    engine.next_event()
    engine.receive(b"")
    assert engine.next_event() is Signal.CLOSED


@pytest.mark.parametrize(
    ("octets", "is_open"),
    [(b"", False), (MAIL, True), (MAIL + RCPT + b"DATA\r\n", True), (MAIL + b"RSET\r\n", False)],
)
def test_a_transaction_lasts_from_mail_to_its_end(octets: bytes, is_open: bool):
    engine = engine_after(b"EHLO x\r\n" + octets)
    events_of(engine)
    assert engine.in_transaction == is_open
    engine.receive(b".\r\n")
    events_of(engine)
    assert engine.in_transaction == (octets == MAIL)


# Sessions travel


def test_the_gateway_stops_before_mail_and_the_worker_goes_on():
    octets = b"EHLO x\r\nXFORWARD ADDR=203.0.113.7\r\n" + MAIL + RCPT
    gateway = engine_after(octets, stops_before_mail=True)
    assert gateway.next_event() is Signal.TRANSACTION_STARTS
    assert gateway.next_event() is Signal.TRANSACTION_STARTS
    gateway.take_output()
    worker = SmtpServer(PROFILE, state=gateway.state())
    assert worker.helo_name == "x"
    assert worker.next_event() == Mail("a@example.org", Client(address="203.0.113.7"), None)


def test_half_a_mail_line_does_not_wake_a_worker():
    gateway = engine_after(b"EHLO x\r\n" + MAIL[:-1], stops_before_mail=True)
    assert gateway.next_event() is Signal.NEED_DATA
    gateway.receive(b"\n")
    assert gateway.next_event() is Signal.TRANSACTION_STARTS


def test_a_mail_without_a_greeting_does_not_wake_a_worker():
    gateway = engine_after(MAIL, stops_before_mail=True)
    assert gateway.next_event() is Signal.NEED_DATA
    assert gateway.take_output().startswith(b"503 5.5.1 ")


def test_the_gateway_stops_before_starttls_and_the_worker_answers_it():
    gateway = engine_after(b"EHLO x\r\nSTARTTLS\r\nNOOP\r\n", profile=TLS, stops_before_mail=True)
    assert gateway.next_event() is Signal.START_TLS
    gateway.take_output()
    worker = SmtpServer(TLS, state=gateway.state())
    assert worker.next_event() is Signal.START_TLS
    assert worker.take_output() == b"220 2.0.0 Ready to start TLS\r\n"
    assert not worker.has_input


def test_output_that_was_not_taken_travels_too():
    gateway = engine_after(b"HELO x\r\nNOOP\r\n" + MAIL, stops_before_mail=True)
    gateway.next_event()
    worker = SmtpServer(PROFILE, state=gateway.state())
    assert worker.take_output() == b"250 [127.0.0.1]\r\n250 2.0.0 Ok NOOP\r\n"


@pytest.mark.parametrize(
    "octets",
    [b"LHLO x\r\nBAD\r\nXFORWARD NAME=\xff HELO=y\r\nNOOP", b"EHLO x\r\n" + b"y" * 9000, b"BDAT 9 LAST\r\nabc"],
)
def test_a_session_is_the_same_after_the_journey(octets: bytes):
    engine = engine_after(octets)
    engine.next_event()
    state = engine.state()
    assert marshal.loads(SmtpServer(PROFILE, state=state).state()) == marshal.loads(state)


def test_the_rest_of_a_refused_chunk_stays_refused_after_the_journey():
    engine = engine_after(b"EHLO x\r\nBDAT 12 LAST\r\nNOOP\r\n")
    engine.next_event()
    engine.take_output()
    other = SmtpServer(PROFILE, state=engine.state())
    other.receive(b"NOOP\r\nNOOP\r\n")
    other.next_event()
    assert other.take_output() == b"503 5.5.1 Need MAIL command before BDAT\r\n250 2.0.0 Ok NOOP\r\n"


@pytest.mark.parametrize("octets", [MAIL, MAIL + RCPT + b"DATA\r\n", MAIL + RCPT + b"BDAT 3\r\n", b"QUIT\r\n"])
def test_a_session_does_not_travel_inside_of_a_transaction_or_when_it_is_over(octets: bytes):
    engine = engine_after(b"EHLO x\r\n" + octets)
    events_of(engine)
    with pytest.raises(RuntimeError, match="between transactions"):
        engine.state()


def test_a_goodbye_ends_whatever_is_under_way():
    engine = engine_after(b"EHLO x\r\n" + MAIL)
    engine.next_event()
    engine.take_output()
    engine.say_goodbye(Reply(421, "4.3.2", "Service shutting down"))
    assert engine.next_event() is Signal.CLOSED
    assert engine.take_output() == b"421 4.3.2 Service shutting down\r\n"


# Whatever comes

COMMANDS = [
    *(b"HELO x", b"EHLO x", b"LHLO x", b"EHLO", b"NOOP", b"RSET", b"DATA", b"QUIT", b"STARTTLS", b"VRFY x", b"GET /"),
    *(
        b"MAIL FROM:<a@x>",
        b"MAIL FROM:<>  SIZE=9",
        b"MAIL FROM:<a@x> SIZE=9999999999",
        b"MAIL FROM:a",
        b"RCPT TO:<b@x>",
    ),
    *(
        b"RCPT TO:<>",
        b"BDAT 3",
        b"BDAT 5 LAST",
        b"BDAT 0 LAST",
        b"BDAT x",
        b"XFORWARD ADDR=1.2.3.4 PORT=1",
        b"XFORWARD A",
    ),
    *(b".", b"..", b"", b"x", b"a\0b", b"a\rb", b"a\nb", b"\xff\xfe", b"MAIL FROM:<\xc3\xa4@x> SMTPUTF8"),
]
TALK = st.lists(st.one_of(st.sampled_from(COMMANDS), st.binary(max_size=9)), max_size=30).map(b"\r\n".join)
GOOD_START = b"EHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\n"


def heard(profile: object, segments: list[bytes], *, travels: bool = False) -> tuple[bytes, list[str], bytes]:
    caller = Caller(Case("", profile=profile, start="greeting"), travels=travels)
    for segment in segments:
        caller.feed(segment)
        if "START_TLS" in caller.events[-1:] and not caller.is_closed:
            return caller.output, caller.events, caller.mails
    caller.feed(b"")
    return caller.output, caller.events, caller.mails


@settings(max_examples=300)
@given(TALK, st.booleans(), st.sampled_from(["normalize", "reject"]), st.integers(1, 40))
def test_whatever_is_said_is_answered_the_same_however_it_comes(talk: bytes, is_started: bool, bare: str, width: int):
    talk = (GOOD_START if is_started else b"EHLO x\r\n") + talk + b"\r\n"
    profile = replace(PROFILE, forbid_bare_newline=bare, size_limit=20)
    whole = heard(profile, [talk])
    torn = [talk[at : at + width] for at in range(0, len(talk), width)]
    assert heard(profile, torn) == whole
    assert heard(profile, torn, travels=True) == whole


@settings(max_examples=300)
@given(st.binary(max_size=400), st.integers(1, 40))
def test_random_octets_raise_nothing(octets: bytes, width: int):
    segments = [octets[at : at + width] for at in range(0, len(octets), width)]
    output, events, _ = heard(TLS, segments)
    assert events[-1:] == ["CLOSED"]
    assert all(line[:3].isdigit() for line in output.split(b"\r\n")[:-1])


@settings(max_examples=200)
@given(TALK)
def test_replies_are_lines_of_printable_text(talk: bytes):
    output, _, _ = heard(PROFILE, [GOOD_START + talk])
    assert output.endswith(b"\r\n")
    assert all(len(line) <= 510 and line.decode().isprintable() for line in output.split(b"\r\n"))
