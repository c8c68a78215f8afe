"""Corpus - builds the mails that tests speak of, octet by octet, the same on every run.

Each function returns a whole mail as `bytes` with CRLF line ends, or (`zip_of`, `gzip_of` ...) the octets of a file to
attach. Nothing here uses amavispy, so that a test never compares the product with itself.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

# The two signatures in halves: a scanner that looks at this source shall stay calm.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"

_BASE: Mapping[str, str] = {
    "From": "Ann <ann@example.org>",
    "To": "Bob <bob@example.net>",
    "Subject": "minutes of the meeting",
    "Date": "Mon, 01 Jun 2026 12:00:00 +0000",
    "Message-ID": "<one@example.org>",
}
_WORDS = b"The committee met on Monday and agreed upon the date of the next meeting without further discussion.\r\n"


def header(fields: Mapping[str, str | None] | None = None) -> bytes:
    """The usual header section without its empty line; a field given as None is left out."""
    merged = {**_BASE, **(fields or {})}
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in merged.items() if value is not None)


def mail(body: bytes = b"hello\r\n", fields: Mapping[str, str | None] | None = None) -> bytes:
    return header(fields) + b"\r\n" + body


def text(size: int = 4096) -> bytes:
    """A clean plain text mail of about `size` octets."""
    head = header({"MIME-Version": "1.0", "Content-Type": "text/plain; charset=us-ascii"}) + b"\r\n"
    lines = max(1, (size - len(head)) // len(_WORDS))
    return head + _WORDS * lines


def entity(
    content: bytes,
    kind: str = "application/octet-stream",
    name: str | None = None,
    *,
    encoding: str = "base64",
    extra: Sequence[str] = (),
) -> bytes:
    """A MIME entity: header, empty line, encoded content ending in CRLF."""
    lines = [f"Content-Type: {kind}"]
    if encoding:
        lines.append(f"Content-Transfer-Encoding: {encoding}")
    if name is not None:
        lines.append(f'Content-Disposition: attachment; filename="{name}"')
    lines += extra
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + encoded(content, encoding)


def encoded(content: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(content).replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def multipart_body(
    entities: Iterable[bytes], boundary: str = "b1", *, preamble: bytes = b"", epilogue: bytes = b""
) -> bytes:
    mark = boundary.encode()
    parts = b"".join(b"--" + mark + b"\r\n" + part for part in entities)
    return preamble + parts + b"--" + mark + b"--\r\n" + epilogue


def multipart(
    entities: Iterable[bytes],
    subtype: str = "mixed",
    boundary: str = "b1",
    *,
    fields: Mapping[str, str | None] | None = None,
    preamble: bytes = b"",
    epilogue: bytes = b"",
) -> bytes:
    """A whole multipart mail."""
    kind = f'multipart/{subtype}; boundary="{boundary}"'
    head = header({"MIME-Version": "1.0", "Content-Type": kind, **(fields or {})})
    return head + b"\r\n" + multipart_body(entities, boundary, preamble=preamble, epilogue=epilogue)


def plain(content: bytes = b"see the attachment\r\n") -> bytes:
    return entity(content, "text/plain; charset=us-ascii", encoding="7bit")


def attachment(content: bytes, name: str, kind: str = "application/octet-stream") -> bytes:
    """A mail with a line of text and one file attached."""
    return multipart([plain(), entity(content, kind, name)])


def html(size: int = 30_000) -> bytes:
    """A multipart/alternative mail of plain text and HTML."""
    page = (
        b"<html><body>\r\n"
        + b"<p>The committee met on <b>Monday</b>.</p>\r\n" * max(1, size // 44)
        + b"</body></html>\r\n"
    )
    return multipart([plain(), entity(page, "text/html; charset=utf-8", encoding="8bit")], "alternative")


def eicar() -> bytes:
    return attachment(EICAR, "eicar.com")


def eicar_zip() -> bytes:
    return attachment(zip_of({"eicar.com": EICAR}), "eicar.zip", "application/zip")


def exe_zip(name: str = "setup.exe") -> bytes:
    """A Windows program inside a zip file named x.zip."""
    return attachment(zip_of({name: exe()}), "x.zip", "application/zip")


def double_extension() -> bytes:
    return attachment(exe(), "invoice.pdf.exe")


def gtube() -> bytes:
    return mail(b"spam follows\r\n" + GTUBE + b"\r\n")


def encrypted_zip() -> bytes:
    return attachment(encrypted_zip_of({"secret.txt": b"x" * 40}), "secret.zip", "application/zip")


def nested_zip(depth: int) -> bytes:
    """A zip in a zip in a zip ... `depth` of them, a text file in the innermost."""
    content, name = b"the innermost\n", "inner.txt"
    for level in range(depth):
        content, name = zip_of({name: content}), f"level{level}.zip"
    return attachment(content, name, "application/zip")


def nested_multiparts(depth: int, leaf: bytes | None = None) -> bytes:
    """`depth` multiparts in one another, the innermost with one leaf."""
    content = leaf or plain()
    for level in range(depth):
        mark = f"n{level}"
        head = f'Content-Type: multipart/mixed; boundary="{mark}"\r\n\r\n'.encode()
        content = head + multipart_body([content], mark)
    return header({"MIME-Version": "1.0"}) + content


def nested_messages(depth: int, innermost: bytes | None = None) -> bytes:
    """`depth` message/rfc822 in one another."""
    content = innermost or mail()
    for _ in range(depth):
        content = header({"MIME-Version": "1.0", "Content-Type": "message/rfc822"}) + b"\r\n" + content
    return content


def many_parts(count: int) -> bytes:
    return multipart([plain(b"x\r\n")] * count)


def uuencoded(content: bytes, name: str = "setup.exe") -> bytes:
    """A text mail with a file in uuencode between two lines of text."""
    import binascii

    rows = [binascii.b2a_uu(content[i : i + 45]).rstrip(b"\n") for i in range(0, len(content), 45)]
    block = b"\r\n".join([b"begin 644 " + name.encode(), *rows, b"`", b"end"])
    return mail(b"before\r\n" + block + b"\r\nafter\r\n", {"Content-Type": "text/plain"})


def exe() -> bytes:
    """A small but well-formed PE header, as Windows programs start."""
    dos = b"MZ" + b"\0" * 58 + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, 0xE0, 0x010F)
    return dos + coff + struct.pack("<H", 0x10B) + b"\0" * 222 + b"\0" * 512


def dll() -> bytes:
    octets = bytearray(exe())
    struct.pack_into("<H", octets, 64 + 22, 0x210E)
    return bytes(octets)


def zip_of(members: Mapping[str, bytes], *, level: int = 6) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 6, 1, 12, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def many_members_zip(count: int) -> bytes:
    return zip_of({f"file{i:05}.txt": b"number %d\n" % i * 20 for i in range(count)})


def encrypted_zip_of(members: Mapping[str, bytes]) -> bytes:
    """A zip whose members carry the encryption flag; their content is not really encrypted."""
    octets = bytearray(zip_of(members))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = octets.find(signature)
        while at >= 0:
            octets[at + offset] |= 1
            at = octets.find(signature, at + 4)
    return bytes(octets)


def tar_of(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def gzip_of(content: bytes, name: str = "") -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=out, mtime=0) as stream:
        stream.write(content)
    return out.getvalue()


def bzip2_of(content: bytes) -> bytes:
    return bz2.compress(content)


def xz_of(content: bytes) -> bytes:
    return lzma.compress(content)


def gzip_bomb(size: int) -> bytes:
    """A gzip file that grows to `size` octets of zeros, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    whole, rest = divmod(size, len(block))
    return b"".join([packer.compress(block) for _ in range(whole)] + [packer.compress(block[:rest]), packer.flush()])


def office_file() -> bytes:
    """The start of a compound (OLE2) document."""
    return bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 1016
