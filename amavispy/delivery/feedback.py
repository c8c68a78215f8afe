"""Feedback - a kept mail wrapped into an abuse report (ARF, RFC 5965).

In: the mail and who shall get the report. Out: the octets of the report, the mail itself as a slice.

**Failures:** none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime

from amavispy import __version__
from amavispy.delivery.edits import fields_octets
from amavispy.delivery.quarantined import Kept

_TEXT = """\
This is an abuse report about a message that was kept in quarantine.
The message is attached as it was received, below what the content
filter found out about it.
"""


def report(
    kept: Kept, sender: str, recipients: Sequence[str], message_id: str, boundary: str
) -> list[bytes | memoryview]:
    """The report as chunks. `boundary` must not occur in the mail, so it is to be random."""
    now = format_datetime(datetime.now().astimezone())
    head = (
        ("Date", now),
        ("From", sender),
        ("To", ",\n ".join(f"<{recipient}>" for recipient in recipients)),
        ("Subject", "Abuse report"),
        ("Message-ID", message_id),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type=feedback-report;\n boundary="{boundary}"'),
    )
    feedback = (
        ("Version", "1"),
        ("Feedback-Type", "abuse"),
        ("User-Agent", f"amavispy/{__version__}"),
        ("Original-Mail-From", f"<{kept.sender}>"),
        *(("Original-Rcpt-To", f"<{recipient}>") for recipient in kept.blocked),
    )
    parts = (
        ((("Content-Type", "text/plain; charset=us-ascii"),), _TEXT.replace("\n", "\r\n").encode()),
        ((("Content-Type", "message/feedback-report"),), fields_octets(feedback)),
        ((("Content-Type", "message/rfc822"), ("Content-Disposition", "attachment")), b""),
    )
    delimiter = f"--{boundary}\r\n".encode()
    top = fields_octets(head) + b"".join(b"\r\n" + delimiter + fields_octets(f) + b"\r\n" + t for f, t in parts)
    return [top, memoryview(kept.octets)[kept.verdict_at :], f"\r\n--{boundary}--\r\n".encode()]
