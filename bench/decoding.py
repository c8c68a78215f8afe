"""decoding - how many mails a second are split, decoded, and taken apart with their types.

    python -m bench.decoding [--rounds N]

For mails of 4 KB, 30 KB, 300 KB and 10 MB, single-threaded CPU time, best of some rounds: the structure alone, the
structure with all transfer encodings undone, and the whole decoder with types, names and unpackers. The goal is the
prototypes' speed by half. They were measured on a machine that undid 10 MB of base64 in 15 ms; the same is measured
here in the same run, and the goal scaled by it.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import sys
import time
from collections.abc import Callable
from random import Random

from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.inspection.mime import split
from amavispy.inspection.transfer_encodings import decodings
from amavispy.mail.message import Content
from tests.corpus import build

_ENTITIES = 1500
_PROTOTYPES = {"4 KB": 31_900, "30 KB": 11_000, "300 KB": 1_700, "10 MB": 53}  # messages a second, decoding
_THEIR_BASE64 = 0.015  # seconds for 10 MB
_RECEIVED = (
    b"Received: from a.example.org (a.example.org [192.0.2.1])\r\n\tby mx.example.net (Postfix) with ESMTPS id 4711\r\n"
    b"\tfor <bob@example.net>; Mon, 01 Jun 2026 12:00:00 +0000\r\n"
) * 4


def mails() -> dict[str, bytes]:
    random = Random(1)
    return {
        "4 KB": _RECEIVED + build.text(3300),
        "30 KB": _RECEIVED + _text_and_html(29_000),
        "300 KB": _RECEIVED + _attachment(random.randbytes(220_000)),
        "10 MB": _RECEIVED + _attachment(random.randbytes(7_700_000)),
    }


def _text_and_html(size: int) -> bytes:
    line = b"<p>The committee met on <b>Monday</b> at caf=C3=A9.</p>=20\r\n"
    head = b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    html = head + line * (size // 2 // len(line))
    plain = build.entity(b"The committee met on Monday.\r\n" * (size // 60), "text/plain", encoding="7bit")
    return build.multipart([plain, html], "alternative")


def _attachment(content: bytes) -> bytes:
    text = build.entity(b"The committee met on Monday.\r\n" * 100, "text/plain", encoding="7bit")
    return build.multipart([text, build.entity(content, "application/pdf", "minutes.pdf")])


def decode_all(octets: bytes) -> None:
    for entity in split(octets, _ENTITIES).entities:
        if not entity.is_container:
            decodings(octets[entity.start : entity.end], entity.encodings[0] if entity.encodings else "")


def seconds(work: Callable[[], object], rounds: int) -> float:
    """CPU time of one call, the best of some rounds of a few calls."""
    started = time.process_time()
    work()
    calls = max(1, int(0.02 / max(1e-6, time.process_time() - started)))
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            work()
        best = min(best, (time.process_time() - started) / calls)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.decoding", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    encoded = base64.encodebytes(Random(2).randbytes(7_647_000))
    scale = _THEIR_BASE64 / seconds(lambda: binascii.a2b_base64(encoded), rounds)
    print(f"10 MB of base64 in {_THEIR_BASE64 / scale * 1000:.1f} ms, on the prototypes' machine in 15 ms\n")
    print(
        f"{'mail':8}{'octets':>10}{'structure':>12}{'decoding':>12}{'goal here':>12}{'':>8}{'whole':>12}   messages/s"
    )
    decoder = Decoder(Limits())
    is_met = True
    for name, octets in mails().items():
        structure = 1 / seconds(lambda m=octets: split(m, _ENTITIES), rounds)
        decoding = 1 / seconds(lambda m=octets: decode_all(m), rounds)
        whole = 1 / seconds(lambda m=octets: decoder.decode(Content(m)), rounds)
        goal = _PROTOTYPES[name] / 2 * scale
        is_met &= decoding >= goal
        verdict = "met" if decoding >= goal else "missed"
        print(f"{name:8}{len(octets):10}{structure:12.0f}{decoding:12.0f}{goal:12.0f}{verdict:>8}{whole:12.0f}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
