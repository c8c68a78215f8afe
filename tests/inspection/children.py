"""A decoder with its confined children, as wiring makes it, for tests that unpack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from amavispy.inspection.archives import UNPACKERS
from amavispy.inspection.budget import Limits
from amavispy.inspection.confinement import Grants, for_decoding, for_tools
from amavispy.inspection.decoder import Decoded, Decoder
from amavispy.inspection.external_tools import confinable, find_tools, tool_table
from amavispy.inspection.passwords import Passwords
from amavispy.inspection.sandbox import Sandbox
from amavispy.inspection.unpacking import Unpacking
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part
from amavispy.server.children import fork
from tests.corpus import build

PAYLOAD = b"a harmless payload in a known place, 0123456789abcdef\n" * 3


def start(run: Any) -> int:
    return fork(run, ())


class Children:
    """Both kinds of children, and the decoders that share them."""

    def __init__(self) -> None:
        grants, tools = Grants.of_this_system(), find_tools()
        self.decoder_child = Sandbox(start, UNPACKERS, partial(for_decoding, grants))
        confine = partial(for_tools, grants, *confinable(tools))
        self.tool_child = Sandbox(start, tool_table(tools), confine, "tool decoder")
        self.table = Unpacking(self.decoder_child, self.tool_child).table()

    def decode(self, mail: bytes, passwords: Passwords | None = None, limits: Limits | None = None) -> Decoded:
        return Decoder(limits or Limits(), None, self.table, passwords).decode(Content(mail))

    def unpacked(self, octets: bytes, name: str = "attached.bin", **options: Any) -> Decoded:
        return self.decode(build.attachment(octets, name), **options)

    def peak(self) -> int:
        """The most memory that one of the children has had so far, in MiB."""
        pids = [child.pid for child in (self.decoder_child, self.tool_child) if child.pid]
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return max((int(text.split("VmHWM:")[1].split()[0]) >> 10 for text in texts), default=0)

    def end(self) -> None:
        self.decoder_child.end()
        self.tool_child.end()


@contextmanager
def running() -> Iterator[Children]:
    children = Children()
    try:
        yield children
    finally:
        children.end()


def holders(decoded: Decoded, content: bytes = PAYLOAD) -> list[Part]:
    """The innermost parts that have the content."""
    return [part for part in decoded.parts if part.octets and part.is_leaf and content in bytes(part.octets)]


def minors(decoded: Decoded) -> list[int]:
    return [unchecked.minor for unchecked in decoded.unchecked]
