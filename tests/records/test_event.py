"""The event of a mail in JSON, and the places it goes to."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amavispy.journal import Journal, Timings
from amavispy.journal.event import category_name, encoded, event
from amavispy.journal.event_log import EventFile, EventLog, EventRedis, EventSyslog
from amavispy.journal.facts import Facts
from amavispy.journal.transports import StderrTransport, SyslogTransport
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Connection
from amavispy.mail.outcome import KeptCopy, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory, SpamScan, Verdict, VirusScan
from tests.integration.database_servers import Redis
from tests.making import MAIL, bank, banned, fate, message, outcome, passed

REJECTED = Reply(554, "5.7.0", "Reject, id=07655-01 - spam")


def facts(**given: Any) -> Facts:
    parts = {
        "verdict": Verdict(),
        "outcome": outcome(passed()),
        "mail": message(),
        "bank": bank("A", "MYNETS"),
        **given,
    }
    return Facts(parts["mail"], parts["bank"], parts["verdict"], parts["outcome"], Timings())


def test_a_mail_is_told_with_amavis_field_names() -> None:
    told = event(facts(mail=replace(message(), connection=Connection("[::1]:10026", "127.0.0.1", 4711, "::1", 10026))))
    assert set(told) == {
        "type", "host", "log_id", "mail_id", "src_ip", "dst_ip", "dst_port", "client_ip", "client_port", "queue_id",
        "protocol", "mail_from", "rcpt_to", "rcpt_num", "recipients", "author", "to_addr", "subject", "message_id",
        "policy_banks", "ip_trace", "size", "content_type", "checks_performed", "dsn_sent", "originating",
        "actions_performed", "smtp_code", "queued_as", "action", "message", "time_unix", "@timestamp",
        "time_iso_week_date", "elapsed",
    }  # fmt: skip
    assert {name: told[name] for name in ("type", "src_ip", "dst_port", "client_ip", "mail_from", "rcpt_to")} == {
        "type": "amavis", "src_ip": "127.0.0.1", "dst_port": 10026, "client_ip": "192.0.2.1",
        "mail_from": "<a@example.org>", "rcpt_to": ["<b@example.net>"],
    }  # fmt: skip
    assert (told["author"], told["subject"], told["policy_banks"]) == (["a@example.org"], "Hello", ["A", "MYNETS"])
    assert (told["@timestamp"], told["time_iso_week_date"]) == ("2026-11-22T10:07:33.000Z", "2026-W47-7")
    assert told["message"] == "07655-01 PASS Clean <a@example.org> -> <b@example.net>"
    assert told["recipients"] == [
        {
            "rcpt_to": "<b@example.net>", "rcpt_is_local": True, "action": "PASS", "smtp_code": "250",
            "smtp_response": "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 553261D1CB0",
            "queued_as": "553261D1CB0", "ccat_main": "Clean",
        }
    ]  # fmt: skip


def test_what_was_found_and_done_is_told() -> None:
    verdict = Verdict(
        virus_scans=(VirusScan("ClamAV", ("Eicar",), True), VirusScan("YARA")),
        spam_scans=(SpamScan("sa", 7.5, (("B", 5.0), ("A", 3.0), ("C", -0.5))),),
        banned=(banned(),),
    )
    spam = ContentsCategory(Category.SPAM)
    blocked = RecipientOutcome(
        fate("c@x", spam, destiny=Destiny.BOUNCE, reply=REJECTED, score=7.5), REJECTED, bounce="sent"
    )
    kept = (KeptCopy("F", "archive", True), KeptCopy("Z", "J/spam-x.gz"))
    told = event(facts(verdict=verdict, outcome=replace(outcome(passed(), blocked), quarantine=kept)))
    assert told["content_type"] == "Spam"
    assert told["virusnames"] == ["Eicar"]
    assert told["av_scan"] == {"ClamAV": ["Eicar"]}
    assert (told["tests"], told["tests_spam"], told["tests_ham"]) == (["A", "B", "C"], ["B", "A"], ["C"])
    assert (told["spam_score"], told["checks_performed"], told["dsn_sent"]) == (7.5, "V S H B D", True)
    assert (told["quarantine"], told["quar_type"]) == ("J/spam-x.gz", "Z")
    assert told["actions_performed"] == "BouncedInbound RelayedInbound Quarantined Archived"
    assert told["action"] == ["PASS", "BOUNCE"]
    assert told["recipients"][1]["ccat_blocking"] == "Spam"
    assert "ccat_main" not in told["recipients"][1]


def test_hostile_texts_stay_on_one_line_of_good_json() -> None:
    octets = MAIL.replace(b"Hello", b"=?utf-8?q?=00=0A=22=C3=A9?= \xff\x1b[2J\xe2\x80\xa8")
    line = encoded(event(facts(mail=message(octets, sender='a"\n\udcff@x'))))
    assert "\n" not in line
    assert line.encode()
    assert json.loads(line)["mail_from"] == '<a"\\x0A\\xFF@x>'
    assert json.loads(line)["subject"].startswith('\\x00\\x0A"é \\xFF\\x1B[2J')


@pytest.mark.parametrize(
    ("category", "name"),
    [((4, 7), "BadHdrMissing"), ((4, 0), "BadHdr"), ((7, 3), "UncheckedAmbiguousContent"), ((2, 1), "MtaTempFailed")],
)
def test_categories_have_amavis_names(category: tuple[int, int], name: str) -> None:
    assert category_name(ContentsCategory(Category(category[0]), category[1])) == name


# --- places


def test_a_file_gets_a_line_a_mail_and_goes_on_after_a_rotation(tmp_path: Path) -> None:
    log = EventLog([EventFile(f"{tmp_path}/events.json")])
    log.record(facts())
    os.rename(tmp_path / "events.json", tmp_path / "events.json.1")
    log.record(facts())
    log.reopen()
    log.record(facts())
    assert [len((tmp_path / name).read_text().splitlines()) for name in ("events.json.1", "events.json")] == [2, 1]
    assert json.loads((tmp_path / "events.json").read_text())["mail_id"] == "Jnk7NzYB8pvl"
    assert (tmp_path / "events.json").stat().st_mode & 0o777 == 0o640


def test_syslog_gets_it_whole_behind_a_mark(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{tmp_path}/log")
        transport = SyslogTransport(f"{tmp_path}/log", line_limit=60_000)
        recipients = [passed(fate(f"recipient{n}@example.net")) for n in range(50)]
        EventLog([EventSyslog(transport)]).record(facts(outcome=outcome(*recipients)))
        datagram = listener.recv(100_000)
        transport.reopen()
    head, _, line = datagram.partition(b": @cee: ")
    assert head == f"<22>amavis[{os.getpid()}]".encode()
    assert json.loads(line)["rcpt_num"] == 50


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis(password="secret") as running:
        yield running


def test_redis_gets_the_newest_and_only_from_banks_that_want_it(server: Redis) -> None:
    log = EventLog([EventRedis([server.dsn], 3)])
    for n in range(5):
        mail = message(MAIL.replace(b"Hello", f"mail {n}".encode()))
        log.record(facts(mail=mail, bank=bank(redis_logging_key="amavis-log")))
        log.record(facts(mail=mail))
    lines = server.cli("LRANGE", "amavis-log", "0", "-1").splitlines()
    assert [json.loads(line)["subject"] for line in lines] == ["mail 2", "mail 3", "mail 4"]


def test_a_redis_server_that_is_gone_costs_nothing_for_a_while(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    place = EventRedis([server.dsn], 10, clock=lambda: now)
    settings = bank(redis_logging_key="other").settings
    server.stop()
    place.put("1", settings)
    place.put("2", settings)
    assert len(caplog.messages) == 1
    assert "Redis: an event is lost or goes elsewhere" in caplog.text
    server.start()
    now = 11.0
    place.put("3", settings)
    assert server.cli("LRANGE", "other", "0", "-1") == "3"


class Broken:
    """A recorder with a bug in it."""

    def record(self, _: Facts) -> None:
        raise ZeroDivisionError("a bug")

    def reopen(self) -> None:
        """Nothing to do."""


def test_a_bug_in_a_recorder_does_not_reach_the_client(capfd: pytest.CaptureFixture[str]) -> None:
    in_bank = bank()
    journal = Journal(StderrTransport(), in_bank.settings, [Broken()])
    journal.install()
    journal.record(message(), in_bank, Verdict(), outcome(passed()), Timings())
    assert "cannot record Jnk7NzYB8pvl" in capfd.readouterr().err
