"""Small files that want to be large: how they are built, and a probe that decodes one in a process of its own.

python -m tests.inspection.bombs NAME     prints what became of it as JSON: seconds, hold, peaks in MiB
"""

from __future__ import annotations

import json
import lzma
import mmap
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.mail.message import Content
from tests.corpus import build
from tests.inspection.children import Children, minors
from tests.inspection.quine import gzip_quine

ZEROS = bytes(1 << 20)
LARGE = 360 << 20  # more than any mail may be decoded into


def zeros_deflated(size: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    whole, rest = divmod(size, len(ZEROS))
    return b"".join([packer.compress(ZEROS) for _ in range(whole)] + [packer.compress(ZEROS[:rest]), packer.flush()])


def raw_zip(members: list[tuple[str, bytes, int]]) -> bytes:
    """A zip of (name, deflated octets, size in clear); the size may be a lie."""
    body, directory = bytearray(), bytearray()
    for name, packed, size in members:
        fields = struct.pack("<HHHHHIII", 20, 0, 8, 0, 0, 0, len(packed), size & 0xFFFFFFFF)
        at = len(body)
        body += b"PK\3\4" + fields + struct.pack("<HH", len(name), 0) + name.encode() + packed
        rest = struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, at)
        directory += b"PK\1\2" + struct.pack("<H", 20) + fields + rest + name.encode()
    count = min(len(members), 0xFFFF)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)


def zip_of_zeros() -> bytes:
    return raw_zip([("zeros.bin", zeros_deflated(LARGE), LARGE)])


def zip_that_lies() -> bytes:
    """It declares ten octets and has very many."""
    return raw_zip([("small.txt", zeros_deflated(LARGE), 10)])


def zip_of_many_zeros() -> bytes:
    packed = zeros_deflated(9 << 20)
    return raw_zip([(f"{n}.bin", packed, 9 << 20) for n in range(200)])


def nest_of_forty_two() -> bytes:
    """Zips of sixteen zips each, five levels of them, as in the file that the name is from."""
    inner = raw_zip([("zeros.bin", zeros_deflated(LARGE // 4), LARGE // 4)])
    for _ in range(5):
        inner = build.zip_of({f"{n}.zip": inner for n in range(16)})
    return inner


def million_entries() -> bytes:
    entry = b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 1_000_000 * len(entry), 0, 0)
    return b"PK\3\4" + bytes(26) + entry * 1_000_000 + end


def million_members() -> bytes:
    """The same in local headers, without any directory."""
    return (b"PK\3\4" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a") * 1_000_000


def zip64_lies() -> bytes:
    """Sizes and offsets beyond any file, and a directory that is longer than the disk."""
    extra = struct.pack("<HHQQQ", 1, 24, 1 << 62, 1 << 62, 1 << 61)
    entry = b"PK\1\2" + struct.pack("<HHHHHHIII", 45, 45, 0, 8, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    entry += struct.pack("<HHHHHII", 1, len(extra), 0, 0, 0, 0, 0xFFFFFFFF) + b"a" + extra
    good = raw_zip([("zeros.bin", zeros_deflated(LARGE), 0xFFFFFFFF)])
    body = good[: good.find(b"PK\1\2")]
    end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1 << 60, 1 << 60, 1 << 60, len(body))
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(body) + len(entry), 1)
    return body + entry + end64 + locator + b"PK\5\6" + b"\xff" * 16 + b"\0\0"


def overlapping() -> bytes:
    """Every member is the same kernel: one local header, two thousand entries of the directory."""
    kernel = zeros_deflated(30 << 20)
    whole = raw_zip([("a", kernel, 30 << 20)])
    at = whole.find(b"PK\1\2")
    entry = whole[at : whole.find(b"PK\5\6")]
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2000, 2000, 2000 * len(entry), at, 0)
    return whole[:at] + entry * 2000 + end


def quoted_overlap() -> bytes:
    """Each member quotes the next one's header in a stored block and goes on with its data."""
    data, size = zeros_deflated(12 << 20), 12 << 20
    crc = 0
    members: list[tuple[bytes, int]] = []
    body = b""
    for number in reversed(range(250)):
        if body:
            data = b"\0" + struct.pack("<HH", len(body), len(body) ^ 0xFFFF) + body + data
            size += len(body)
        name = b"%03d" % number
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, crc, len(data), size & 0xFFFFFFFF, 3, 0)
        body = b"PK\3\4" + fields + name
        members.insert(0, (fields + b"\0" * 14, len(data) + len(body)))
    file = body + data
    directory = b"".join(
        b"PK\1\2" + struct.pack("<H", 20) + fields[:26] + bytes(10) + struct.pack("<I", len(file) - length)
        + b"%03d" % number
        for number, (fields, length) in enumerate(members)
    )  # fmt: skip
    count = len(members)
    return file + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(file), 0)


def deep_nest() -> bytes:
    content = b"the innermost\n"
    for level in range(60):
        content = build.zip_of({f"{level}.zip": content})
    return content


def gzip_of_zeros() -> bytes:
    return b"\x1f\x8b\x08\0\0\0\0\0\0\3" + zeros_deflated(LARGE) + bytes(8)


def gzip_of_gzip() -> bytes:
    """Zeros packed twice: a few kilobytes."""
    return build.gzip_of(gzip_of_zeros())


def xz_of_zeros() -> bytes:
    packer = lzma.LZMACompressor(preset=0)
    return b"".join([packer.compress(ZEROS) for _ in range(LARGE >> 20)] + [packer.flush()])


def piped(*command: str, size: int) -> bytes:
    """What a packer makes of a file of nothing, on its output or in a file."""
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/zeros", "wb") as file:
            file.truncate(size)
        done = subprocess.run(command, check=True, capture_output=True, cwd=directory)
        made = [path for path in Path(directory).iterdir() if path.name != "zeros"]
        return made[0].read_bytes() if made else done.stdout


def seven_zip_of_zeros() -> bytes:
    return piped("7zz", "a", "-bso0", "-t7z", "-mx1", "out", "zeros", size=LARGE)


def zst_of_zeros() -> bytes:
    return piped("zstd", "-q", "-c", "zeros", size=LARGE * 2)


def lzo_of_zeros() -> bytes:
    """Only an external tool reads it."""
    return piped("lzop", "-c", "zeros", size=LARGE)


def sparse_tar() -> bytes:
    """A hole of eight gigabytes."""
    return piped("tar", "--sparse", "-cf", "out", "zeros", size=8 << 30)


def pdf_of_zeros() -> bytes:
    packed = zlib.compress(b"")[:2] + zeros_deflated(LARGE) + bytes(4)
    head = b"7 0 obj<</Type/EmbeddedFile/Filter/FlateDecode/Length %d>>stream\n" % len(packed)
    return b"%PDF-1.5\n" + head + packed + b"\nendstream endobj\n%%EOF"


def pdf_of_object_streams() -> bytes:
    packed = zlib.compress(b"")[:2] + zeros_deflated(LARGE) + bytes(4)
    one = b"2 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>stream\n" % len(packed) + packed
    return b"%PDF-1.5\n" + (one + b"\nendstream endobj\n") * 20 + b"3 0 obj<</S/Launch>>endobj\n%%EOF"


def quine() -> bytes:
    """A gzip file that unpacks to itself."""
    return gzip_quine()


BOMBS: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        zip_of_zeros, zip_that_lies, zip_of_many_zeros, nest_of_forty_two, million_entries, million_members, zip64_lies,
        overlapping, quoted_overlap, deep_nest, gzip_of_zeros, gzip_of_gzip, xz_of_zeros, seven_zip_of_zeros,
        zst_of_zeros, lzo_of_zeros, sparse_tar, pdf_of_zeros, pdf_of_object_streams, quine,
    )
}  # fmt: skip


def probe(name: str) -> dict[str, object]:
    """Decode a mail with this bomb as a worker would, then an ordinary one; what it took and what was said of it."""
    children = Children()
    with tempfile.TemporaryFile() as file:
        # The mail lies in a spool file, as large mail does; making it was not the decoder's work.
        subprocess.run([sys.executable, "-m", "tests.inspection.bombs", "--make", name], stdout=file, check=True)
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        decoder = Decoder(Limits(), None, children.table)
        decoder.decode(Content(build.text()))
        began = time.monotonic()
        decoded = decoder.decode(Content(content))
        seconds = time.monotonic() - began
        size = len(content)
    following = decoder.decode(Content(build.exe_zip()))
    child_peak = children.peak()
    children.end()
    return {
        "seconds": round(seconds, 2),
        "size": size,
        "hold": decoded.hold,
        "minors": minors(decoded),
        "parts": len(decoded.parts),
        "next_parts": [part.names for part in following.parts if part.names],
        "next_minors": minors(following),
        "worker_peak": memory_peak(),
        "child_peak": child_peak,
    }


def memory_peak() -> int:
    """MiB. Not ru_maxrss: that one a process inherits from the one that started it, exec or not."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def main(arguments: list[str]) -> None:
    if arguments[0] == "--make":
        bomb = BOMBS[arguments[1]]()
        encoding = "8bit" if len(bomb) > 1 << 24 else "base64"  # made quickly
        part = build.entity(bomb, "application/octet-stream", "bomb.bin", encoding=encoding)
        sys.stdout.buffer.write(build.multipart([build.plain(), part]))
    else:
        print(json.dumps(probe(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
