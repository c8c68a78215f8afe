"""Banned defaults - the rules most sites start from: what Windows would run when a recipient clicks on it.

For `etc/` and the documentation, and for tests; a site without `banned_filename_re` bans nothing. Patterns are
searched, case-insensitively, in every declared type, ".short" type and name of a part and of what contains it
(specification, chapter 6.8).
"""

from __future__ import annotations

from amavispy.policy.settings import BannedRule

_RUNNABLE = "exe|vbs|pif|scr|bat|cmd|com|cpl"

DEFAULT_BANNED_FILENAME_RE: tuple[BannedRule, ...] = (
    BannedRule(rf"\.[^./]*\.(?:{_RUNNABLE}|dll)\.?$"),  # double extensions: invoice.pdf.exe
    BannedRule(r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?$"),  # a class id that names its program
    BannedRule(r"^application/x-msdownload$"),
    BannedRule(r"^application/x-msdos-program$"),
    BannedRule(r"^application/hta$"),
    BannedRule(rf".\.(?:{_RUNNABLE})$"),
    BannedRule(r"^\.exe-ms$"),
)
