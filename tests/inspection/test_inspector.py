"""The inspector: which checks are done for whom, with fakes for the decoder and the scanners."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoded, Decoder
from amavispy.inspection.inspector import Inspector
from amavispy.inspection.workload import SpamTask
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Connection, Envelope, Recipient
from amavispy.mail.message import Content, Ids, Message
from amavispy.mail.verdict import HeaderDefect, Part, SpamScan, Unchecked, Verdict, VirusScan
from amavispy.policy.bank import PolicyBank
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.lookup import Hash, LookupList
from amavispy.policy.recipient import Checks, RecipientPolicy, recipient_policies
from amavispy.policy.settings import ScannerSpec, Settings
from tests.corpus import build

CLAMD = ScannerSpec("clam", "clamd", "/run/clamd")
SPAMD = ScannerSpec("spam", "spamd", "127.0.0.1:783")
PROGRAM = Part(1, "1", None, ("application/octet-stream",), ("setup.exe",), ("exe", "exe-ms"), "", 3, b"MZx")
BAD = build.mail(fields={"Date": None})
ONE_PROGRAM = Decoded(parts=(PROGRAM,))
NOBODY = Checks(virus=True, spam=True, banned=True, header=True)


class FakeDecoder:
    def __init__(self, decoded: Decoded) -> None:
        self.decoded = decoded
        self.calls = 0

    def decode(self, content: Content, deadline: Deadline | None = None) -> Decoded:
        self.calls += 1
        return self.decoded


class FakeScanning:
    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Part, ...], tuple[ScannerSpec, ...], tuple[ScannerSpec, ...]]] = []
        self.tasks: list[SpamTask] = []

    def scan(self, content, parts, envelope, virus, spam, deadline, *, backups, first_infected_stops, spam_task):
        self.asked.append((parts, virus, spam))
        self.tasks.append(spam_task)
        return tuple(VirusScan(s.name) for s in virus), tuple(SpamScan(s.name, 1.5) for s in spam)


class Desk:
    """An inspector with fakes, and what they saw."""

    def __init__(self, decoded: Decoded = ONE_PROGRAM, **settings: object) -> None:
        self.decoder = FakeDecoder(decoded)
        self.scanning = FakeScanning()
        self.steps: list[str] = []
        everything = {
            "av_scanners": (CLAMD,),
            "spam_scanners": (SPAMD,),
            "banned_filename_re": DEFAULT_BANNED_FILENAME_RE,
            "final_banned_destiny": Destiny.PASS,
        }
        self.bank = PolicyBank(Settings(**{**everything, **settings}))  # type: ignore[arg-type]

    def inspect(self, *bypasses: Checks, octets: bytes = BAD) -> Verdict:
        envelope = Envelope("a@example.org", tuple(Recipient(f"r{i}@example.net") for i in range(len(bypasses))))
        message = Message(
            envelope, Content(octets), Ids("1-1", "m"), Connection("x"), "ESMTP", datetime(2026, 6, 1, tzinfo=UTC)
        )
        policies = recipient_policies(envelope, self.bank.settings)
        recipients = tuple(replace(p, bypass=b) for p, b in zip(policies, bypasses, strict=True))
        inspector = Inspector(self.decoder, self.scanning)
        inspector.prepare(self.bank.settings)
        return inspector.inspect(message, self.bank, recipients, Deadline.after(60), self.steps.append)


def test_everything_that_is_found_stands_in_the_verdict():
    decoded = Decoded((PROGRAM,), (Unchecked(2, "too deep"),), (HeaderDefect(1, "MIME error: x"),), "too deep")
    verdict = Desk(decoded).inspect(Checks())
    assert verdict.parts == (PROGRAM,)
    assert verdict.unchecked == decoded.unchecked
    assert verdict.hold == "too deep"
    assert [s.scanner for s in verdict.virus_scans] == ["clam"]
    assert verdict.spam_score == 1.5
    assert verdict.banned[0]
    assert verdict.banned[0].reason == "application/octet-stream,.exe,.exe-ms,setup.exe"
    assert [d.minor for d in verdict.header_defects] == [7, 1]


def test_nothing_is_done_when_everybody_bypasses_everything():
    desk = Desk()
    verdict = desk.inspect(NOBODY, NOBODY)
    assert verdict == Verdict(banned=(None, None))
    assert (desk.decoder.calls, desk.scanning.asked) == (0, [])


@pytest.mark.parametrize("wanted", ["virus", "spam", "banned", "header"])
def test_one_recipient_who_wants_a_check_is_enough(wanted: str):
    verdict = Desk().inspect(NOBODY, replace(NOBODY, **{wanted: False}))
    done = {
        "virus": bool(verdict.virus_scans),
        "spam": bool(verdict.spam_scans),
        "banned": any(verdict.banned),
        "header": bool(verdict.header_defects),
    }
    assert done == {check: check == wanted for check in done}


def test_banned_is_told_only_to_those_who_want_it():
    verdict = Desk().inspect(Checks(), Checks(banned=True), Checks())
    assert [entry is not None for entry in verdict.banned] == [True, False, True]


@pytest.mark.parametrize(
    ("settings", "decodes"),
    [
        ({}, True),
        ({"bypass_decode_parts": True}, False),
        ({"av_scanners": ()}, True),
        ({"banned_filename_re": ()}, True),
        ({"av_scanners": (), "banned_filename_re": ()}, False),
    ],
)
def test_parts_are_made_only_when_somebody_looks_at_them(settings: dict, decodes: bool):
    desk = Desk(**settings)
    desk.inspect(Checks())
    assert desk.decoder.calls == decodes


def test_scanners_run_although_a_limit_stopped_the_decoder():
    desk = Desk(Decoded((PROGRAM,), hold="Maximum decoding depth (14) exceeded"))
    desk.inspect(Checks())
    assert desk.scanning.asked == [((PROGRAM,), (CLAMD,), (SPAMD,))]


def test_spam_scanners_are_not_asked_of_a_mail_that_nobody_gets_or_hears_of():
    desk = Desk(final_banned_destiny=Destiny.DISCARD)
    desk.inspect(Checks(), Checks())
    desk.inspect(Checks(), Checks(banned=True))
    assert [spam for _, _, spam in desk.scanning.asked] == [(), (SPAMD,)]


def test_spam_scanners_are_told_of_users_size_and_banks():
    users = LookupList.of([Hash({"r0@example.net": "ann"})])
    desk = Desk(sa_username_maps=users, sa_mail_body_size_limit=7)
    desk.inspect(Checks(), Checks(spam=True), Checks())
    assert desk.scanning.tasks == [SpamTask(("ann", None, ""), 7)]


def test_without_scanners_nobody_is_asked():
    desk = Desk(av_scanners=(), spam_scanners=())
    assert desk.inspect(Checks()).virus_scans == ()
    assert desk.scanning.asked == []


def test_mime_errors_can_be_switched_off_with_their_group():
    desk = Desk(Decoded(mime_errors=(HeaderDefect(1, "MIME error: x"),)), allowed_header_tests=frozenset(("missing",)))
    assert [d.minor for d in desk.inspect(Checks()).header_defects] == [7]


def test_the_steps_done_are_marked_in_order():
    desk = Desk()
    desk.inspect(Checks())
    assert desk.steps == ["decode", "check_header", "check_banned", "scan"]


def test_a_failure_of_the_decoder_is_not_hidden():
    class Broken(FakeDecoder):
        def decode(self, content: Content, deadline: Deadline | None = None) -> Decoded:
            raise RuntimeError("a bug")

    desk = Desk()
    desk.decoder = Broken(ONE_PROGRAM)
    with pytest.raises(RuntimeError, match="a bug"):
        desk.inspect(Checks())


def test_the_lists_decide_who_bypasses():
    settings = Settings(
        banned_filename_re=DEFAULT_BANNED_FILENAME_RE,
        bypass_banned_checks_maps=LookupList.of([LookupList.constant(True)]),
    )
    envelope = Envelope("", (Recipient("a@example.net"),))
    policies: tuple[RecipientPolicy, ...] = recipient_policies(envelope, settings)
    assert policies[0].bypass.banned


def test_a_real_mail_goes_all_the_way():
    desk = Desk()
    desk.decoder = Decoder(Limits())  # type: ignore[assignment]
    verdict = desk.inspect(Checks(), octets=build.exe_zip())
    assert verdict.banned[0]
    assert verdict.banned[0].path == "multipart/mixed | application/zip,.zip,x.zip | .exe,.exe-ms,setup.exe"
    assert verdict.header_defects == ()
    assert verdict.unchecked == ()
