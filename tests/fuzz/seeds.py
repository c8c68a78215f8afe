"""seeds - what each target starts from: the corpus, the dialogues, and everything a fuzzer has found before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.corpus import build

FOUND = Path(__file__).parent / "found"
_DIALOGUES = Path(__file__).parent.parent / "dialogues"


def seeds(target: str) -> Iterator[bytes]:
    """Inputs for one target; those in found/ come first, they once broke something."""
    for path in sorted((FOUND / target).glob("*")):
        yield path.read_bytes()
    yield from _SEEDS[target]()


def _dialogues() -> Iterator[bytes]:
    for path in sorted(_DIALOGUES.glob("**/*.txt")):
        lines = path.read_text(errors="surrogateescape").splitlines()
        said = [line[2:].strip() for line in lines if line.startswith("C:")]
        yield b"\x10" + "\r\n".join([*said, ""]).encode("utf-8", "surrogateescape")


def _mails() -> Iterator[bytes]:
    yield build.text(2000)
    yield build.html(3000)
    yield build.multipart([build.plain(), build.attachment(build.exe(), "setup.exe")])
    yield from (build.eicar(), build.eicar_zip(), build.exe_zip(), build.double_extension(), build.encrypted_zip())
    yield from (build.nested_zip(3), build.nested_multiparts(5), build.nested_messages(4), build.many_parts(20))


def _files() -> Iterator[bytes]:
    yield build.zip_of({"a.txt": b"hello", "setup.exe": build.exe()})
    yield from (build.exe(), build.dll(), build.PDF, build.PNG)


def _requests() -> Iterator[bytes]:
    yield b"request=AM%2ePDP\nsender=<a%40x>\nrecipient=<b@c>\ntempdir=/var/lib/amavispy/tmp/afX\nmail_file=/x\n\n"
    yield b"request=release\r\nmail_id=Jnk7NzYB8pvl\r\nsecret_id=x\r\nquar_type=F\r\n\r\nrequest: AM.PDP\r\n\r\n"
    yield b"client_address=IPv6:2001:db8::1\r\nclient_port=25\r\npolicy_bank=A,B\r\n\r\n"


def _spamd() -> Iterator[bytes]:
    yield b"SPAMD/1.1 0 EX_OK\r\nContent-length: 20\r\nSpam: True ; 12.5 / 5.0\r\n\r\n 5.0 GTUBE  BODY: x\r\n"
    yield b"SPAMD/1.1 76 Bad header line: x\r\n\r\n"


_PROXY = (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12))

_SEEDS = {
    "smtp": _dialogues,
    "ampdp": _requests,
    "clamd": lambda: iter((b"1: stream: OK\x002: fd[9]: Eicar FOUND\0", b"3: INSTREAM size limit exceeded. ERROR\0")),
    "spamd": _spamd,
    "proxy": lambda: iter(_PROXY),
    "headers": _mails,
    "mime": _mails,
    "archive": _files,
}
