"""Smtp commands - reading the command lines of SMTP and LMTP: paths, parameters, counts.

In goes one line, out comes a value; nothing here remembers a session. Lines are taken literally: CRLF at the end and no
control octets within, for what two readers split differently is how commands are smuggled.

**Failures:** PeerError with the reply; the session counts it as the client's mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from amavispy.mail.envelope import Recipient
from amavispy.mail.reply import PeerError, Reply
from amavispy.protocols import smtp_replies as replies

PATH_LIMIT: Final = 254  # octets; RFC 5321 4.5.3.1.3 has 256 with < and >

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LATE_CONTROL = re.compile("[\x80-\x9f\u2028\u2029\ud800-\udfff]")  # C1, line separators, octets that are no UTF-8

# RFC 5321 4.1.2, read liberally where no two readers can disagree; a source route (appendix C) is dropped.
_PATH = re.compile(
    r"[ \t]*<(?:"
    r'(?:@[^\s@,:<>"]+(?:,@[^\s@,:<>"]+)*+:)?'
    r"("
    r'(?:"(?:[^"\\]|\\.)*+"|[^\s"@<>])++'
    r'(?:@(?:\[[^\s\[\]\\@<>"]+\]|[^\s\[\]\\@<>"]+))?'
    r"))?>(?:[ \t]+(.*))?"
)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^=\s]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_BDAT = re.compile(r"([0-9]{1,18})(?:[ \t]+(LAST))?", re.I)
_ORCPT = re.compile(r"[A-Za-z0-9-]+;\S+")
_NOTIFY = frozenset(("NEVER", "SUCCESS", "FAILURE", "DELAY"))


class MailCommand(NamedTuple):
    """MAIL FROM, understood. Fields as in `mail.envelope.Envelope`; `auth` of RFC 4954 is checked and forgotten."""

    sender: str
    size: int | None = None
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


def split_command(line: bytes) -> tuple[bytes, str]:
    """The verb in upper case and the arguments of a line that still has its line end."""
    if line[-2:] != b"\r\n":
        raise PeerError(replies.LINE_END)
    if _CONTROL.search(line, 0, len(line) - 2):
        raise PeerError(replies.BAD_SYNTAX)
    words = line.split(None, 1)
    if not words or not words[0].isalnum() or not words[0][:1].isalpha():
        raise PeerError(replies.BAD_SYNTAX)
    return words[0].upper(), words[1].rstrip().decode("utf-8", "surrogateescape") if len(words) > 1 else ""


def parse_mail(arguments: str) -> MailCommand:
    """The arguments of MAIL: `FROM:<path>` and parameters of RFC 1870, 3461, 4954, 6152 and 6531."""
    if arguments[:5].upper() != "FROM:":
        raise PeerError(replies.MAIL_SYNTAX)
    path, rest = _split_path(arguments, 5, replies.MAIL_SYNTAX)
    command = MailCommand(path, **_mail_parameters(rest)) if rest else MailCommand(path)
    _check_path(path, command.smtputf8, replies.MAIL_SYNTAX, replies.MAIL_TOO_LONG)
    return command


def parse_rcpt(arguments: str, *, smtputf8: bool) -> Recipient:
    """The arguments of RCPT: `TO:<path>` and the parameters of RFC 3461."""
    if arguments[:3].upper() != "TO:":
        raise PeerError(replies.RCPT_SYNTAX)
    path, rest = _split_path(arguments, 3, replies.RCPT_SYNTAX)
    if not path:
        raise PeerError(replies.RCPT_EMPTY)
    _check_path(path, smtputf8, replies.RCPT_SYNTAX, replies.RCPT_TOO_LONG)
    return Recipient(path, *_rcpt_parameters(rest)) if rest else Recipient(path)


def parse_bdat(arguments: str) -> tuple[int, bool]:
    """The octets that follow, and whether they are the last (RFC 3030 2). Without a count nobody knows where the next
    command begins, so the connection must end."""
    match = _BDAT.fullmatch(arguments)
    if not match:
        raise PeerError(replies.BDAT_SYNTAX, closes=True)
    return int(match[1]), match[2] is not None


def _split_path(arguments: str, start: int, syntax: Reply) -> tuple[str, str]:
    match = _PATH.fullmatch(arguments, start)
    if not match:
        raise PeerError(syntax)
    return match[1] or "", match[2] or ""


def _check_path(path: str, smtputf8: bool, syntax: Reply, too_long: Reply) -> None:
    if path.isascii():
        length = len(path)
    elif not smtputf8:
        # RFC 6531 3.5: without SMTPUTF8 the mail could not be relayed any further; amavis lets it pass.
        raise PeerError(replies.MAIL_NOT_UTF8)
    elif _LATE_CONTROL.search(path):
        raise PeerError(syntax)
    else:
        length = len(path.encode())
    if length > PATH_LIMIT:
        raise PeerError(too_long)


def _split_parameter(text: str, syntax: Reply) -> tuple[str, str | None]:
    match = _PARAMETER.fullmatch(text)
    if not match:
        raise PeerError(syntax)
    return match[1].upper(), match[2]


def _size(value: str | None) -> int | None:
    """SIZE without a value is ignored, as amavis does."""
    if value is None:
        return None
    if not _SIZE.fullmatch(value):
        raise ValueError(value)
    return int(value)


def _flag(value: str | None) -> bool:
    if value is not None:
        raise ValueError(value)  # RFC 6531 3.4: SMTPUTF8 takes no value
    return True


def _one_of(*allowed: str) -> Callable[[str | None], str]:
    def convert(value: str | None) -> str:
        word = (value or "").upper()
        if word not in allowed:
            raise ValueError(value)
        return word

    return convert


def _as_is(value: str | None) -> str:
    return value or ""


# keyword of MAIL: (field of MailCommand, whether it must have a value, how the value is read)
_MAIL_PARAMETERS: Final[Mapping[str, tuple[str, bool, Callable[[str | None], object]]]] = {
    "SIZE": ("size", False, _size),
    "BODY": ("body", True, _one_of("7BIT", "8BITMIME")),
    "SMTPUTF8": ("smtputf8", False, _flag),
    "RET": ("ret", True, _one_of("FULL", "HDRS")),
    "ENVID": ("envid", True, _as_is),
    "AUTH": ("", True, _as_is),  # never announced; Postfix as a proxy's client sends it all the same
}


def _mail_parameters(text: str) -> dict[str, Any]:
    seen = set()
    fields = {}
    for word in text.split():
        name, value = _split_parameter(word, replies.MAIL_PARAMETERS)
        if name not in _MAIL_PARAMETERS:
            raise PeerError(replies.about(replies.MAIL_PARAMETER_UNKNOWN, word))
        field, needs_value, convert = _MAIL_PARAMETERS[name]
        if needs_value and value is None:
            raise PeerError(replies.about(replies.MAIL_PARAMETER_VALUE, name))
        try:
            converted = convert(value)
        except ValueError:
            raise PeerError(replies.about(replies.MAIL_PARAMETER, name)) from None
        if name in seen:
            raise PeerError(replies.about(replies.MAIL_PARAMETER, name))
        seen.add(name)
        if field:
            fields[field] = converted
    return fields


def _rcpt_parameters(text: str) -> tuple[frozenset[str], str]:
    """NOTIFY's words and ORCPT."""
    values: dict[str, str] = {}
    for word in text.split():
        name, value = _split_parameter(word, replies.RCPT_PARAMETERS)
        if name not in ("NOTIFY", "ORCPT"):
            raise PeerError(replies.about(replies.RCPT_PARAMETER_UNKNOWN, name))
        if value is None:
            raise PeerError(replies.about(replies.RCPT_PARAMETER_VALUE, name))
        if name in values or (name == "ORCPT" and not _ORCPT.fullmatch(value)):
            raise PeerError(replies.about(replies.RCPT_PARAMETER, name))
        values[name] = value
    notify = _notify(values["NOTIFY"]) if "NOTIFY" in values else frozenset[str]()
    return notify, values.get("ORCPT", "")


def _notify(value: str) -> frozenset[str]:
    """RFC 3461 4.1: NEVER alone, or any of the others."""
    words = value.upper().split(",")
    if not _NOTIFY.issuperset(words):
        raise PeerError(replies.about(replies.NOTIFY_VALUE, value))
    if "NEVER" in words and len(set(words)) > 1:
        raise PeerError(replies.about(replies.NOTIFY_COMBINATION, value))
    return frozenset(words)
