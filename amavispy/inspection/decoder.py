"""Decoder - takes a mail apart: MIME structure, transfer encodings, file types, and level by level what is packed.

In: a mail's Content. Out: `Decoded`: the flat tree of Parts as amavis numbers it, what could not be looked into, the
MIME errors, and the *hold* text when a limit stopped it (specification, chapter 6). It works level by level, never
recursively: level 1 is the MIME structure, level n+1 holds what the parts of level n contained. Attached messages are
unpacked like archives. It knows nothing of rules, recipients or scanners.

Numbers: the leaves of a MIME structure in the mail's order, then its containers (each between its odd preamble and
epilogue), then the members of archives.

**Failures:** TimeoutError when the message's time is over. Hostile input is no failure: whatever cannot be decoded
stays as it is and is still scanned.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from amavispy.deadline import Deadline
from amavispy.inspection.archives import LOCKED, kinds
from amavispy.inspection.budget import Budget, LimitExceeded, Limits
from amavispy.inspection.file_types import FileTypes
from amavispy.inspection.mime import MESSAGE_TYPES
from amavispy.inspection.mime_contents import EXTERNAL, PARTIAL, contents, has_contents, note_kind
from amavispy.inspection.mime_parameters import bounded
from amavispy.inspection.mime_stage import MimeStage
from amavispy.inspection.packed import CannotUnpack, Packed, Remark, Unpacked
from amavispy.inspection.passwords import Passwords
from amavispy.inspection.tree import Node, Tree
from amavispy.inspection.unpacking import Unpack, in_process
from amavispy.mail.message import Content
from amavispy.mail.verdict import HeaderDefect, Part, Unchecked

_log = logging.getLogger("amavispy.decoder")

_ERRORS_LIMIT = 250
_ALWAYS_MEANT = ("cdf-ms",)  # not the first of a document's types, but what it is
_TEXTS = frozenset(("asc", "txt", "html"))
_TEXT = 65_536  # octets of a text in which a password is looked for
_MAIL_ENDINGS = (".eml", ".mht", ".mhtml", ".nws", ".mim")
_FIELD = re.compile(rb"[!-9;-~]{1,76}:[ \t]")
_HEADER = 4096  # octets in which a member's MIME-Version must stand
_MESSAGES = MESSAGE_TYPES | {PARTIAL, EXTERNAL}
_MINORS = (("U", 0), ("C", 1), ("B", 3))
_REASONS = {0: "undecipherable", 1: "encrypted", 3: "ambiguous content"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a mail. In `parts` parents stand before their children.

    `mime_errors` is at most one defect; `hold` is "" unless a limit was exceeded.
    """

    parts: tuple[Part, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    mime_errors: tuple[HeaderDefect, ...] = ()
    hold: str = ""


_Unpack = Callable[[Node], None]


class Decoder:
    """Made once before forking: it holds libmagic and the table of unpackers, and no state of any mail.

    `unpackers` None runs them in this process, without a sandbox. `directory` is where large unpacked parts go.
    """

    def __init__(
        self,
        limits: Limits,
        file_types: FileTypes | None = None,
        unpackers: Mapping[str, Unpack] | None = None,
        passwords: Passwords | None = None,
        directory: str | None = None,
    ) -> None:
        self.limits = limits
        self.file_types = file_types or FileTypes()
        self.unpackers = in_process() if unpackers is None else unpackers
        self.passwords = passwords or Passwords()
        self.directory = directory

    def decode(self, content: Content, deadline: Deadline | None = None) -> Decoded:
        """All parts of the mail. `deadline` bounds the work, unpacker by unpacker."""
        return _Decoding(self, content, deadline).run()


class _Decoding:
    """One mail's decoding: its nodes so far, its budget, its errors."""

    def __init__(self, decoder: Decoder, content: Content, deadline: Deadline | None) -> None:
        self.decoder = decoder
        self.content = content
        self.deadline = deadline
        self.budget = Budget(decoder.limits, content.size, deadline, decoder.directory)
        self.tree = Tree(self.budget)
        self.mime = MimeStage(self.tree, decoder.limits.files)
        self.hold = ""

    def run(self) -> Decoded:
        try:
            self.mime.add(self.content.octets, None)
            self._unpack_levels()
        except LimitExceeded as limit:
            self.hold = str(limit)
            _log.warning("NOTICE: HOLD reason: %s", self.hold)
        self._classify(self.tree.nodes)
        # Parents before their children, who have the lower numbers in a MIME structure.
        parts = tuple(node.part() for node in sorted(self.tree.nodes, key=_depth))
        return Decoded(parts, self._unchecked(), self._mime_errors(), self.hold)

    def _unpack_levels(self) -> None:
        level, first = 1, 0
        while first < len(self.tree.nodes):
            current = self.tree.nodes[first:]
            first = len(self.tree.nodes)
            self._classify(current)
            level += 1
            self._fill_level(current, level)

    def _fill_level(self, nodes: list[Node], level: int) -> None:
        """Unpack the nodes of one level; their content is the next. Too deep is only what has content."""
        entered = False
        for node in nodes:
            self._note_locked(node)
            for unpack in self._unpackers(node):
                if not entered:
                    self.budget.enter_level(level)
                    entered = True
                self.budget.check_time()
                unpack(node)

    # Types and unpacking

    def _classify(self, nodes: list[Node]) -> None:
        for node in nodes:
            if node.octets is not None and not node.short_types:
                node.short_types = self.decoder.file_types.of(node.octets)
                if "pgp.enc" in node.short_types:
                    node.marked("C")

    def _unpackers(self, node: Node) -> list[_Unpack]:
        """What takes this node apart: it may be an attached message, hold files in its text and be an archive."""
        if node.octets is None or node.children:
            return []
        found: list[_Unpack] = []
        if "mail" in node.short_types or not _MESSAGES.isdisjoint(node.types) or _is_named_mail(node):
            found.append(self._unpack_message)
        if has_contents(node):
            found.append(self._unpack_contents)
        if self._kinds(node):
            found.append(self._unpack_archive)
        return found

    def _unpack_message(self, node: Node) -> None:
        note_kind(node)
        self.mime.add(bytes(node.octets or b""), node)

    def _unpack_contents(self, node: Node) -> None:
        for found in contents(node, self.budget.left):
            self.budget.charge(len(found.octets), found.by)
            child = self.tree.child(node, found.types, tuple(bounded(name) for name in found.names))
            child.octets = found.octets
            self.tree.append(child)

    def _kinds(self, node: Node) -> list[str]:
        return kinds(node.short_types, self.decoder.unpackers, node.octets or b"")

    def _note_locked(self, node: Node) -> None:
        """An archive that nobody here can open is no file like another: its content remains unknown."""
        if not LOCKED.isdisjoint(node.short_types) and self.decoder.unpackers.keys().isdisjoint(node.short_types):
            node.marked("U")
            _log.info("No decoder for p%03d (%s)", node.number, ", ".join(node.short_types))

    def _unpack_archive(self, node: Node) -> None:
        """Every reading of a file that is several things at once, such as a program with a zip at its end."""
        packed = Packed(node.octets or b"", node.names, self.decoder.passwords.for_mail(self._texts))
        for short in self._kinds(node):
            try:
                self._add_members(node, self.decoder.unpackers[short](packed, self.budget))
            except CannotUnpack as fault:
                if short in (node.short_types[0], *_ALWAYS_MEANT):
                    node.marked(fault.attributes)
                _log.info("Decoding of p%03d (%s) failed, leaving it unpacked: %s", node.number, short, fault)

    def _add_members(self, node: Node, members: Unpacked) -> None:
        for member in members:
            if isinstance(member, Remark):
                node.marked(member.attributes)
                node.short_types += tuple(short for short in member.types if short not in node.short_types)
                continue
            child = self.tree.child(node, (), tuple(bounded(name) for name in member.names))
            child.octets = member.octets
            child.attributes = member.attributes
            self.tree.append(child)

    def _texts(self) -> Iterator[str]:
        """What a reader sees of the mail, where its writer may have put a password."""
        for node in self.tree.nodes:
            if node.octets and not _TEXTS.isdisjoint(node.short_types):
                yield bytes(node.octets[:_TEXT]).decode("utf-8", "replace")

    # What is left to say

    def _unchecked(self) -> tuple[Unchecked, ...]:
        """One finding a kind: what could not be inspected, and why (specification, chapter 6.6)."""
        found: dict[int, str] = {}
        for node in self.tree.nodes:
            for minor in _minors(node.attributes):
                found.setdefault(minor, f"{_REASONS[minor]}: p{node.number:03d}{_why(node) if minor == 3 else ''}")
        if self.hold:
            found[2] = self.hold
        return tuple(Unchecked(minor, found[minor]) for minor in sorted(found))

    def _mime_errors(self) -> tuple[HeaderDefect, ...]:
        if not self.tree.errors:
            return ()
        return (HeaderDefect(1, f"MIME error: {'; '.join(self.tree.errors)[:_ERRORS_LIMIT]}"),)


def _why(node: Node) -> str:
    """ " (duplicate Content-Type, ...)": what makes a node ambiguous."""
    kinds = [defect.kind.value for defect in node.defects if defect.is_ambiguous]
    return f" ({', '.join(kinds)})" if kinds else ""


def _is_named_mail(node: Node) -> bool:
    """A text that mail programs open as a mail for its name, or an archive's member that reads like one."""
    if _TEXTS.isdisjoint(node.short_types) or not node.octets:
        return False
    if any(name.lower().endswith(_MAIL_ENDINGS) for name in node.names):
        return True
    if node.types:
        return False
    head = bytes(node.octets[:_HEADER])
    return bool(_FIELD.match(head)) and b"\nmime-version:" in head.lower()


def _depth(node: Node) -> int:
    return node.location.count("/")


def _minors(attributes: str) -> Iterator[int]:
    return (minor for letter, minor in _MINORS if letter in attributes)
