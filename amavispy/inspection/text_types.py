"""Text types - what kind of text a text is: a page, a document, a message, or something that Windows would run.

In: the beginning of a file in lower case. Out: short types, the plainest first, or () when it looks like no kind known
here. Types are told from how the file begins and, for scripts, from calls that only scripts make; amavis' types are
kept, our own stand behind them: hta wsf vbs js ps1 bat reg inf scf iqy slk rdp jnlp desktop library-ms search-ms
searchconnector-ms settingcontent-ms dde.

What a script hides behind its own encoding is not found here; names are the banned rules' matter.

**Failures:** none. Every pattern is linear.
"""

from __future__ import annotations

import re

Types = tuple[str, ...]

_NEAR = 1024
_SKIPPED = b"\xef\xbb\xbf \t\r\n\f\x00"

# What a text starts with, blanks and a byte order mark skipped.
_START = re.compile(
    rb"(?P<html><!doctype html|<(?:html|head|title|body|script|style|table|a href=|h1|meta|iframe)[\s>])"
    rb"|(?P<svg><svg[\s>])|(?P<xml><\?xml[\s?])|(?P<sgml><!doctype|<!entity)|(?P<rtf>\{\\rt)|(?P<ps>%!)|(?P<pdf>%pdf-)"
    rb"|(?P<script>#!)|(?P<uue>begin [0-7]{3,4} |table\r?\n)|(?P<hqx>\(this file must be converted)"
    rb"|(?P<pgpe>-----begin pgp message)|(?P<pgpa>-----begin pgp (?:signature|public|signed))"
    rb"|(?P<deb>!<arch>\ndebian-binary)|(?P<a>!<arch>\n)|(?P<cpio>07070[127][0-9a-f]{20})"
    rb"|(?P<mail>(?:return-path|received|delivered-to|x-original-to|message-id):[ \t])"
    rb"|(?P<url>\[internetshortcut\])|(?P<scf>\[shell\])|(?P<desktop>\[desktop entry\])"
    rb"|(?P<inf>\[(?:version|autorun)\])"
    rb"|(?P<reg>regedit4|windows registry editor )|(?P<iqy>web\r?\n1\r?\n)|(?P<slk>id;p)"
    rb"|(?P<rdp>(?:full address|screen mode id|remoteapplication[a-z]{0,20}):[si]:)"
    rb"|(?P<bat>@echo off|@?setlocal\b|@?(?:start|cmd)(?:\.exe)? /)|(?P<wsf><(?:job|package|component|scriptlet)[\s>])"
    rb"|(?P<lat>\\documentclass|\\documentstyle)"
)
KINDS: dict[str, Types] = {
    "html": ("html",),
    "svg": ("image", "svg"),
    "xml": ("xml",),
    "sgml": ("sgml",),
    "rtf": ("rtf",),
    "ps": ("ps",),
    "pdf": ("pdf",),
    "script": ("txt",),
    "uue": ("uue",),
    "hqx": ("hqx",),
    "pgpe": ("pgp", "pgp.enc"),
    "pgpa": ("pgp", "pgp.asc"),
    "mail": ("mail",),
    "deb": ("deb",),
    "a": ("a",),
    "cpio": ("cpio",),
    "url": ("url",),
    "lat": ("lat",),
}
_HTML_LATER = re.compile(rb"<(?:html|body|script)[\s>]")
# Elements that make an XML file something Windows acts upon.
_XML_ROOT = re.compile(
    rb"<(?:[a-z0-9_]{1,20}:)?(?:(?P<wsf>job|package|component|scriptlet)(?=[\s>].{0,200}<script)"
    rb"|(?P<library_ms>librarydescription)|(?P<searchconnector_ms>searchconnectordescription)"
    rb"|(?P<search_ms>persistedquery)|(?P<settingcontent_ms>pcsettings)|(?P<jnlp>jnlp))[\s>]",
    re.S,
)
# Calls that scripts make: the word to look for, and what must stand around it.
CALLS: tuple[tuple[bytes, re.Pattern[bytes], str], ...] = (
    (b"activexobject", re.compile(rb"\bnew[ \t]{1,20}activexobject[ \t]{0,20}\("), "js"),
    (b"createobject", re.compile(rb"\bcreateobject[ \t]{0,20}\([ \t]{0,20}(?:\"|'|chr|[a-z])"), "vbs"),
    (b"new-object", re.compile(rb"\bnew-object[ \t]{1,20}(?:-com|(?:system\.)?(?:net\.|io\.))"), "ps1"),
    (
        b"powershell",
        re.compile(rb"(?:^|[\n&|@])[ \t]{0,20}(?:start |call |cmd /c )?\"?powershell(?:\.exe)?\"? {1,9}[-/][a-z]"),
        "bat",
    ),
)
_AROUND = 60
_OCCURRENCES = 20
_DDE = re.compile(rb"(?:^|[\n,;\t])\"?[=+@-][ \t]{0,20}[a-z0-9_.\"' +-]{0,80}\|[ \t]{0,5}['\"][^\n]{0,200}!")


def text_types(low: bytes, plain: str) -> Types:
    """The types of a text, `plain` ("asc" or "txt") when it is of no special kind. `low`: its start in lower case."""
    start = low[:_NEAR].lstrip(_SKIPPED)
    if types := started_types(start, low, plain):
        return types
    types = (plain,)
    if b"object" in low or b"powershell" in low:
        types += tuple(script for word, call, script in CALLS if _has_call(low, word, call))
    if b"|" in start and _DDE.search(start):
        types += ("dde",)
    return types


def _has_call(low: bytes, word: bytes, call: re.Pattern[bytes]) -> bool:
    """Whether one of the first occurrences of the word is such a call."""
    at = low.find(word)
    for _ in range(_OCCURRENCES):
        if at < 0 or call.search(low, max(0, at - _AROUND), at + _AROUND):
            return at >= 0
        at = low.find(word, at + 1)
    return False


def started_types(start: bytes, low: bytes, plain: str) -> Types:
    """What the beginning, blanks removed, tells of a text; () for nothing. Used for binary files too."""
    if match := _START.match(start):
        kind = match.lastgroup or ""
        if kind in ("xml", "sgml"):
            return _declared_types(kind, start)
        types = KINDS.get(kind) or (plain, kind)
        return (*types, "hta") if kind == "html" and b"<hta:" in low else types
    if b"<" in start and _HTML_LATER.search(start):
        return ("html", "hta") if b"<hta:" in low else ("html",)
    return ("pdf",) if b"%pdf-" in start else ()


def _declared_types(kind: str, start: bytes) -> Types:
    """A page or a picture may begin with any declaration."""
    if _HTML_LATER.search(start) and not _XML_ROOT.search(start):
        return ("html",)
    if b"<svg" in start:
        return ("image", "svg")
    root = _XML_ROOT.search(start)
    return (kind, (root.lastgroup or "").replace("_", "-")) if root else (kind,)
