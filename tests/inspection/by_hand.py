"""Files that no packer of this system makes, put together octet by octet from their specifications."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping


def rar4(name: str, content: bytes) -> bytes:
    """A RAR 4 archive with one stored member."""

    def block(kind: int, flags: int, body: bytes) -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

    sizes = struct.pack("<IIBIIBBHI", len(content), len(content), 2, zlib.crc32(content), 0, 20, 0x30, len(name), 32)
    member = block(0x74, 0x8000, sizes + name.encode()) + content
    return b"Rar!\x1a\x07\0" + block(0x73, 0, bytes(6)) + member + block(0x7B, 0x4000, b"")


def rar5(name: str, content: bytes) -> bytes:
    """A RAR 5 archive with one stored member."""

    def block(body: bytes) -> bytes:
        head = vint(len(body)) + body
        return struct.pack("<I", zlib.crc32(head)) + head

    def vint(number: int) -> bytes:
        out = bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes((*out, number))

    named = vint(len(name)) + name.encode()
    member = vint(2) + vint(2) + vint(len(content)) + vint(4) + vint(len(content)) + vint(0x20)
    member += struct.pack("<I", zlib.crc32(content)) + vint(0) + vint(1) + named
    return b"Rar!\x1a\x07\1\0" + block(b"\1\0\0") + block(member) + content + block(b"\5\0\0")


def xar(name: str, content: bytes) -> bytes:
    """A XAR archive with one deflated member."""
    packed = zlib.compress(content)
    toc = (
        '<?xml version="1.0" encoding="UTF-8"?><xar><toc><checksum style="sha1"><offset>0</offset><size>20</size>'
        f'</checksum><file id="1"><name>{name}</name><type>file</type><mode>0644</mode><data><length>{len(packed)}'
        f'</length><offset>20</offset><size>{len(content)}</size><encoding style="application/x-gzip"/></data></file>'
        "</toc></xar>"
    ).encode()
    squeezed = zlib.compress(toc)
    import hashlib

    head = struct.pack(">4sHHQQI", b"xar!", 28, 1, len(squeezed), len(toc), 1)
    return head + squeezed + hashlib.sha1(squeezed).digest() + packed


def szdd(content: bytes) -> bytes:
    """A file as Microsoft's compress.exe makes them, all literals."""
    runs = (content[at : at + 8] for at in range(0, len(content), 8))
    return b"SZDD\x88\xf0\x27\x33A\0" + struct.pack("<I", len(content)) + b"".join(b"\xff" + run for run in runs)


def lha(name: str, content: bytes) -> bytes:
    """An LHA archive with one stored member, its header of level 0."""
    crc = 0
    for octet in content:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    body = b"-lh0-" + struct.pack("<III", len(content), len(content), 0) + b"\x20\0"
    body += bytes((len(name),)) + name.encode() + struct.pack("<H", crc)
    return bytes((len(body), sum(body) & 255)) + body + content + b"\0"


def vhd(image: bytes) -> bytes:
    """A fixed virtual disk: the raw disk and a footer."""
    sectors = len(image) // 512
    footer = struct.pack(">8sIIQI4sI4sQQ", b"conectix", 2, 0x10000, 0xFFFFFFFFFFFFFFFF, 0, b"test", 1, b"Wi2k", 0, 0)
    footer = footer[:40] + struct.pack(">QQ", len(image), len(image))
    footer += struct.pack(">HBBI", max(1, sectors // 68), 4, 17, 2)
    rest = footer + struct.pack(">I", 0) + bytes(16 + 1 + 427)
    total = ~sum(rest) & 0xFFFFFFFF
    return image + rest[:64] + struct.pack(">I", total) + rest[68:512]


def onenote(files: Mapping[str, bytes]) -> bytes:
    """A OneNote section's beginning, names as properties, and file data objects."""
    out = bytearray(bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(1008))
    for name in files:
        wide = name.encode("utf-16-le") + b"\0\0"
        out += bytes(6) + struct.pack("<I", len(wide)) + wide
    for content in files.values():
        out += bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac") + struct.pack("<Q12x", len(content)) + content
        out += bytes(-len(content) % 8) + bytes.fromhex("22a7fb71790f0b4abb13899256426b24")
    return bytes(out)


def tnef(name: str, content: bytes, *, long_name: str = "") -> bytes:
    """A winmail.dat with one attachment."""

    def attribute(level: int, identity: int, data: bytes) -> bytes:
        return struct.pack("<BII", level, identity, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    out = b"\x78\x9f\x3e\x22\x01\0" + attribute(1, 0x00089006, struct.pack("<I", 0x10000))
    out += attribute(2, 0x00069002, bytes(14)) + attribute(2, 0x00018010, name.encode() + b"\0")
    out += attribute(2, 0x0006800F, content)
    if long_name:
        wide = long_name.encode("utf-16-le") + b"\0\0"
        padded = wide + bytes(-len(wide) % 4)
        properties = struct.pack("<I", 2) + struct.pack("<II", 0x37050003, 1)
        properties += struct.pack("<III", 0x3707001F, 1, len(wide)) + padded
        out += attribute(2, 0x00069005, properties)
    return out


def compound(streams: Mapping[str, bytes], clsid: bytes = bytes(16)) -> bytes:
    """A compound file of version 3. Streams are named "storage/stream"; each is filled up to 4096 octets with zeros."""
    sectors: list[bytes] = []
    fat: list[int] = []

    def store(octets: bytes) -> int:
        first, count = len(sectors), -(-len(octets) // 512)
        for at in range(count):
            sectors.append(octets[at * 512 : at * 512 + 512].ljust(512, b"\0"))
            fat.append(first + at + 1 if at + 1 < count else 0xFFFFFFFE)
        return first

    entries: list[list] = [["Root Entry", 5, [], 0xFFFFFFFE, 0]]
    index = {"": 0}
    for path, octets in streams.items():
        above = ""
        for step in path.split("/")[:-1]:
            here = f"{above}/{step}"
            if here not in index:
                index[here] = len(entries)
                entries[index[above]][2].append(len(entries))
                entries.append([step, 1, [], 0, 0])
            above = here
        octets = octets.ljust(4096, b"\0")
        entries[index[above]][2].append(len(entries))
        entries.append([path.rpartition("/")[2], 2, [], store(octets), len(octets)])
    directory = _directory(entries, clsid)
    start = store(directory)
    needed = -(-(len(sectors) + 8) // 128)
    first_fat = len(sectors)
    fat += [0xFFFFFFFD] * needed
    table = struct.pack(f"<{len(fat)}I", *fat).ljust(needed * 512, b"\xff")
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIIIIIII", 0, needed, start, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    fats = [first_fat + n for n in range(needed)] + [0xFFFFFFFF] * (109 - needed)
    return head + struct.pack("<109I", *fats) + b"".join(sectors) + table


def _directory(entries: list[list], clsid: bytes) -> bytes:
    """Directory entries; the children of a storage hang on each other's right side."""
    none = 0xFFFFFFFF
    right = dict.fromkeys(range(len(entries)), none)
    for entry in entries:
        children = sorted(entry[2], key=lambda n: (len(entries[n][0]), entries[n][0].upper()))
        entry[2] = children
        for one, other in zip(children, children[1:], strict=False):
            right[one] = other
    out = b""
    for number, (name, kind, children, first, size) in enumerate(entries):
        wide = name.encode("utf-16-le") + b"\0\0"
        child = children[0] if children else none
        out += wide.ljust(64, b"\0") + struct.pack("<HBBIII", len(wide), kind, 1, none, right[number], child)
        out += (clsid if number == 0 else bytes(16)) + bytes(4 + 16) + struct.pack("<IQ", first, size)
    return out.ljust(-(-len(out) // 512) * 512, b"\0")


def ole_package(name: str, content: bytes) -> bytes:
    """The Ole10Native stream of a packaged file."""
    path = b"C:\\temp\\" + name.encode() + b"\0"
    body = b"\2\0" + name.encode() + b"\0" + path + b"\0\0\3\0" + struct.pack("<I", len(path)) + path
    body += struct.pack("<I", len(content)) + content
    return struct.pack("<I", len(body)) + body


def rtf_object(name: str, content: bytes) -> bytes:
    """An RTF text with a packaged file in it, its digits broken by what Word skips."""
    native = ole_package(name, content)[4:]
    head = struct.pack("<II", 0x501, 2) + struct.pack("<I", 8) + b"Package\0" + bytes(8)
    digits = (head + struct.pack("<I", len(native)) + native).hex()
    broken = "\r\n".join(digits[at : at + 64] for at in range(0, len(digits), 64))
    return (
        b"{\\rtf1 text{\\object\\objemb{\\*\\objdata "
        + broken.replace("00", "0{\\*\\x 12}0", 1).replace("{\\*\\x 12}", "\\par ").encode()
        + b"}}}"
    )


def vba_module(source: bytes) -> bytes:
    """A module stream: some p-code, then the source compressed as literals."""
    text = b'Attribute VB_Name = "M"\r\n' + source
    out = b""
    for at in range(0, len(text), 3600):
        piece = text[at : at + 3600]
        runs = b"".join(b"\0" + piece[n : n + 8] for n in range(0, len(piece), 8))
        out += struct.pack("<H", 0xB000 | (len(runs) - 1)) + runs
    return bytes(600) + b"\1" + out


def pdf(body: bytes) -> bytes:
    return b"%PDF-1.5\n1 0 obj\n<</Type/Catalog>>\nendobj\n" + body + b"\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def pdf_with_file(name: str, content: bytes) -> bytes:
    """A PDF with an embedded file whose specification lies in an object stream."""
    spec = f"<</Type/Filespec/F({name})/UF({name})/EF<</F 7 0 R>>>>".encode()
    data = zlib.compress(b"5 0 " + spec)
    stream = b"2 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>stream\n" % len(data) + data
    packed = zlib.compress(content)
    embedded = b"7 0 obj<</Length %d/Filter/FlateDecode>>stream\n" % len(packed) + packed
    return pdf(stream + b"\nendstream\nendobj\n" + embedded + b"\nendstream\nendobj")
