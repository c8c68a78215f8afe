"""Tree - the parts of a mail in the making: nodes that know their parent, their number, and what is odd about them.

The decoder's stages share one: the MIME stage hangs a mail's entities into it, unpackers what was inside of them. When
all is done each node becomes a `Part`. It keeps the books (numbers, the count of files a level), and reads no octets.

**Failures:** LimitExceeded when there are more nodes at a level than allowed; the node that was one too many is kept,
so that its name is still looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amavispy.inspection.budget import Budget
from amavispy.mail.verdict import Defect, Part


@dataclass(slots=True, eq=False)
class Node:
    """A Part in the making; `number` 0 until it is appended."""

    number: int
    location: str
    parent: Node | None
    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    short_types: tuple[str, ...] = ()
    attributes: str = ""
    octets: bytes | memoryview | None = None
    children: int = 0
    defects: tuple[Defect, ...] = ()

    def marked(self, letters: str) -> None:
        self.attributes += "".join(letter for letter in letters if letter not in self.attributes)

    def noted(self, *defects: Defect) -> None:
        """Keep defects, each once; the first that is ambiguous marks the node (B)."""
        self.defects += tuple(defect for defect in dict.fromkeys(defects) if defect not in self.defects)
        if any(defect.is_ambiguous for defect in defects):
            self.marked("B")

    def part(self) -> Part:
        return Part(
            number=self.number,
            location=self.location,
            parent=self.parent.number if self.parent else None,
            types=self.types,
            names=self.names,
            short_types=self.short_types,
            attributes=self.attributes,
            size=len(self.octets) if self.octets is not None else 0,
            octets=self.octets,
            is_leaf=not self.children,
            defects=self.defects,
        )


@dataclass(slots=True)
class Tree:
    """One mail's nodes in the order of their numbers. `errors` are MIME errors in amavis' words."""

    budget: Budget
    nodes: list[Node] = field(default_factory=list)
    errors: dict[str, None] = field(default_factory=dict)
    roots: int = 0

    def child(self, parent: Node | None, types: tuple[str, ...], names: tuple[str, ...]) -> Node:
        """A new node below `parent`, not numbered yet. A second root is the same mail read in another way."""
        if parent is None:
            self.roots += 1
            return Node(0, str(self.roots), None, types, names)
        parent.children += 1
        return Node(0, f"{parent.location}/{parent.children}", parent, types, names)

    def number(self, node: Node) -> None:
        node.number = len(self.nodes) + 1
        self.nodes.append(node)

    def append(self, node: Node) -> None:
        """Number a node and count it at the level that is being filled."""
        self.number(node)
        self.budget.add_file()
