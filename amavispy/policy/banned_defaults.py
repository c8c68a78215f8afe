"""Banned defaults - the rules most sites start from: what Windows would run when a recipient clicks on it.

For documentation, tests, and `amavispy scan` without a configuration; a site without `banned_filename_re` bans nothing.
Patterns are searched, case-insensitively, in every declared type, ".short" type and name of a part and of what contains
it, names also in the forms clients give them (specification, chapter 6.8, and `inspection.name_forms`).
"""

from __future__ import annotations

from amavispy.policy.settings import BannedRule

_PROGRAMS = "exe|vbs|pif|scr|bat|cmd|com|cpl"
_SCRIPTS = "hta|jse|vbe|ws[cfh]|sct|ps1|lnk|scf|ms[ipt]|xll|jnlp|appref-ms|library-ms|search-ms|searchconnector-ms"

DEFAULT_BANNED_FILENAME_RE: tuple[BannedRule, ...] = (
    BannedRule(rf"\.[^./]*\.(?:{_PROGRAMS}|dll)\.?$"),  # invoice.pdf.exe
    BannedRule(r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?$"),  # it names its program
    BannedRule("(?# direction override )[\u202d\u202e]"),  # the end of the name is shown in its middle
    BannedRule(r"^application/x-msdownload$"),
    BannedRule(r"^application/x-msdos-program$"),
    BannedRule(r"^application/hta$"),
    BannedRule(rf".\.(?:{_PROGRAMS}|{_SCRIPTS}|settingcontent-ms)$"),
    BannedRule(r"^\.(?:exe-ms|lnk|hta|scf|library-ms|search-ms|searchconnector-ms|settingcontent-ms)$"),
)
