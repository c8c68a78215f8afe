"""Making - messages, banks, verdicts and outcomes for tests of deciding, delivering and logging."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from amavispy.mail.disposition import Destiny, Disposition, HeaderEdits, RecipientDisposition
from amavispy.mail.envelope import Client, Connection, Envelope, Recipient
from amavispy.mail.message import Content, Ids, Message
from amavispy.mail.outcome import KeptCopy, Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Banned, Category, ContentsCategory, Verdict
from amavispy.policy.bank import PolicyBank
from amavispy.policy.decide import decide
from amavispy.policy.lookup import AccessList, LookupList
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import Settings

MTA = "smtp:[127.0.0.1]:10025"
QUEUED = Reply(250, "2.0.0", f"from MTA({MTA}): 250 2.0.0 Ok: queued as 553261D1CB0")
CLIENT = Client("192.0.2.1", 41831, "c.example.org", "c.example.org", "ESMTP", "ABC123", "REMOTE")
MAIL = (
    b"Received: from h (h [198.51.100.9]) by mx.example.net; Mon, 02 Nov 2026 10:00:00 +0000\r\n"
    b"From: Ann <a@example.org>\r\n"
    b"To: b@example.net\r\n"
    b"Subject: Hello\r\n"
    b"Message-ID: <x1@example.org>\r\n"
    b"\r\n"
    b"hello\r\n"
)


def message(
    octets: bytes = MAIL,
    *to: str,
    sender: str = "a@example.org",
    client: Client = CLIENT,
    protocol: str = "ESMTP",
    recipients: Sequence[Recipient] = (),
    **envelope: Any,
) -> Message:
    """A mail from outside to b@example.net, unless told otherwise; log id 07655-01, mail_id Jnk7NzYB8pvl."""
    listed = tuple(recipients) or tuple(Recipient(address) for address in (to or ("b@example.net",)))
    return Message(
        Envelope(sender, listed, client, **envelope),
        Content(octets),
        Ids("07655-01", "Jnk7NzYB8pvl"),
        Connection("[::1]:10026"),
        protocol,
        datetime(2026, 11, 22, 10, 7, 33, tzinfo=UTC),
    )


def bank(*path: str, **settings: Any) -> PolicyBank:
    """The base bank, example.net local, with these settings; `path` names banks loaded."""
    local = LookupList.of((AccessList((".example.net",)),))
    return PolicyBank(Settings(**{"local_domains_maps": local, "myhostname": "mx.example.net", **settings}), path)


def constant(value: Any) -> LookupList:
    return LookupList.constant(value)


def only(*addresses: str) -> LookupList:
    """A lookup list that says True for these addresses and nothing for others."""
    return LookupList.of((AccessList(addresses),))


def banned(reason: str = ".exe,setup.exe", rule_value: str = "1") -> Banned:
    return Banned("multipart/mixed | .exe,setup.exe", "P=p001", r"\.exe$", rule_value, r"\.exe$", reason)


def decided(
    verdict: Verdict, mail: Message | None = None, in_bank: PolicyBank | None = None, *, can_split: bool = True
) -> Disposition:
    mail, in_bank = mail or message(), in_bank or bank()
    policies = recipient_policies(mail.envelope, in_bank.settings)
    return decide(mail, verdict, in_bank, policies, can_split=can_split, adds_received=can_split)


def fate(
    address: str = "b@example.net",
    *categories: ContentsCategory,
    destiny: Destiny = Destiny.PASS,
    reply: Reply | None = None,
    is_local: bool = True,
    **more: Any,
) -> RecipientDisposition:
    """One recipient's disposition; blocked by its first category unless the destiny is PASS."""
    listed = categories or (ContentsCategory(Category.CLEAN),)
    blocking = None if destiny is Destiny.PASS else listed[0]
    edits = more.pop("edits", HeaderEdits())
    recipient = more.pop("recipient", Recipient(address))
    return RecipientDisposition(recipient, listed, blocking, destiny, reply, (), edits, is_local=is_local, **more)


def passed(disposition: RecipientDisposition | None = None) -> RecipientOutcome:
    return RecipientOutcome(disposition or fate(), QUEUED, MTA, "553261D1CB0")


def outcome(*recipients: RecipientOutcome, quarantine: tuple[str, ...] = ()) -> Outcome:
    return Outcome(recipients, tuple(KeptCopy("F", location) for location in quarantine))
