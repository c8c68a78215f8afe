"""Who is told of a mail that was not delivered, what he reads, and what happens when he cannot be told."""

from __future__ import annotations

import email
import subprocess
import sys
from typing import Any

import pytest

from amavispy.deadline import Deadline
from amavispy.delivery.notify import Notifier
from amavispy.delivery.transports import Handover, Submission
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Recipient
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory, HeaderDefect, Verdict, VirusScan
from tests.making import MAIL, MTA, bank, fate, message, outcome, passed

BOUNCED = Reply(554, "5.7.0", "Bounce, id=07655-01 - BANNED: .exe,setup.exe")
REJECTED = Reply(
    550, "5.1.1", f"id=07655-01 - Rejected by next-hop MTA on relaying, from MTA({MTA}): 550 5.1.1 unknown"
)
OK = Reply(250, "2.0.0", "Ok")
BANNED = ContentsCategory(Category.BANNED)
REFUSED = ContentsCategory(Category.MTA, 2)


class FakeTransport:
    """Remembers submissions and answers alike; an exception is raised."""

    def __init__(self, reply: Reply | Exception) -> None:
        self.reply = reply
        self.sent: list[Submission] = []

    def send(self, next_hops, submission, settings, deadline, log_id):  # type: ignore[no-untyped-def]
        if isinstance(self.reply, Exception):
            raise self.reply
        self.sent.append(submission)
        return tuple(Handover(self.reply) for _ in submission.recipients)


def bounced(address: str = "c@example.net", **more: object) -> RecipientOutcome:
    category = more.pop("category", BANNED)
    return RecipientOutcome(fate(address, category, destiny=Destiny.BOUNCE, reply=BOUNCED, **more), BOUNCED)  # type: ignore[arg-type]


def rejected(address: str = "d@example.net", **more: object) -> RecipientOutcome:
    return RecipientOutcome(fate(address, REFUSED, destiny=Destiny.REJECT, reply=REJECTED, **more), REJECTED, MTA)  # type: ignore[arg-type]


def notified(
    before: Outcome,
    mail: Message | None = None,
    verdict: Verdict | None = None,
    answer: Reply | Exception = OK,
) -> tuple[Outcome, list[Submission]]:
    transport = FakeTransport(answer)
    after = Notifier(transport).notify(mail or message(), verdict or Verdict(), before, bank(), Deadline.after(60))
    return after, transport.sent


def mail_of(submission: Submission) -> Any:
    return email.message_from_bytes(b"".join(submission.chunks))


def bounces(after: Outcome) -> list[str]:
    return [r.bounce for r in after.recipients]


# --- who is told


def test_nothing_happens_when_everybody_got_the_mail() -> None:
    before = outcome(passed(), passed())
    after, sent = notified(before)
    assert after is before
    assert sent == []


def test_one_notification_lists_all_bounced_recipients() -> None:
    after, sent = notified(outcome(bounced("c@example.net"), passed(), bounced("d@example.net")))
    assert bounces(after) == ["sent", "", "sent"]
    (submission,) = sent
    assert (submission.sender, submission.recipients) == ("", (Recipient("a@example.org"),))
    status = mail_of(submission).get_payload(1).get_payload()
    assert [block["Final-Recipient"] for block in status[1:]] == ["rfc822; c@example.net", "rfc822; d@example.net"]


def test_a_refusal_that_one_reply_cannot_carry_bounces() -> None:
    after, sent = notified(outcome(passed(), rejected()))
    assert (bounces(after), len(sent)) == (["", "sent"], 1)


def test_a_refusal_that_reaches_the_client_does_not_bounce() -> None:
    assert notified(outcome(rejected()))[1] == []
    assert notified(outcome(rejected(), rejected()))[1] == []
    assert notified(outcome(passed(), rejected()), message(protocol="LMTP"))[1] == []


def test_lmtp_bounces_what_shall_bounce() -> None:
    after, _ = notified(outcome(passed(), rejected(), bounced()), message(protocol="LMTPS"))
    assert bounces(after) == ["", "", "sent"]


def test_nobody_is_told_while_the_client_keeps_the_whole_mail() -> None:
    later = Reply(451, "4.3.0", "later")
    waiting = RecipientOutcome(fate("e@example.net", REFUSED, destiny=Destiny.TEMPFAIL, reply=later), later)
    after, sent = notified(outcome(bounced(), waiting))
    assert (bounces(after), sent) == (["", ""], [])


@pytest.mark.parametrize(
    ("recipient", "mail"),
    [
        (bounced(), message(sender="")),
        (bounced(recipient=Recipient("c@example.net", frozenset(("NEVER",)))), message()),
        (bounced(recipient=Recipient("c@example.net", frozenset(("SUCCESS", "DELAY")))), message()),
        (bounced(suppresses_bounce="INFECTED"), message()),
        (bounced(), message(b"Precedence: list\r\n" + MAIL)),
        (bounced(), message(b"List-Post: <mailto:x>\r\n" + MAIL)),
        (bounced(), message(b"Auto-Submitted: auto-generated\r\n" + MAIL)),
        (bounced(), message(sender="MAILER-DAEMON@example.org")),
    ],
)
def test_some_senders_are_never_told(recipient: RecipientOutcome, mail: Message) -> None:
    after, sent = notified(outcome(recipient), mail)
    assert (bounces(after), sent) == (["suppressed"], [])
    assert str(after.single_reply("x")[0]) == "250 2.5.0 Ok, id=x, DISCARD(bounce.suppressed)"


def test_a_list_is_told_what_the_next_hop_refused() -> None:
    after, sent = notified(outcome(passed(), rejected()), message(b"List-Id: <x>\r\n" + MAIL))
    assert (bounces(after), len(sent)) == (["", "sent"], 1)


def test_notify_failure_asks_for_it() -> None:
    recipient = Recipient("c@example.net", frozenset(("SUCCESS", "FAILURE")))
    assert bounces(notified(outcome(bounced(recipient=recipient)))[0]) == ["sent"]


# --- what the sender reads


def test_the_notification_is_a_multipart_report() -> None:
    _, (submission,) = notified(outcome(bounced()))
    octets = b"".join(submission.chunks)
    assert octets.count(b"\n") == octets.count(b"\r\n")
    assert octets.isascii()
    mail = mail_of(submission)
    assert (mail.get_content_type(), mail.get_param("report-type")) == ("multipart/report", "delivery-status")
    assert mail["Message-ID"] == "<DSNJnk7NzYB8pvl@mx.example.net>"
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["To"] == "<a@example.org>"
    assert mail["From"] == '"Content-filter at mx.example.net" <postmaster@mx.example.net>'
    assert mail["In-Reply-To"] == "<x1@example.org>"
    assert mail["Subject"] == "Undeliverable mail: banned content"
    kinds = [part.get_content_type() for part in mail.get_payload()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]


def test_the_machine_readable_part_tells_status_and_reason() -> None:
    mail = message(envid="QQ+2B1", recipients=[Recipient("c@example.net", orcpt="rfc822;C+40example.net")])
    _, (submission,) = notified(outcome(bounced(recipient=mail.envelope.recipients[0]), rejected(), passed()), mail)
    about, one, other = mail_of(submission).get_payload(1).get_payload()
    assert about["Reporting-MTA"] == "dns; mx.example.net"
    assert about["Original-Envelope-Id"] == "QQ+1"
    assert about["Received-From-MTA"] == "dns; c.example.org ([192.0.2.1])"
    assert (one["Original-Recipient"], one["Final-Recipient"]) == ("rfc822;C@example.net", "rfc822; c@example.net")
    assert (one["Action"], one["Status"], one["Remote-MTA"]) == ("failed", "5.7.0", None)
    assert one["Diagnostic-Code"] == f"smtp; {BOUNCED}"
    assert one["Final-Log-ID"] == "07655-01/Jnk7NzYB8pvl"
    assert (other["Remote-MTA"], other["Diagnostic-Code"]) == ("dns; [127.0.0.1]:10025", "smtp; 550 5.1.1 unknown")


def test_only_the_header_section_travels_back() -> None:
    _, (submission,) = notified(outcome(bounced()))
    headers = mail_of(submission).get_payload(2).get_payload()
    assert headers.replace("\r\n", "\n") == MAIL.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"\n").decode() + "\n"
    assert b"\r\nhello\r\n" not in b"".join(submission.chunks)


def test_strange_octets_travel_back_encoded_and_a_huge_header_is_cut() -> None:
    octets = b"X-Bad: \xe9\xfc\r\n" + b"X-Long: " + b"y" * 2000 + b"\r\n" + b"X: y\r\n" * 20_000 + b"\r\nbody\r\n"
    _, (submission,) = notified(outcome(bounced()), message(octets))
    whole = b"".join(submission.chunks)
    assert whole.isascii()
    assert max(map(len, whole.split(b"\r\n"))) < 998
    part = mail_of(submission).get_payload(2).get_payload(decode=True)
    assert part.startswith(b"X-Bad: \xe9\xfc")
    assert len(part) < 66_000


@pytest.mark.parametrize(
    ("category", "verdict", "subject", "text"),
    [
        (ContentsCategory(Category.VIRUS), Verdict(virus_scans=(VirusScan("C", ("Eicar",), is_infected=True),)),
         "virus in a message that came from your address", "Found: Eicar"),
        (ContentsCategory(Category.BADH, 7), Verdict(header_defects=(HeaderDefect(7, 'Missing "Date"'),)),
         "invalid header section", 'Missing "Date"'),
        (ContentsCategory(Category.SPAM), Verdict(), "considered unsolicited bulk mail", "unsolicited"),
        (ContentsCategory(Category.OVERSIZED), Verdict(), "message too large", "larger"),
        (ContentsCategory(Category.UNCHECKED, 1), Verdict(), "content could not be checked", "encrypted"),
    ],
)  # fmt: skip
def test_the_text_tells_what_was_found(category: ContentsCategory, verdict: Verdict, subject: str, text: str) -> None:
    _, (submission,) = notified(outcome(bounced(category=category)), verdict=verdict)
    mail = mail_of(submission)
    assert mail["Subject"] == f"Undeliverable mail: {subject}"
    assert text in mail.get_payload(0).get_payload()
    assert "<c@example.net>\n      554 5.7.0 Bounce" in mail.get_payload(0).get_payload().replace("\r\n", "\n")


def test_an_address_cannot_make_fields_or_parts() -> None:
    _, (submission,) = notified(outcome(bounced("c\r\n\r\n--==\r\nX: y@example.net")), message(sender="a\nBcc: x@y"))
    mail = mail_of(submission)
    assert (mail["To"], mail["Bcc"]) == ("<a\\x0ABcc: x@y>", None)
    assert len(mail.get_payload()) == 3


def test_addresses_beyond_ascii_are_written_as_rfc_6533_says() -> None:
    _, (submission,) = notified(outcome(bounced("j\u00f6rg@example.net")), message(sender="\u00fc@example.org"))
    assert submission.smtputf8
    mail = mail_of(submission)
    status = mail.get_payload(1).get_payload()
    assert status[1]["Final-Recipient"] == "utf-8; j\\x{F6}rg@example.net"
    assert "To: <\u00fc@example.org>\r\n".encode() in b"".join(submission.chunks)
    assert "j\u00f6rg" in mail.get_payload(0).get_payload(decode=True).decode()


# --- when he cannot be told


@pytest.mark.parametrize("answer", [Reply(451, "4.3.0", "later"), Reply(554, "5.7.1", "no"), RuntimeError("a bug")])
def test_a_bounce_that_cannot_be_sent_leaves_the_mail_with_the_client(answer: Reply | Exception) -> None:
    after, _ = notified(outcome(bounced(), bounced("d@example.net")), answer=answer)
    assert bounces(after) == ["failed", "failed"]
    assert after.recipients[0].disposition.destiny is Destiny.TEMPFAIL
    reply, _ = after.single_reply("07655-01")
    assert str(reply).startswith("451 4.5.0 Error in processing, id=07655-01, notify FAILED: ")


def test_once_somebody_has_the_mail_it_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    after, _ = notified(outcome(passed(), bounced()), answer=Reply(451, "4.3.0", "later"))
    assert bounces(after) == ["", "failed"]
    assert after.single_reply("x")[0].is_success
    assert "DSN to <a@example.org> FAILED: 451 4.3.0 later" in caplog.text


def test_over_lmtp_just_that_recipient_is_tried_again() -> None:
    after, _ = notified(outcome(passed(), bounced()), message(protocol="LMTP"), answer=Reply(451, "4.3.0", "later"))
    assert [reply.code for reply in after.replies_each()] == [250, 451]


def test_a_thousand_bounces_are_one_notification() -> None:
    after, sent = notified(outcome(*(bounced(f"r{n}@example.net") for n in range(1000))))
    assert (set(bounces(after)), len(sent)) == ({"sent"}, 1)


def test_telling_needs_no_module_that_is_not_loaded_yet() -> None:
    """A worker has given up its privileges, so the library's own files may be out of its reach."""
    script = """
import sys
from tests.delivery.test_notify import bounced, mail_of, notified, outcome, message
from tests.making import MAIL
mail, awkward = message(), message(b"X: \\xe9\\r\\n" + MAIL, sender="\u00fc@example.org")
before = set(sys.modules)
notified(outcome(bounced()), mail)
notified(outcome(bounced("\u00fc@example.net")), awkward)
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
