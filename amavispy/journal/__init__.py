"""journal - the log: one line a mail, timings, diagnostics, and the ways out."""

from amavispy.journal.journal import Journal
from amavispy.journal.timings import Timings

__all__ = ["Journal", "Timings"]
