"""Names - every way to tell a file's name that some reader of mail understands; the name is always setup.exe.

Each entry is the header lines that stand in for Content-Type and Content-Disposition of an attachment whose octets are
of no interest.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

NAME = "setup.exe"
_WORD = "=?utf-8?B?" + base64.b64encode(NAME.encode()).decode() + "?="
_TYPE = "Content-Type: application/octet-stream"

NAMES: Mapping[str, tuple[str, ...]] = {
    "filename in quotes": (_TYPE, 'Content-Disposition: attachment; filename="setup.exe"'),
    "filename without quotes": (_TYPE, "Content-Disposition: attachment; filename=setup.exe"),
    "filename with blanks behind": (_TYPE, 'Content-Disposition: attachment; filename="setup.exe  "'),
    "filename and junk": (_TYPE, "Content-Disposition: attachment; filename=setup.exe junk"),
    "filename in single quotes": (_TYPE, "Content-Disposition: attachment; filename='setup.exe'"),
    "filename without end": (_TYPE, 'Content-Disposition: attachment; filename="setup.exe'),
    "filename with escapes": (_TYPE, 'Content-Disposition: attachment; filename="set\\up.e\\xe"'),
    "filename folded": (_TYPE, 'Content-Disposition: attachment;\r\n\tfilename="setup\r\n .exe"'),
    "filename folded to nothing": (_TYPE, 'Content-Disposition: attachment;\r\n filename\r\n =\r\n "setup.exe"'),
    "filename without semicolon": (_TYPE, 'Content-Disposition: attachment filename="setup.exe"'),
    "filename with comma": (_TYPE, 'Content-Disposition: attachment, filename="setup.exe"'),
    "filename in capitals": (_TYPE, 'CONTENT-DISPOSITION: ATTACHMENT; FILENAME="setup.exe"'),
    "filename behind comment": (_TYPE, 'Content-Disposition: attachment; (a;comment) filename="setup.exe"'),
    "filename with comment": (_TYPE, "Content-Disposition: attachment; filename=setup.exe (a comment)"),
    "filename cut by NUL": (_TYPE, 'Content-Disposition: attachment; filename="setup.exe\0.txt"'),
    "filename with NUL": (_TYPE, 'Content-Disposition: attachment; filename="set\0up.exe"'),
    "filename with CR": (_TYPE, 'Content-Disposition: attachment; filename="set\rup.exe"'),
    "filename twice, last": (_TYPE, 'Content-Disposition: attachment; filename="a.txt"; filename="setup.exe"'),
    "filename twice, first": (_TYPE, 'Content-Disposition: attachment; filename="setup.exe"; filename="a.txt"'),
    "disposition twice, last": (
        _TYPE, "Content-Disposition: attachment; filename=a.txt", "Content-Disposition: inline; filename=setup.exe",
    ),
    "disposition twice, first": (
        _TYPE, "Content-Disposition: attachment; filename=setup.exe", "Content-Disposition: inline; filename=a.txt",
    ),
    "disposition with blank": (_TYPE, 'Content-Disposition : attachment; filename="setup.exe"'),
    "disposition folded in its name": (_TYPE, 'Content-Disposition\r\n : attachment; filename="setup.exe"'),
    "name of the type": ('Content-Type: application/octet-stream; name="setup.exe"',),
    "name of the type beside another": (
        'Content-Type: application/octet-stream; name="setup.exe"', 'Content-Disposition: attachment; filename="a.txt"',
    ),
    "name of the second type": ("Content-Type: text/plain", 'Content-Type: application/x-zip; name="setup.exe"'),
    "encoded word in base64": (_TYPE, f'Content-Disposition: attachment; filename="{_WORD}"'),
    "encoded word in quoted-printable": (
        _TYPE, 'Content-Disposition: attachment; filename="=?us-ascii?q?setup=2E?= =?us-ascii?q?exe?="',
    ),
    "encoded word without quotes": (_TYPE, f"Content-Disposition: attachment; filename={_WORD}"),
    "encoded word amid text": (_TYPE, 'Content-Disposition: attachment; filename="set=?us-ascii?q?up=2Eexe?="'),
    "extended": (_TYPE, "Content-Disposition: attachment; filename*=utf-8''setup%2Eexe"),
    "extended with language": (_TYPE, "Content-Disposition: attachment; filename*=utf-8'en'setup%2Eexe"),
    "extended without charset": (_TYPE, "Content-Disposition: attachment; filename*=setup%2Eexe"),
    "extended in quotes": (_TYPE, "Content-Disposition: attachment; filename*=\"utf-8''setup%2Eexe\""),
    "extended in UTF-16": (_TYPE, "Content-Disposition: attachment; filename*=utf-16be''"
                           + "".join(f"%{octet:02X}" for octet in NAME.encode("utf-16-be"))),
    "extended beside plain": (
        _TYPE, "Content-Disposition: attachment; filename=\"a.txt\"; filename*=utf-8''setup%2Eexe",
    ),
    "plain beside extended": (
        _TYPE, "Content-Disposition: attachment; filename*=utf-8''a%2Etxt; filename=\"setup.exe\"",
    ),
    "continued": (_TYPE, 'Content-Disposition: attachment; filename*0="set"; filename*1="up.e"; filename*2="xe"'),
    "continued in disorder": (_TYPE, 'Content-Disposition: attachment; filename*1="up.exe"; filename*0="set"'),
    "continued and extended": (
        _TYPE, "Content-Disposition: attachment; filename*0*=utf-8''set; filename*1=\"up\"; filename*2*=%2Eexe",
    ),
    "continued twice": (
        _TYPE, 'Content-Disposition: attachment; filename*0="set"; filename*1=".txt"; filename*1="up.exe"',
    ),
    "continued with a gap": (
        _TYPE, 'Content-Disposition: attachment; filename*0="setup.exe"; filename*2=".txt"',
    ),
    "continued beside plain": (
        _TYPE, 'Content-Disposition: attachment; filename="a.txt"; filename*0="set"; filename*1="up.exe"',
    ),
    "continued encoded word": (
        _TYPE, 'Content-Disposition: attachment; filename*0="=?us-ascii?q?setup"; filename*1="=2Eexe?="',
    ),
}  # fmt: skip


def attachment(lines: tuple[str, ...]) -> bytes:
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\nnothing of interest\r\n"
