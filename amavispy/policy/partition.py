"""Partition - the number under which a mail's records are kept and, one day, purged together (chapter 12.2).

`partition_tag` is a number, or a pattern of dates such as "%V", the ISO week a mail came in: amavis' example purges
whole weeks by it, which is the fastest way there is.

**Failures:** none; the configuration has checked that the pattern makes a number.
"""

from __future__ import annotations

from datetime import datetime


def partition_of(tag: str, received_at: datetime) -> int:
    """The partition_tag of a mail that came in then; 0 when there is none."""
    if not tag:
        return 0
    return int(tag) if tag.isdigit() else int(received_at.strftime(tag))
