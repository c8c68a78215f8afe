"""DSN - the text of a bounce: a delivery status notification for the sender (RFC 3461, 3462, 3464).

In: the Message, the Verdict and the recipients that do not get the mail. Out: a whole mail, CRLF line ends, ASCII
unless the sender's address is not. Three parts: what happened, in plain English; the same for machines; the original's
header section. The body never travels back: it would carry the virus to a sender who may be forged.

Texts that strangers chose stand in it escaped, so they cannot make fields or parts of their own.

Failures: none known; the caller takes any for a bug.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Sequence
from email import policy
from email.charset import QP, Charset
from email.generator import BytesGenerator
from email.message import Message as Part
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime
from io import BytesIO
from textwrap import fill

from amavispy.mail.message import Message
from amavispy.mail.outcome import RecipientOutcome
from amavispy.mail.verdict import Category, Verdict

_HEADER_LIMIT = 65_536  # a header section may have millions of octets; nobody reads more than this
_LINE_LIMIT = 900
_WIDTH = 72
_TEXT_LIMIT = 500
_DEFECTS_LISTED = 10
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), *range(127, 160))}
_CONTROLS.update({code: f"\\x{code - 0xDC00:02X}" for code in range(0xDC80, 0xDD00)})  # octets that are no UTF-8
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_SAID = re.compile(r"from MTA\([^)]*\): (.*)", re.S)
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,500}>")

_EXPLANATIONS = {
    Category.VIRUS: (
        "A virus scanner found malicious content in it. If you did send it, please have your computer checked; if you"
        " did not, somebody used your address, and you can ignore this notice."
    ),
    Category.BANNED: (
        "It carries a file of a kind that is not accepted here, on its own or inside another. You can put the file on a"
        " web server and send its address instead, or agree with the recipient upon another way."
    ),
    Category.UNCHECKED: (
        "A part of it could not be inspected: it is encrypted, damaged or too deeply packed. You can send it again in a"
        " plain form."
    ),
    Category.SPAM: "It was taken for unsolicited bulk mail. If it was not, please tell the recipient in another way.",
    Category.BADH: (
        "Its header section breaks the rules for Internet mail (RFC 5322), so it may be shown wrongly or misused. This"
        " is usually a fault of the program that sent it."
    ),
    Category.OVERSIZED: "It is larger than the recipient accepts.",
    Category.MTA: "The next mail server refused it and gave the reason above.",
}
_SUBJECTS = {
    Category.VIRUS: "virus in a message that came from your address",
    Category.BANNED: "banned content",
    Category.UNCHECKED: "content could not be checked",
    Category.SPAM: "considered unsolicited bulk mail",
    Category.BADH: "invalid header section",
    Category.OVERSIZED: "message too large",
    Category.MTA: "refused by the next mail server",
}


def bounce(message: Message, verdict: Verdict, refused: Sequence[RecipientOutcome], myhostname: str) -> bytes:
    """The notification about all `refused` recipients, at least one. The gravest category chooses subject and text."""
    gravest = max(recipient.disposition.decisive.major for recipient in refused)
    mail = MIMEMultipart("report", report_type="delivery-status")
    subject = _SUBJECTS.get(gravest)
    mail["From"] = f'"Content-filter at {myhostname}" <postmaster@{myhostname}>'
    mail["To"] = f"<{_shown(message.envelope.sender)}>"
    mail["Subject"] = f"Undeliverable mail: {subject}" if subject else "Undeliverable mail"
    mail["Date"] = format_datetime(message.received_at)
    mail["Message-ID"] = f"<DSN{message.ids.mail_id}@{myhostname}>"
    mail["Auto-Submitted"] = "auto-replied"
    if match := _MESSAGE_ID.search(message.content.headers.first(b"Message-ID") or b""):
        mail["In-Reply-To"] = match[0].decode("ascii")
    mail.attach(_text_part(_explanation(message, verdict, refused, gravest, myhostname)))
    mail.attach(_status_part(message, refused, myhostname))
    mail.attach(_header_part(message))
    # `as_bytes` would import its generator only now, and a worker without privileges may not be able to read it
    written = BytesIO()
    rules = policy.SMTP if message.envelope.sender.isascii() else policy.SMTPUTF8
    BytesGenerator(written, mangle_from_=False, policy=rules).flatten(mail)  # type: ignore[arg-type]  # any Message will do
    return written.getvalue()


# --- for people


def _explanation(
    message: Message, verdict: Verdict, refused: Sequence[RecipientOutcome], gravest: Category, myhostname: str
) -> str:
    lines = [f"This is the content filter at {myhostname}.", "", "Your message was not delivered to:", ""]
    for recipient in refused:
        lines += [f"  <{_shown(recipient.disposition.recipient.address)}>", f"      {_diagnostic(recipient)}"]
    lines += ["", *_findings(verdict, gravest), fill(_EXPLANATIONS.get(gravest, ""), _WIDTH), ""]
    subject = (message.content.headers.first(b"Subject") or b"").decode("utf-8", "surrogateescape")
    lines += ["The message:", f"  Subject: {_shown(subject)}", f"  Return-Path: <{_shown(message.envelope.sender)}>"]
    lines += ["", f"Our reference: {message.ids.log_id}/{message.ids.mail_id}", ""]
    return "\n".join(lines)


def _findings(verdict: Verdict, gravest: Category) -> list[str]:
    if gravest is Category.VIRUS:
        return [f"Found: {_shown(', '.join(verdict.virus_names))}", ""]
    if gravest is Category.BADH:
        return [*(f"  {_shown(defect.text)}" for defect in verdict.header_defects[:_DEFECTS_LISTED]), ""]
    return []


def _text_part(text: str) -> Part:
    if text.isascii():
        return MIMEText(text, _charset="us-ascii")
    charset = Charset("utf-8")
    charset.body_encoding = QP
    return MIMEText(text, _charset=charset)  # type: ignore[arg-type]  # the stub knows names only


# --- for machines


def _status_part(message: Message, refused: Sequence[RecipientOutcome], myhostname: str) -> Part:
    """message/delivery-status: a block about the mail, then one for each recipient (RFC 3464 2.2, 2.3)."""
    arrived = format_datetime(message.received_at)
    client = message.envelope.client
    about = [("Reporting-MTA", f"dns; {myhostname}"), ("Arrival-Date", arrived)]
    if client.address:
        about.insert(1, ("Received-From-MTA", f"dns; {_shown(client.helo or client.name)} ([{client.address}])"))
    if message.envelope.envid:
        about.insert(0, ("Original-Envelope-Id", _shown(_from_xtext(message.envelope.envid))))
    part = Part()
    part["Content-Type"] = "message/delivery-status"
    part["Content-Description"] = "Delivery report"
    reference = f"{message.ids.log_id}/{message.ids.mail_id}"
    part.set_payload([_block(about), *(_block(_about_recipient(r, arrived, reference)) for r in refused)])
    return part


def _about_recipient(recipient: RecipientOutcome, arrived: str, reference: str) -> list[tuple[str, str]]:
    asked = recipient.disposition.recipient
    fields = [("Original-Recipient", _shown(_from_xtext(asked.orcpt)))] if asked.orcpt else []
    fields += [
        ("Final-Recipient", _typed(asked.address)),
        ("Action", "failed"),
        ("Status", recipient.reply.enhanced or "5.0.0"),
    ]
    if recipient.next_hop:
        fields.append(("Remote-MTA", f"dns; {recipient.next_hop.partition(':')[2]}"))
    fields += [
        ("Diagnostic-Code", f"smtp; {_ascii(_diagnostic(recipient))}"),
        ("Last-Attempt-Date", arrived),
        ("Final-Log-ID", reference),
    ]
    return fields


def _block(fields: Sequence[tuple[str, str]]) -> Part:
    block = Part()
    for name, value in fields:
        block[name] = _ascii(value)
    return block


def _diagnostic(recipient: RecipientOutcome) -> str:
    """What the next hop said, or our own reply."""
    reply = recipient.reply
    said = _SAID.search(reply.text)
    return _shown(said[1] if said else str(reply))


def _typed(address: str) -> str:
    """An address with its type; beyond ASCII as utf-8-addr-xtext (RFC 6533 3)."""
    shown = _shown(address)
    if shown.isascii():
        return f"rfc822; {shown}"
    return "utf-8; " + "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in shown)


def _from_xtext(text: str) -> str:
    """RFC 3461 4: `+2B` is a plus sign."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)


# --- the original


def _header_part(message: Message) -> Part:
    """text/rfc822-headers (RFC 3462 3), from the start, cut at a line's end when very long."""
    octets = bytes(message.content.octets[: min(message.content.headers.size, _HEADER_LIMIT)])
    octets = octets[: octets.rfind(b"\r\n") + 2].replace(b"\r\n", b"\n")
    is_plain = octets.isascii() and max(map(len, octets.split(b"\n"))) < _LINE_LIMIT
    part = Part()
    part["Content-Type"] = "text/rfc822-headers"
    part["Content-Description"] = "Header section of the message"
    part["Content-Transfer-Encoding"] = "7bit" if is_plain else "quoted-printable"
    part.set_payload((octets if is_plain else quopri.encodestring(octets)).decode("ascii"))
    return part


# --- text


def _shown(text: str) -> str:
    """One line, without control characters, of bearable length."""
    return text[:_TEXT_LIMIT].translate(_CONTROLS)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")
