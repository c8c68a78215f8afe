"""The log: the entry of a mail to the octet, levels and marks, and the ways out."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from amavispy.journal import Journal, Timings
from amavispy.journal.entry import entries
from amavispy.journal.transports import FileTransport, StderrTransport, SyslogTransport, split_line
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory, Verdict, VirusScan
from amavispy.policy.bank import PolicyBank
from tests.making import MAIL, MTA, QUEUED, bank, banned, fate, message, outcome, passed

INFECTED = Verdict(virus_scans=(VirusScan("ClamAV", ("Eicar-Signature",), is_infected=True),))
UNKNOWN_USER = f"id=x - Rejected by next-hop MTA on relaying, from MTA({MTA}): 550 5.1.1 unknown user"


class Lines:
    """A transport that remembers (head + text, priority, ident, facility)."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.priorities: list[int] = []
        self.idents: list[tuple[str, str]] = []

    def write(self, head: str, text: str, priority: int, ident: str, facility: str) -> None:
        self.lines.append(head + text)
        self.priorities.append(priority)
        self.idents.append((ident, facility))

    def reopen(self) -> None:
        self.lines.append("reopened")


def blocked(
    destiny: Destiny, *categories: ContentsCategory, to: str = "c@example.net", **more: object
) -> RecipientOutcome:
    reply = more.pop("reply", Reply(554, "5.7.0", "Reject"))
    bounce = more.pop("bounce", "")
    return RecipientOutcome(fate(to, *categories, destiny=destiny, reply=reply, **more), reply, bounce=bounce)  # type: ignore[arg-type]


def logged(
    done: Outcome, mail: Message | None = None, verdict: Verdict | None = None, in_bank: PolicyBank | None = None
) -> list[str]:
    return entries(mail or message(), in_bank or bank(), verdict or Verdict(), done, 176)


def where(mail: Message, **settings: object) -> str:
    """What stands between the actions and the sender."""
    (line,) = logged(outcome(passed()), mail, in_bank=bank(**settings))
    return line.partition("}, ")[2].partition("<")[0]


# --- the entry, as the real daemon wrote it


def test_a_passed_mail() -> None:
    assert logged(outcome(passed(fate(score=6.064)))) == [
        "Passed CLEAN {RelayedInbound}, [192.0.2.1]:41831 [198.51.100.9] <a@example.org> -> <b@example.net>, "
        "Queue-ID: ABC123, Message-ID: <x1@example.org>, mail_id: Jnk7NzYB8pvl, Hits: 6.064, size: 189, "
        "queued_as: 553261D1CB0, 176 ms"
    ]


def test_a_blocked_mail() -> None:
    virus = ContentsCategory(Category.VIRUS)
    done = outcome(blocked(Destiny.DISCARD, virus, to="b@example.net"), quarantine=("v/virus-Jnk7NzYB8pvl",))
    assert logged(done, verdict=INFECTED) == [
        "Blocked INFECTED (Eicar-Signature) {DiscardedInbound,Quarantined}, [192.0.2.1]:41831 [198.51.100.9] "
        "<a@example.org> -> <b@example.net>, quarantine: v/virus-Jnk7NzYB8pvl, Queue-ID: ABC123, "
        "Message-ID: <x1@example.org>, mail_id: Jnk7NzYB8pvl, Hits: -, size: 189, 176 ms"
    ]


def test_a_mail_that_some_got_and_some_did_not_has_two_lines() -> None:
    refused = fate("unknown@example.net", ContentsCategory(Category.MTA, 2), destiny=Destiny.REJECT)
    done = outcome(passed(), RecipientOutcome(refused, Reply(550, "5.1.1", UNKNOWN_USER), MTA, bounce="sent"))
    first, second = logged(done, message(MAIL, client=Client("127.0.0.1")))
    assert first == (
        "Passed MTA-BLOCKED {BouncedInbound,RelayedInbound}, [127.0.0.1] [198.51.100.9] <a@example.org> -> "
        "<b@example.net>, Message-ID: <x1@example.org>, mail_id: Jnk7NzYB8pvl, Hits: -, size: 189, "
        "queued_as: 553261D1CB0/550 5.1.1 unknown user, 176 ms"
    )
    assert second.startswith("Blocked MTA-BLOCKED {BouncedInbound,RelayedInbound}, [127.0.0.1] [198.51.100.9] ")
    assert second.endswith("-> <unknown@example.net>, Message-ID: <x1@example.org>, mail_id: Jnk7NzYB8pvl, "
                           "Hits: -, size: 189, 176 ms")  # fmt: skip


def test_banks_and_our_own_clients_are_named() -> None:
    mail = message(client=Client("192.0.2.1", 41831), sender='"a b"@example.org')
    done = outcome(passed(), passed(fate('"c d"@example.net')))
    (line,) = logged(done, mail, in_bank=bank("SUBMISSION-IN", "MYNETS", originating=True))
    assert line.startswith(
        "Passed CLEAN {RelayedInternal}, SUBMISSION-IN/MYNETS LOCAL [192.0.2.1]:41831 [198.51.100.9] "
        '<"a b"@example.org> -> <b@example.net>,<"c d"@example.net>, Message-ID: '
    )


@pytest.mark.parametrize(
    ("category", "word"),
    [
        (ContentsCategory(Category.CLEAN, 1), "CLEAN"),
        (ContentsCategory(Category.OVERSIZED), "OVERSIZED"),
        (ContentsCategory(Category.BADH, 7), "BAD-HEADER-7"),
        (ContentsCategory(Category.SPAMMY), "SPAMMY"),
        (ContentsCategory(Category.SPAM), "SPAM"),
        (ContentsCategory(Category.UNCHECKED, 0), "UNCHECKED"),
        (ContentsCategory(Category.UNCHECKED, 1), "UNCHECKED-ENCRYPTED"),
        (ContentsCategory(Category.UNCHECKED, 2), "UNCHECKED"),
        (ContentsCategory(Category.BANNED), "BANNED (.dat,setup.exe)"),
        (ContentsCategory(Category.VIRUS), "INFECTED (Eicar-Signature)"),
    ],
)
def test_the_category_is_named_passed_or_blocked(category: ContentsCategory, word: str) -> None:
    verdict = Verdict(virus_scans=INFECTED.virus_scans, banned=(banned(".dat,setup.exe"),))
    assert logged(outcome(passed(fate("b@example.net", category))), verdict=verdict)[0].startswith(f"Passed {word} {{")
    if category.major > Category.CLEAN:
        assert logged(outcome(blocked(Destiny.REJECT, category)), verdict=verdict)[0].startswith(f"Blocked {word} {{")


@pytest.mark.parametrize(
    ("recipients", "is_ours", "actions"),
    [
        ((passed(fate(is_local=False)),), True, "RelayedOutbound"),
        ((passed(fate(is_local=False)),), False, "RelayedOpenRelay"),
        ((passed(), passed(fate(is_local=False))), True, "RelayedInternal,RelayedOutbound"),
        ((passed(fate(is_tagged=True)), passed(fate(is_local=False))), False, "RelayedTaggedInbound,RelayedOpenRelay"),
        ((passed(), passed(fate(is_tagged=True)), blocked(Destiny.BOUNCE, bounce="sent")), False,
         "BouncedInbound,RelayedTaggedInbound,RelayedInbound"),
        ((blocked(Destiny.BOUNCE, bounce="suppressed"),), False, "NoBounceInbound"),
        ((blocked(Destiny.BOUNCE, bounce="failed"),), False, "NoBounceInbound"),
        ((blocked(Destiny.REJECT),), False, "RejectedInbound"),
        ((blocked(Destiny.TEMPFAIL, reply=Reply(451, "4.3.0", "later")),), False, "TempFailedInbound"),
        ((RecipientOutcome(fate(), Reply(250, "2.0.0", "Ok")),), False, "AcceptedInbound"),
    ],
)  # fmt: skip
def test_actions_tell_every_way_the_mail_went(
    recipients: tuple[RecipientOutcome, ...], is_ours: bool, actions: str
) -> None:
    lines = logged(outcome(*recipients), in_bank=bank(originating=is_ours))
    assert {re.search(r"\{(.*?)\}", line)[1] for line in lines} == {actions}  # type: ignore[index]


@pytest.mark.parametrize(
    ("received", "oldest"),
    [
        (["from [198.51.100.9] (unknown [203.0.113.5]) by z; d"], "203.0.113.5"),
        (["from [198.51.100.9] by z; d"], "198.51.100.9"),
        (["from x.example ([198.51.100.10]:4711 helo=foo) by z; d"], "198.51.100.10"),
        (["from x.example (x [198.51.100.11]) by z ([198.51.100.99]); d"], "198.51.100.11"),
        (["by z ([198.51.100.99]); d"], "192.0.2.1"),
        (["from x.example (198.51.100.12) by z; d"], "198.51.100.12"),
        (["from x.example (HELO y) (198.51.100.13) by z with SMTP; d"], "198.51.100.13"),
        (["from x.example (HELO y) (u@198.51.100.14) by z with SMTP; d"], "198.51.100.14"),
        (["from localhost (localhost [127.0.0.1]) by z; d", "from x (x [::ffff:198.51.100.15]) by z"], "198.51.100.15"),
        (["(qmail 123 invoked from network); d"], "192.0.2.1"),
        (["from x (x [100.64.1.1]) by z; d"], "192.0.2.1"),
        (["from x (x [224.0.0.1]) by z; d"], "192.0.2.1"),
        (["from x (x [999.1.2.3]) by z; d"], "192.0.2.1"),
        (["from x (x [IPv6:fe80::1%eth0]) by z; d"], "192.0.2.1"),
        (["from a.example (a [203.0.113.77] (may be forged)) by b\r\n with ESMTP"], "203.0.113.77"),
        (["from q (q [IPv6:2001:4860::7]) by z; d"], "2001:4860::7"),
        (["from x (x [198.51.100.16]) by z; d", "nonsense"], "198.51.100.16"),
        ([], "192.0.2.1"),
    ],
)
def test_the_oldest_public_address_is_where_the_mail_came_from(received: list[str], oldest: str) -> None:
    header = "".join(f"Received: {value}\r\n" for value in received).encode()
    assert where(message(header + b"To: x\r\n\r\n")) == f"[192.0.2.1]:41831 [{oldest}] "


def test_a_private_or_unknown_client_is_no_origin() -> None:
    assert where(message(b"To: x\r\n\r\n", client=Client("10.1.2.3"))) == "[10.1.2.3] "
    assert where(message(b"To: x\r\n\r\n", client=Client())) == ""
    assert where(message(b"To: x\r\n\r\n", client=Client()), originating=True) == ""


@pytest.mark.parametrize(
    ("field", "logged_as"),
    [
        (b"Message-ID: plain", ", Message-ID: <plain>"),
        (b"Message-Id: <a@b> <c@d>", ", Message-ID: <a@b>"),
        (b"MESSAGE-ID : (c) <a@b>", ", Message-ID: <a@b>"),
        (b"Message-ID: <a@b", ", Message-ID: <a@b>"),
        (b"Message-ID:\r\n <fold\r\n ed@x>", ", Message-ID: <fold ed@x>"),
        (b"Message-ID:", ""),
        (b"Message-ID: <1>\r\nMessage-ID: <2>\r\nResent-Message-ID: <3>", ", Message-ID: <1>, Resent-Message-ID: <3>"),
        (b"Message-ID: <a\x07\xe9@x>", ", Message-ID: <a\\x07\\xE9@x>"),
        (b"Message-ID: <a\x1b[2J>, mail_id: evil>", ", Message-ID: <a\\x1B[2J>"),
    ],
)
def test_message_ids_are_logged_without_comments_folds_and_controls(field: bytes, logged_as: str) -> None:
    (line,) = logged(outcome(passed()), message(field + b"\r\n\r\n", client=Client()))
    assert line.partition("<b@example.net>")[2].partition(", mail_id: Jnk7NzYB8pvl")[0] == logged_as


@pytest.mark.parametrize(
    ("scores", "hits"), [((None,), "-"), ((0.0,), "0"), ((-2.001, -2.0), "-2"), ((1.0, 5.5, None), "1..5.5")]
)
def test_hits_tell_one_score_or_a_range(scores: tuple[float | None, ...], hits: str) -> None:
    (line,) = logged(outcome(*(passed(fate(score=score)) for score in scores)))
    assert f", Hits: {hits}, " in line


def test_a_reply_without_a_queue_id_is_logged_whole() -> None:
    (line,) = logged(outcome(RecipientOutcome(fate(), QUEUED, MTA, "250 2.0.0 Ok: queued")))
    assert line.endswith(", queued_as: 250 2.0.0 Ok: queued, 176 ms")


def test_hostile_names_stay_on_their_line() -> None:
    virus = VirusScan("C", ("a\r\nb\x85\u2028c\udcff",), is_infected=True)
    mail = message(sender="x\n\x7f@example.org", client=Client(queue_id="Q\t1"))
    (line,) = logged(outcome(passed(fate("b", ContentsCategory(Category.VIRUS)))), mail, Verdict(virus_scans=(virus,)))
    assert "INFECTED (a\\x0D\\x0Ab\\x85 c\\xFF)" in line
    assert "<x\\x0A\\x7F@example.org>" in line
    assert "Queue-ID: Q\\x091," in line


# --- the journal


@pytest.fixture
def lines() -> Iterator[Lines]:
    transport = Lines()
    yield transport
    logger = logging.getLogger("amavispy")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def test_a_mail_is_recorded_under_its_log_id_and_its_banks_identity(lines: Lines) -> None:
    journal = Journal(lines, bank().settings)
    partner = bank("PARTNER", syslog_ident="amavis-partner", syslog_facility="local3")
    with journal.task("07655-01", partner):
        journal.record(message(), partner, Verdict(), outcome(passed()), Timings())
    (line,) = lines.lines
    assert line.startswith("(07655-01) Passed CLEAN {RelayedInbound}, PARTNER [192.0.2.1]:41831 ")
    assert (lines.priorities, lines.idents) == ([5], [("amavis-partner", "local3")])


def test_at_level_1_the_mail_is_told_before_it_is_checked(lines: Lines) -> None:
    journal = Journal(lines, bank().settings)
    journal.begin(message(), bank("PARTNER", log_level=1))
    journal.begin(message(), bank())
    assert lines.lines == ["Checking: Jnk7NzYB8pvl PARTNER [192.0.2.1] <a@example.org> -> <b@example.net>"]


def test_timings_follow_at_level_2_and_nothing_at_a_negative_level(lines: Lines) -> None:
    timings = Timings()
    timings.mark("receive")
    loud, silent = bank(log_level=2), bank(log_level=-1)
    journal = Journal(lines, bank().settings)
    journal.record(message(), silent, Verdict(), outcome(passed()), timings)
    assert lines.lines == []
    journal.record(message(), loud, Verdict(), outcome(passed()), timings)
    pattern = (
        r"size: 189, TIMING \[total \d+ ms, cpu \d+ ms\] - receive: [\d.]+ \(\d+%\)\d+, rundown: [\d.]+ \(\d+%\)100"
    )
    assert re.fullmatch(pattern, lines.lines[1])
    assert lines.priorities == [5, 6]


def test_recording_never_raises(lines: Lines) -> None:
    journal = Journal(lines, bank().settings)
    journal.install()
    journal.record(message(), bank(), Verdict(), None, Timings())  # type: ignore[arg-type]
    assert lines.lines[0] == "(!!)journal: cannot record Jnk7NzYB8pvl"
    assert lines.lines[-1].startswith("(!!)AttributeError: ")


def test_diagnostics_carry_the_log_id_and_amavis_marks(lines: Lines) -> None:
    journal = Journal(lines, bank(log_level=5).settings)
    journal.install()
    log = logging.getLogger("amavispy.test")
    with journal.task("07655-02", bank(log_level=5)):
        for level in (10, 15, 20, 25, 30, 40):
            log.log(level, "level %d", level)
    log.error("outside\nof a task")
    assert lines.lines == [
        "(07655-02) level 10",
        "(07655-02) level 15",
        "(07655-02) level 20",
        "(07655-02) level 25",
        "(07655-02) (!)level 30",
        "(07655-02) (!!)level 40",
        "(!!)outside\\x0Aof a task",
    ]
    assert lines.priorities == [7, 6, 6, 5, 4, 3, 3]


@pytest.mark.parametrize(
    ("log_level", "heard"),
    [(-2, [40]), (-1, [30, 40]), (0, [25, 30, 40]), (1, [20, 25, 30, 40]), (3, [10, 20, 25, 30, 40])],
)
def test_a_banks_log_level_holds_for_its_task(lines: Lines, log_level: int, heard: list[int]) -> None:
    journal = Journal(lines, bank().settings)
    journal.install()
    log = logging.getLogger("amavispy.test")
    with journal.task("x", bank("B", log_level=log_level)):
        assert [level for level in (10, 20, 25, 30, 40) if log.isEnabledFor(level)] == heard
    assert not log.isEnabledFor(20)


def test_a_new_journal_takes_over_from_the_old_one(lines: Lines) -> None:
    old = Lines()
    Journal(old, bank().settings).install()
    Journal(lines, bank().settings).install()
    logging.getLogger("amavispy.test").warning("hear")
    assert (old.lines, lines.lines) == ([], ["(!)hear"])


def test_a_refused_mail_is_told(lines: Lines) -> None:
    envelope = Envelope("a@example.org", (Recipient("b@example.net"), Recipient("c@example.net")))
    Journal(lines, bank().settings).refused(envelope, Reply(552, "5.3.4", "Message too large"))
    assert lines.lines == ["(!)Refused <a@example.org> -> <b@example.net>,<c@example.net>, 552 5.3.4 Message too large"]


def test_steps_add_up() -> None:
    timings = Timings()
    timings.mark("receive")
    timings.mark("decide")
    assert [step for step, _ in timings.steps] == ["receive", "decide"]
    assert 0 <= sum(seconds for _, seconds in timings.steps) * 1000 <= timings.milliseconds + 1


# --- the ways out


def test_syslog_gets_datagrams_with_priority_and_process(tmp_path: Path) -> None:
    with listening(tmp_path / "log") as server:
        SyslogTransport(str(tmp_path / "log")).write("(x) ", "Passed", 5, "amavis", "mail")
        assert server.recv(2000) == f"<21>amavis[{os.getpid()}]: (x) Passed".encode()


def test_a_restarted_syslog_is_found_again(tmp_path: Path) -> None:
    transport = SyslogTransport(str(tmp_path / "log"))
    with listening(tmp_path / "log") as server:
        transport.write("", "one", 5, "amavis", "local0")
        assert server.recv(2000).startswith(b"<133>")
    (tmp_path / "log").unlink()
    with listening(tmp_path / "log") as server:
        transport.write("", "two", 5, "amavis", "mail")
        assert server.recv(2000).endswith(b": two")


def test_without_a_syslog_lines_are_lost_and_mail_goes_on(tmp_path: Path) -> None:
    transport = SyslogTransport(str(tmp_path / "log"))
    transport.write("", "lost", 5, "amavis", "mail")
    with listening(tmp_path / "log") as server:
        transport.reopen()
        transport.write("", "heard", 5, "amavis", "mail")
        assert server.recv(2000).endswith(b": heard")


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.settimeout(10)
    return server


def test_long_lines_are_split_with_dots() -> None:
    text = "".join(str(n % 10) for n in range(100))
    pieces = [piece.decode() for piece in split_line("(id) ", text, 40)]
    assert [len(piece) for piece in pieces] == [40, 40, 40, 18]
    assert pieces[0] == f"(id) {text[:32]}..."
    assert pieces[1] == f"(id) ...{text[32:61]}..."
    assert pieces[3] == f"(id) ...{text[90:]}"
    assert split_line("(id) ", "short", 40) == [b"(id) short"]


def test_a_split_does_not_cut_a_character() -> None:
    pieces = split_line("", "\u00fc" * 50, 20)
    assert "".join(piece.decode().replace("...", "") for piece in pieces) == "\u00fc" * 50


def test_a_file_gets_syslogs_prefix_and_survives_rotation(tmp_path: Path) -> None:
    transport = FileTransport(str(tmp_path / "log"), "mx.example.net")
    transport.write("(x) ", "one", 5, "amavis", "mail")
    (tmp_path / "log").rename(tmp_path / "log.1")
    transport.write("", "two", 5, "amavis", "mail")
    transport.reopen()
    transport.write("", "three", 5, "amavis", "mail")
    first, second = (tmp_path / "log.1").read_text().splitlines()
    pattern = rf"[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d mx\.example\.net amavis\[{os.getpid()}\]: "
    assert re.fullmatch(pattern + r"\(x\) one", first)
    assert re.fullmatch(pattern + "two", second)
    assert re.fullmatch(pattern + "three\n", (tmp_path / "log").read_text())
    assert (tmp_path / "log").stat().st_mode & 0o777 & ~0o640 == 0


def test_a_rotation_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    transport = FileTransport(str(place / "log"), "mx")
    place.rename(tmp_path / "moved")
    transport.reopen()
    transport.write("", "still heard", 5, "amavis", "mail")
    assert "still heard" in (tmp_path / "moved" / "log").read_text()


def test_stderr_speaks_to_the_journal_of_systemd(capfd: pytest.CaptureFixture[str]) -> None:
    StderrTransport().write("(x) ", "one", 5, "amavis", "mail")
    StderrTransport(is_for_people=True).write("", "two", 5, "amavis", "mail")
    first, second = capfd.readouterr().err.splitlines()
    assert first == "<5>(x) one"
    assert re.fullmatch(r"\d\d:\d\d:\d\d amavis\[\d+\]: two", second)
