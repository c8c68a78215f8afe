"""Reply texts - what a client hears of a blocked mail, and how the content is named in replies (chapter 2.3).

One table holds code, enhanced code and reason of every category; a reply is made of it and a destiny. The texts tell
what was found, nothing of the configuration.
"""

from __future__ import annotations

from amavispy.mail.disposition import Destiny
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory

_REASON_LIMIT = 450
_VERBS = {
    Destiny.TEMPFAIL: "Temporary failure",
    Destiny.REJECT: "Reject",
    Destiny.BOUNCE: "Bounce",
    Destiny.DISCARD: "Ok, discarded",
}
_CODES = {
    Category.MTA: (550, "5.3.5"),
    Category.OVERSIZED: (552, "5.3.4"),
    Category.BADH: (554, "5.6.0"),
}
_OTHER_CODE = (554, "5.7.0")
_REASONS = {
    Category.CLEAN: "CLEAN",
    Category.MTA: "Unable to relay message back to MTA",
    Category.OVERSIZED: "Message size exceeds recipient's size limit",
    Category.BADH: "BAD HEADER",
    Category.SPAMMY: "spammy",
    Category.SPAM: "spam",
    Category.UNCHECKED: "UNCHECKED",
    Category.BANNED: "BANNED",
    Category.VIRUS: "INFECTED",
}
_MINOR_REASONS = {
    (Category.MTA, 1): "Temporary MTA failure on relaying",
    (Category.MTA, 2): "Rejected by next-hop MTA on relaying",
    (Category.SPAMMY, 1): "spammy (tag3)",
    (Category.UNCHECKED, 1): "UNCHECKED: encrypted",
    (Category.UNCHECKED, 2): "UNCHECKED: over limits",
    (Category.UNCHECKED, 3): "UNCHECKED: ambiguous content",
    (Category.BADH, 1): "BAD HEADER: MIME error",
    (Category.BADH, 2): "BAD HEADER: nonencoded 8-bit character",
    (Category.BADH, 3): "BAD HEADER: contains invalid control character",
    (Category.BADH, 4): "BAD HEADER: line made up entirely of whitespace",
    (Category.BADH, 5): "BAD HEADER: line longer than RFC 5322 limit",
    (Category.BADH, 6): "BAD HEADER: syntax error",
    (Category.BADH, 7): "BAD HEADER: missing required header field",
    (Category.BADH, 8): "BAD HEADER: duplicate header field",
}
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), 127)}


def reason(category: ContentsCategory, detail: str = "") -> str:
    """How replies name this content: "BANNED: setup.exe", "BAD HEADER: MIME error". `detail`: virus or file name."""
    text = _MINOR_REASONS.get((category.major, category.minor)) or _REASONS.get(category.major, "OTHER")
    return f"{text}: {detail}" if detail else text


def blocked_reply(category: ContentsCategory, destiny: Destiny, log_id: str, detail: str, *, is_soft: bool) -> Reply:
    """The answer for a recipient who does not get the mail; `is_soft` says that soft_bounce made it temporary."""
    code, enhanced = _code(category)
    if destiny is Destiny.TEMPFAIL:
        code, enhanced = 450, "4" + enhanced[1:]
    elif destiny is Destiny.DISCARD:
        code, enhanced = 250, "2" + enhanced[1:]
    why = f"id={log_id} - {reason(category, detail)}".translate(_CONTROLS)[:_REASON_LIMIT]
    return Reply(code, enhanced, f"{_VERBS[destiny]}{' (soft_bounce)' if is_soft else ''}, {why}")


def _code(category: ContentsCategory) -> tuple[int, str]:
    if category == (Category.BADH, 2):
        return 554, "5.6.3"  # RFC 3463 3.7: conversion required but not supported
    return _CODES.get(category.major, _OTHER_CODE)
