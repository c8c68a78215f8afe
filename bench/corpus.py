"""corpus - the mails that peers are compared with, the same from one seed on every run."""

from __future__ import annotations

from random import Random

from tests.corpus import build

NAMES = ("4KB", "30KB", "300KB", "1MBzip", "10MB")


def mail(name: str) -> bytes:
    """A clean mail of this kind, lines ended by CRLF: text; HTML; PDF and PNG; a zip of documents; one large file."""
    random = Random(6)
    if name == "4KB":
        return build.text(4096)
    if name == "30KB":
        return build.html(30_000)
    if name == "300KB":
        pdf = build.PDF + random.randbytes(110_000) + b"\n%%EOF\n"
        png = build.PNG + random.randbytes(105_000)
        return build.multipart([build.plain(), build.attachment(pdf, "a.pdf"), build.attachment(png, "b.png")])
    if name == "1MBzip":
        words = [random.randbytes(4).hex().encode() + b" " for _ in range(20_000)]
        documents = {f"document-{n}.txt": b"".join(random.choices(words, k=15_000)) for n in range(11)}
        return build.multipart([build.plain(), build.attachment(build.zip_of(documents), "documents.zip")])
    return build.multipart([build.plain(), build.attachment(random.randbytes(7_500_000), "large.dat")])
