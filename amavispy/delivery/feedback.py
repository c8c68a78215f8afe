"""Feedback - a kept mail enclosed in another: as an attachment, or in an abuse report (ARF, RFC 5965).

In: the mail and who shall get it. Out: the octets of the new mail, the kept one itself as a slice. A report shows what
the content filter found out about it, a mere attachment the mail as it came in.

**Failures:** none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from amavispy import __version__
from amavispy.delivery.edits import fields_octets
from amavispy.delivery.quarantined import Kept

Chunks = list[bytes | memoryview]
_REPORT = """\
This is an abuse report about a message that was kept in quarantine.
The message is attached as it was received, below what the content
filter found out about it.
"""
_RELEASE = """\
A message to you was kept in quarantine. It was released and is
attached as it was received. Be careful: somebody or something
thought that it might do harm.
"""


@dataclass(frozen=True, slots=True)
class Cover:
    """The mail around the kept one. `boundary` must not occur in that, so it is to be random."""

    sender: str
    recipients: Sequence[str]
    message_id: str
    boundary: str

    def head(self, subject: str, content_type: str) -> bytes:
        fields = (
            ("Date", format_datetime(datetime.now().astimezone())),
            ("From", self.sender),
            ("To", ",\n ".join(f"<{recipient}>" for recipient in self.recipients)),
            ("Subject", subject),
            ("Message-ID", self.message_id),
            ("MIME-Version", "1.0"),
            ("Content-Type", f'{content_type};\n boundary="{self.boundary}"'),
        )
        return fields_octets(fields)

    def part(self, fields: tuple[tuple[str, str], ...], text: bytes = b"") -> bytes:
        return f"\r\n--{self.boundary}\r\n".encode() + fields_octets(fields) + b"\r\n" + text

    def end(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()


def report(kept: Kept, cover: Cover, feedback_type: str = "abuse") -> Chunks:
    """An abuse report (RFC 5965) of this type."""
    feedback = (
        ("Version", "1"),
        ("Feedback-Type", feedback_type),
        ("User-Agent", f"amavispy/{__version__}"),
        ("Original-Mail-From", f"<{kept.sender}>"),
        *(("Original-Rcpt-To", f"<{recipient}>") for recipient in kept.blocked),
    )
    top = cover.head("Abuse report", "multipart/report; report-type=feedback-report")
    top += cover.part(_TEXT_PART, _REPORT.replace("\n", "\r\n").encode())
    top += cover.part((("Content-Type", "message/feedback-report"),), fields_octets(feedback))
    return [top + cover.part(_MAIL_PART), memoryview(kept.octets)[kept.verdict_at :], cover.end()]


def attached(kept: Kept, cover: Cover) -> Chunks:
    """The kept mail as an attachment of one that warns."""
    top = cover.head("Message released from quarantine", "multipart/mixed")
    top += cover.part(_TEXT_PART, _RELEASE.replace("\n", "\r\n").encode())
    return [top + cover.part(_MAIL_PART), kept.original, cover.end()]


_TEXT_PART = (("Content-Type", "text/plain; charset=us-ascii"),)
_MAIL_PART = (("Content-Type", "message/rfc822"), ("Content-Disposition", "attachment"))
