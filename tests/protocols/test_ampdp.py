"""AM.PDP: requests cut out of a stream, what they tell, and responses that amavisd-milter can obey."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.mail.disposition import Destiny, HeaderEdits, RecipientDisposition
from amavispy.mail.envelope import Client, Connection, Envelope, Recipient
from amavispy.mail.message import Content, Ids, Message
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.reply import PeerError, Reply
from amavispy.mail.verdict import Category, ContentsCategory
from amavispy.protocols.ampdp import (
    Limits,
    Request,
    RequestReader,
    answer,
    envelope_of,
    failure,
    mail_file_of,
    respond,
)

# As amavisd-milter 1.7.2 writes it.
MILTER = (
    b"request=AM%2ePDP\nqueue_id=4XyZ\nprotocol_name=ESMTP\nsender=%3ca%40example%2eorg%3e\n"
    b"recipient=%3cb%40example%2enet%3e\nrecipient=%3cc%40example%2enet%3e\ntempdir=%2fvar%2flib%2fx%2faf4XyZ\n"
    b"tempdir_removed_by=client\nmail_file=%2fvar%2flib%2fx%2faf4XyZ%2femail%2etxt\ndelivery_care_of=client\n"
    b"client_address=IPv6%3a2001%3adb8%3a%3a1\nclient_name=mx%2eexample%2eorg\nhelo_name=mx\npolicy_bank=a%2cb\n\n"
)


def read(octets: bytes, limits: Limits | None = None) -> list[Request]:
    reader = RequestReader(limits)
    reader.receive(octets)
    return list(iter(reader.next_request, None))


def request(**attributes: str) -> Request:
    return Request({name: (value,) for name, value in attributes.items()})


# --- framing


def test_a_request_of_the_milter_is_read_whole_and_octet_by_octet() -> None:
    (whole,) = read(MILTER)
    reader = RequestReader()
    seen = []
    for octet in MILTER:
        reader.receive(bytes([octet]))
        seen.append(reader.next_request())
    assert seen[-1] == whole
    assert seen[:-1] == [None] * (len(MILTER) - 1)
    assert whole.one("request") == "AM.PDP"
    assert whole.all("recipient") == ("<b@example.net>", "<c@example.net>")
    assert whole.malformed == 0


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_end_in_lf_or_crlf_and_a_colon_serves_as_well(end: bytes) -> None:
    (found,) = read(end.join([b"request: release", b"mail_id=a:b=c", b"x:y=z", b"", b""]))
    assert dict(found.attributes) == {"request": ("release",), "mail_id": ("a:b=c",), "x": ("y=z",)}


def test_several_requests_follow_one_another_and_the_rest_is_kept() -> None:
    reader = RequestReader()
    reader.receive(b"request=a\n\nrequest=b\r\n\r\nreq")
    assert [r.one("request") for r in iter(reader.next_request, None)] == ["a", "b"]
    assert reader.state() == b"req"
    other = RequestReader()
    other.receive(reader.state() + b"uest=c\n\n")
    found = other.next_request()
    assert found
    assert found.one("request") == "c"
    assert other.is_empty
    assert not reader.is_empty


def test_a_half_read_request_can_be_passed_on_to_another_reader() -> None:
    first, second = RequestReader(), RequestReader()
    first.receive(MILTER[:100])
    assert first.next_request() is None
    second.receive(first.state() + MILTER[100:])
    assert second.next_request() == read(MILTER)[0]


def test_lines_that_are_no_attributes_are_counted_and_ignored() -> None:
    (found,) = read(b"request=x\nnonsense\n=value\n\n")
    assert found == Request({"request": ("x",)}, malformed=2)


def test_percent_codes_in_upper_and_lower_case_and_broken_ones() -> None:
    (found,) = read(b"a=%3C%3c%zz%\nb=%ff%00\n\n")
    assert found.one("a") == "<<%zz%"
    assert found.one("b") == "\udcff\0"


@given(st.lists(st.tuples(st.text("abc_", min_size=1), st.binary())))
def test_what_respond_writes_the_reader_reads(pairs: list[tuple[str, bytes]]) -> None:
    texts = [(name, value.decode("utf-8", "surrogateescape")) for name, value in pairs]
    (found,) = read(respond((name, (value,)) for name, value in texts))
    assert [(n, v) for n in dict(texts) for v in found.all(n)] == [
        (n, v) for k in dict(texts) for n, v in texts if n == k
    ]


@pytest.mark.parametrize(
    "octets",
    [b"x" * 101, b"x=" + b"y" * 99 + b"\n", b"a=b\n" * 11, b"a=" + b"b" * 90 + b"\n" + b"a=" + b"c" * 90 + b"\n" * 2],
)
def test_a_request_over_its_limits_ends_the_connection(octets: bytes) -> None:
    with pytest.raises(PeerError) as raised:
        read(octets, Limits(line=100, request=150, attributes=10))
    assert raised.value.closes
    assert raised.value.reply.is_tempfail


def test_reading_takes_linear_time() -> None:
    """4 MiB in pieces of one octet to a line of the longest kind and of the shortest."""
    for line in (b"a=" + b"b" * 60_000 + b"\n", b"a=b\n" * 9_000):
        reader = RequestReader()
        start = time.process_time()
        for at in range(0, len(line), 3):
            reader.receive(line[at : at + 3])
            assert reader.next_request() is None
        assert time.process_time() - start < 1


# --- what a request tells


def test_the_envelope_of_a_milters_request() -> None:
    envelope = envelope_of(read(MILTER)[0])
    client = Client(address="2001:db8::1", name="mx.example.org", helo="mx", protocol="ESMTP", queue_id="4XyZ")
    recipients = (Recipient("b@example.net"), Recipient("c@example.net"))
    assert envelope == Envelope("a@example.org", recipients, client)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", None),
        ("IPv6:::1", "::1"),
        ("ipv6:::ffff:192.0.2.1", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("local", None),
        ("999.1.1.1", None),
    ],
)
def test_an_address_that_is_none_makes_the_client_unknown_never_local(given: str, expected: str | None) -> None:
    assert envelope_of(request(client_address=given)).client.address == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<a@b>", "a@b"),
        ("a@b", "a@b"),
        ("<>", ""),
        ("", ""),
        ('<"a b"@c>', '"a b"@c'),
        ("<@x,@y:a@b>", "a@b"),
        ("<a@b>\r\nRCPT TO:<c@d>", "<a@b>??RCPT TO:<c@d>"),
    ],
)
def test_addresses_lose_their_brackets_and_whatever_could_start_a_line(given: str, expected: str) -> None:
    assert envelope_of(request(sender=given)).sender == expected.removeprefix("<").removesuffix(">")


def test_international_addresses_ask_for_smtputf8() -> None:
    assert envelope_of(request(sender="<ä@example.org>")).smtputf8
    assert not envelope_of(request(sender="<a@example.org>")).smtputf8


def test_the_port_and_the_source_must_be_such() -> None:
    assert envelope_of(request(client_port="25x", client_source="[UNAVAILABLE]")).client == Client()
    assert envelope_of(request(client_port="25", client_source="local")).client == Client(port=25, source="LOCAL")


ROOTS = ("/var/lib/amavispy", "/var/spool/amavispy/tmp/")


@pytest.mark.parametrize("tempdir", ["/var/lib/amavispy/af4XyZ", "/var/spool/amavispy/tmp/a-b/c.d"])
def test_a_work_directory_below_a_root_holds_email_txt(tempdir: str) -> None:
    assert mail_file_of(request(tempdir=tempdir), ROOTS) == (tempdir, f"{tempdir}/email.txt")
    assert mail_file_of(request(tempdir=tempdir, mail_file=f"{tempdir}/m"), ROOTS) == (tempdir, f"{tempdir}/m")


@pytest.mark.parametrize(
    "tempdir",
    [
        "/var/lib/amavispy",
        "/var/lib/amavispy/",
        "/var/lib/amavispyx/a",
        "/var/lib/amavispy/../a",
        "/var/lib/amavispy/a/..",
        "/var/lib/amavispy/./a",
        "/var/lib/amavispy//a",
        "/var/lib/amavispy/a b",
        "/var/lib/amavispy/a\n",
        "/etc",
        "af4XyZ",
    ],
)
def test_any_other_work_directory_is_suspicious(tempdir: str) -> None:
    with pytest.raises(PeerError, match="Suspicious temporary directory name"):
        mail_file_of(request(tempdir=tempdir), ROOTS)


@pytest.mark.parametrize("name", ["/etc/passwd", "/var/lib/amavispy/a/../b", "/var/lib/amavispy/b/m", "email.txt"])
def test_a_message_file_elsewhere_is_suspicious(name: str) -> None:
    with pytest.raises(PeerError, match="Suspicious message file name"):
        mail_file_of(request(tempdir="/var/lib/amavispy/a", mail_file=name), ROOTS)


def test_without_a_work_directory_the_request_is_incomplete() -> None:
    with pytest.raises(PeerError, match="450 4.5.0 Incomplete request"):
        mail_file_of(request(mail_file="/var/lib/amavispy/m"), ROOTS)


# --- responses

CLEAN = (ContentsCategory(Category.CLEAN),)
OK = Reply(250, "2.5.0", "Ok")


def outcome_of(address: str, destiny: Destiny, reply: Reply = OK, **more: object) -> RecipientOutcome:
    edits = more.pop("edits", HeaderEdits())
    disposition = RecipientDisposition(Recipient(address), CLEAN, None, destiny, None, (), edits)  # type: ignore[arg-type]
    return RecipientOutcome(disposition, reply, **more)  # type: ignore[arg-type]


def lines_of(*recipients: RecipientOutcome, mail: bytes = b"Subject: hi\r\n\r\n") -> list[str]:
    envelope = Envelope("a@b", tuple(r.disposition.recipient for r in recipients))
    message = Message(
        envelope, Content(mail), Ids("1-01", "m"), Connection("/s"), "AM.PDP", datetime(2024, 1, 1, tzinfo=UTC)
    )
    lines = answer(Outcome(recipients), "1-01", message).decode().split("\r\n")
    assert lines[:2] == ["version_server=2", "log_id=1-01"]
    assert lines[-2:] == ["", ""]
    return lines[2:-2]


def test_a_clean_mail_continues() -> None:
    assert lines_of(outcome_of("b@c", Destiny.PASS)) == [
        "setreply=250 2.5.0 Ok,%20id=1-01,%20continue%20delivery",
        "return_value=continue",
        "exit_code=0",
    ]


def test_blocked_recipients_are_deleted_in_order() -> None:
    lines = lines_of(
        outcome_of("b@c", Destiny.DISCARD),
        outcome_of("d@e", Destiny.PASS),
        outcome_of("ü f@g", Destiny.REJECT, Reply(554, "5.7.0", "Reject")),
    )
    assert lines[1:] == ["delrcpt=<b@c>", "delrcpt=<%c3%bc%20f@g>", "return_value=continue", "exit_code=0"]


@pytest.mark.parametrize(
    ("destiny", "reply", "expected"),
    [
        (
            Destiny.TEMPFAIL,
            Reply(450, "4.7.0", "Temporary failure"),
            ["setreply=450 4.7.0 Temporary%20failure", "return_value=tempfail", "exit_code=75"],
        ),
        (Destiny.REJECT, Reply(554, "5.7.0", "No"), ["setreply=554 5.7.0 No", "return_value=reject", "exit_code=69"]),
        (
            Destiny.DISCARD,
            Reply(250, "2.7.0", "Gone"),
            ["setreply=250 2.7.0 Gone", "return_value=discard", "exit_code=99"],
        ),
        (
            Destiny.BOUNCE,
            Reply(554, "5.7.0", "No"),
            ["setreply=250 2.5.0 Ok,%20id=1-01,%20BOUNCE", "return_value=discard", "exit_code=99"],
        ),
    ],
)
def test_a_mail_that_nobody_gets(destiny: Destiny, reply: Reply, expected: list[str]) -> None:
    assert lines_of(outcome_of("b@c", destiny, reply)) == expected


def test_a_mail_that_the_server_delivered_is_discarded_by_the_client() -> None:
    reply = Reply(250, "2.0.0", "from MTA(x): 250 Ok")
    lines = lines_of(outcome_of("b@c", Destiny.PASS, reply, next_hop="smtp:[::1]:25"))
    assert lines[1:] == ["return_value=discard", "exit_code=99"]


def test_a_failed_next_hop_tempfails_even_when_others_were_blocked() -> None:
    failed = Reply(451, "4.5.0", "no")
    lines = lines_of(outcome_of("b@c", Destiny.DISCARD), outcome_of("d@e", Destiny.TEMPFAIL, failed))
    assert lines[1:] == ["return_value=tempfail", "exit_code=75"]


def test_deletions_go_from_last_to_first_and_the_topmost_field_comes_last() -> None:
    mail = b"X-Spam-Flag: YES\r\nSubject: a\r\nx-spam-flag: no\r\nX-SPAM-FLAG: 3\r\n\r\n"
    edits = HeaderEdits(frozenset(["x-spam-flag", "x-not-there"]), (("A", "1"), ("B", "2\n\t3%")))
    lines = lines_of(outcome_of("b@c", Destiny.PASS, edits=edits), mail=mail)
    assert lines[1:-2] == [
        "delheader=3 X-SPAM-FLAG",
        "delheader=2 x-spam-flag",
        "delheader=1 X-Spam-Flag",
        "insheader=0 B 2%0a%093%25",
        "insheader=0 A 1",
    ]


def test_single_occurrences_are_deleted_by_their_number() -> None:
    mail = b"X-Old: 1\r\nx-old: 2\r\nX-OLD: 3\r\n\r\n"
    edits = HeaderEdits(remove_at=frozenset({("x-old", 1), ("x-old", 3), ("x-old", 9), ("x-none", 1)}))
    lines = lines_of(outcome_of("b@c", Destiny.PASS, edits=edits), mail=mail)
    assert lines[1:-2] == ["delheader=3 X-OLD", "delheader=1 X-Old"]


def test_every_subject_is_tagged_once_and_keeps_its_octets() -> None:
    mail = b"Subject: =?utf-8?q?=C3=A4?=\r\n\tb\r\nSUBJECT:***SPAM*** c\r\nsubject: \xff\r\n\r\n"
    lines = lines_of(outcome_of("b@c", Destiny.PASS, edits=HeaderEdits(subject_tag="***SPAM*** ")), mail=mail)
    assert lines[1:-2] == [
        "chgheader=1 Subject ***SPAM***%20=?utf-8?q?=C3=A4?=%0a%09b",
        "chgheader=2 SUBJECT ***SPAM***%20c",
        "chgheader=3 subject ***SPAM***%20%ff",
    ]


def test_a_missing_subject_is_added_and_a_foreign_tag_is_encoded() -> None:
    lines = lines_of(outcome_of("b@c", Destiny.PASS, edits=HeaderEdits(subject_tag="ü ")), mail=b"From: x\r\n\r\n")
    assert lines[1:-2] == ["addheader=Subject =?UTF-8?B?w7w=?="]


def test_the_milter_knows_every_attribute_it_is_told() -> None:
    """amavisd-milter 1.7.2 tempfails on any other attribute (AMAVIS_CMDS in its amavisd.c)."""
    known = {"version_server", "log_id", "setreply", "delrcpt", "delheader", "chgheader", "insheader", "addheader"}
    edits = HeaderEdits(frozenset(["subject"]), (("A", "1"),), "tag ")
    lines = lines_of(outcome_of("b@c", Destiny.PASS, edits=edits), outcome_of("d@e", Destiny.DISCARD))
    assert {line.partition("=")[0] for line in lines} <= known | {"return_value", "exit_code"}


def test_a_failure_is_a_tempfail_unless_it_is_for_good() -> None:
    assert failure(Reply(450, "4.5.0", "Failure: x\ny")) == (
        b"setreply=450 4.5.0 Failure:%20x%20y\r\nreturn_value=tempfail\r\nexit_code=75\r\n\r\n"
    )
    assert b"return_value=reject\r\nexit_code=69" in failure(Reply(554, "5.7.1", "No"))


def test_a_thousand_recipients_are_answered_in_linear_time() -> None:
    recipients = [outcome_of(f"u{i}@example.net", Destiny.PASS if i % 2 else Destiny.DISCARD) for i in range(5000)]
    start = time.process_time()
    assert len(lines_of(*recipients)) == 2503
    assert time.process_time() - start < 1
