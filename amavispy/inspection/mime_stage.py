"""MIME stage - a mail's entities become nodes of the tree of parts, in every reading of them.

In: the octets of a mail, the outermost or an attached one, and the node it hangs below. The most usual reading gives
the tree as amavis numbers it: leaves in the mail's order, then containers, each between its odd preamble and epilogue.
What other readers would see besides is added behind: entities of other structures, other contents of the same entity,
parts that hide in a margin, what a transfer encoding of a whole container hides. Equal contents are added once.

It knows nothing of archives; what entities hold is another stage's matter (`mime_contents`).

**Failures:** LimitExceeded, when there are more entities or more octets than the budget allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from amavispy.inspection.budget import LimitExceeded
from amavispy.inspection.mime import MESSAGE_TYPES, Entity, Structure
from amavispy.inspection.readings import TOO_MANY, readings
from amavispy.inspection.text_encodings import has_encoded_files
from amavispy.inspection.transfer_encodings import IDENTITIES, KNOWN_ENCODINGS, Contents, decodings
from amavispy.inspection.tree import Node, Tree
from amavispy.mail.message import Octets
from amavispy.mail.verdict import Defect, DefectKind

_COPIED = 65_536  # smaller slices are copied: cheaper than a view, and they do not hold the mail's mapping
_MARGIN_LINES = 5
_ODD = re.compile(rb"[^\t\n\r\x20-\x7e]")
_HEADER_IN_MARGIN = re.compile(rb"(?:\A|[\r\n])[ \t]*content-\0?(?:type|transfer-encoding|disposition)", re.I)
_HEADER_NEAR = 4096  # octets of a margin
_DECODED = 4  # times the mail: containers lie within each other, and each may say that it is encoded
_MARGINS = 3  # parts in margins of parts in margins
_UNPARSED = "Unable to parse, perhaps message contains too many parts"

_IN_MARGIN = Defect(DefectKind.PART_IN_MARGIN, is_ambiguous=True)
_ENCODED = DefectKind.ENCODED_CONTAINER
_UNHARMED = {
    Defect(kind, is_ambiguous=True): Defect(kind) for kind in (DefectKind.DUPLICATE_ENCODING, DefectKind.ODD_ENCODING)
}

Content = bytes | memoryview
_Key = tuple[object, ...]


class MimeStage:
    """One mail's MIME structures: where the tree is, and what of it has been decoded already."""

    def __init__(self, tree: Tree, max_entities: int) -> None:
        self.tree = tree
        self.max_entities = max_entities

    def add(self, octets: Octets, parent: Node | None) -> None:
        """The entities of a mail as nodes below `parent`."""
        waiting = [(octets, parent, 0)]
        for mail, top, depth in waiting:  # grows while it is worked on
            hanging = _Hanging(self.tree, top)
            is_cut = False
            try:
                for structure in readings(mail, self.max_entities):
                    hanging.add(structure)
                    is_cut |= structure.is_cut
                    if structure.habits:
                        self.tree.budget.check_time()
            finally:
                hanging.tell_defects()
            if depth < _MARGINS:
                waiting += [(margin, node, depth + 1) for margin, node in hanging.margins]
            if is_cut:
                self.tree.errors[_UNPARSED] = None
                raise LimitExceeded(f"Maximum number of files ({self.max_entities}) exceeded")


class _Hanging:
    """The structures of one mail being hung below one node."""

    def __init__(self, tree: Tree, top: Node | None) -> None:
        self.tree = tree
        self.top = top
        self.margins: list[tuple[Octets, Node]] = []
        self.containers: dict[tuple[int, int], Node] = {}  # by the octets and where in them they start
        self.entities: dict[int, tuple[Entity, Node]] = {}
        self.seen: set[_Key] = set()
        self.spans: dict[_Key, Contents] = {}
        self.decoded = 0  # octets of multiparts that were decoded as a whole
        self.same: set[int] = set()  # entities whose content is the same by each encoding they may have

    def add(self, structure: Structure) -> None:
        if self.entities:
            self._add_other(structure)
        else:
            self._add_usual(structure)

    def tell_defects(self) -> None:
        """Entities may have learnt of defects until the last reading."""
        for entity, node in self.entities.values():
            if entity.defects:
                node.noted(*(_UNHARMED.get(d, d) if id(entity) in self.same else d for d in entity.defects))

    # The most usual reading

    def _add_usual(self, structure: Structure) -> None:
        self.tree.errors.update(structure.errors)
        octets = structure.octets
        nodes: dict[int, Node] = {}
        others: list[tuple[Entity, Node, Contents]] = []
        for entity in structure.entities:
            parent = nodes[id(entity.parent)] if entity.parent else self.top
            node = nodes[id(entity)] = self.tree.child(parent, entity.types, entity.names)
            node.attributes = entity.attributes
            self.entities[id(entity)] = entity, node
            if entity.is_container:
                self.containers.setdefault((id(octets), entity.start), node)
            elif rest := self._fill(node, entity, octets):
                others.append((entity, node, rest))
        first = len(self.tree.nodes)
        self._number(structure.entities, nodes, octets)
        # Charged when all are known: names must not get lost.
        for node in self.tree.nodes[first:]:
            self.tree.budget.charge(len(node.octets or b""), "mime_decode")
            self.tree.budget.add_file()
        for entity, node, contents in others:
            self._add_alternatives(entity, octets, node, contents)
        self._add_decoded_multiparts(structure)

    def _fill(self, node: Node, entity: Entity, octets: Octets) -> Contents | None:
        """A leaf's content; what other decoders make of it is returned."""
        if not entity.encodings or (len(entity.encodings) == 1 and entity.encodings[0] in IDENTITIES):
            node.octets = _slice(octets, entity.start, entity.end)
            return None
        contents = self._decoded(octets, entity, node)
        if not contents.others:
            self.same.add(id(entity))
        node.octets = contents.usual
        if contents.defects:
            node.noted(*contents.defects)
        return contents if contents.others else None

    def _decoded(self, octets: Octets, entity: Entity, node: Node) -> Contents:
        """All contents of a leaf, by each of its encodings."""
        key = (id(octets), entity.start, entity.end, entity.encodings)
        if key not in self.spans:
            self.spans[key] = _all_decodings(octets, entity)
        if not KNOWN_ENCODINGS.union(IDENTITIES).issuperset(entity.encodings):
            node.types += ("application/octet-stream",)  # RFC 2045 6.4
        return self.spans[key]

    def _number(self, entities: list[Entity], nodes: dict[int, Node], octets: Octets) -> None:
        """Leaves first, then containers with their preambles and epilogues, all in the mail's order."""
        ordered = [nodes[id(e)] for e in entities if not e.is_container]
        for entity in entities:
            if entity.is_container:
                node = nodes[id(entity)]
                ordered += self._margin(node, octets, entity.preamble, "preamble")
                ordered.append(node)
                ordered += self._margin(node, octets, entity.epilogue, "epilogue")
        for node in ordered:
            self.tree.number(node)

    def _margin(self, container: Node, octets: Octets, span: tuple[int, int], name: str) -> Iterator[Node]:
        """A container's preamble or epilogue, when there is more to it than the usual line for old readers."""
        if span[1] - span[0] <= 1:
            return
        content = _slice(octets, *span)
        if _HEADER_IN_MARGIN.search(content[:_HEADER_NEAR]):
            container.noted(_IN_MARGIN)
            self.margins.append((bytes(content), container))
        elif not (
            bytes(content[:_COPIED]).count(b"\n") > _MARGIN_LINES or _ODD.search(content) or has_encoded_files(content)
        ):
            return
        yield Node(0, container.location, container.parent, names=(name,), octets=content)

    # Other readings

    def _add_other(self, structure: Structure) -> None:
        """What this reader sees and none before him did."""
        self._learn_usual()
        octets = structure.octets
        for entity in structure.entities:
            if entity.is_container:
                self._other_margins(entity, octets)
                if entity.names:
                    self._container_of(entity, octets)
                continue
            node = Node(0, "", None, entity.types, entity.names)
            contents = self._decoded(octets, entity, node) if entity.encodings else None
            usual = contents.usual if contents else _slice(octets, entity.start, entity.end)
            for content in (usual, *(contents.others if contents else ())):
                self._add_unseen(entity.parent, octets, node, content, entity.defects)
        self._add_decoded_multiparts(structure)

    def _learn_usual(self) -> None:
        if not self.seen:
            self.seen.update(_key(node.types, node.names, node.octets) for node in self.tree.nodes if node.octets)

    def _container_of(self, entity: Entity | None, octets: Octets) -> Node | None:
        """The node that stands for a container in other readings; new ones are made when something is found in them."""
        missing = []
        while entity and (id(octets), entity.start) not in self.containers:
            missing.append(entity)
            entity = entity.parent
        node = self.containers[id(octets), entity.start] if entity else self.top
        for container in reversed(missing):
            node = self.tree.child(node, container.types, container.names)
            node.noted(*container.defects)
            self.tree.append(node)
            self.containers[id(octets), container.start] = node
        return node

    def _other_margins(self, entity: Entity, octets: Octets) -> None:
        for span in (entity.preamble, entity.epilogue):
            content = _slice(octets, *span)
            if (
                content
                and _HEADER_IN_MARGIN.search(content[:_HEADER_NEAR])
                and (node := self._container_of(entity, octets))
            ):
                node.noted(_IN_MARGIN)
                self.margins.append((bytes(content), node))

    def _add_unseen(
        self, container: Entity | None, octets: Octets, like: Node, content: Content, defects: tuple[Defect, ...] = ()
    ) -> None:
        """A leaf that no reading had yet, with types and names `like` another node's."""
        key = _key(like.types, like.names, content)
        if key in self.seen or not (content or like.names):
            return
        self.seen.add(key)
        node = self.tree.child(self._container_of(container, octets), like.types, like.names)
        node.octets = content
        node.noted(*defects)
        self.tree.append(node)
        self.tree.budget.charge(len(content), "mime_decode")

    def _add_alternatives(self, entity: Entity, octets: Octets, node: Node, contents: Contents) -> None:
        """Other contents of the same entity, beside it."""
        self._learn_usual()
        for content in contents.others:
            self._add_unseen(entity.parent, octets, node, content)

    # Encoded containers

    def _add_decoded_multiparts(self, structure: Structure) -> None:
        """RFC 2045 6.4 forbids encodings of multiparts; some readers decode them before they split."""
        for entity in structure.entities:
            if entity.encodings and not IDENTITIES.issuperset(entity.encodings) and _may_be_multipart(entity):
                self._add_decoded_multipart(entity, structure.octets)

    def _add_decoded_multipart(self, entity: Entity, octets: Octets) -> None:
        raw = octets[entity.start : entity.end]
        header = _without_encoding(octets[entity.header[0] : entity.header[1]])
        for encoding in entity.encodings:
            self.decoded += len(raw)
            if self.decoded > _DECODED * (len(octets) + _COPIED):
                self._note_too_many(entity)
                return
            decoded = decodings(raw, encoding).usual if encoding in KNOWN_ENCODINGS else raw
            mail = header + b"\r\n" + decoded
            key = _key((), (), mail)
            if decoded == raw or not _DASHES.search(decoded) or key in self.seen:
                continue
            self.seen.add(key)
            is_hidden = not entity.children or not _same_skeleton(header, raw, decoded, self.tree.budget.limits.files)
            container = self._container_of(entity if entity.is_container else entity.parent, octets)
            child = self.tree.child(container, ("message/rfc822",), ())
            child.octets = mail
            child.noted(Defect(_ENCODED, is_hidden))
            self.tree.append(child)
            self.tree.budget.charge(len(decoded), "mime_decode")

    def _note_too_many(self, entity: Entity) -> None:
        if id(entity) in self.entities:
            self.entities[id(entity)][1].noted(TOO_MANY)
        elif self.top:
            self.top.noted(TOO_MANY)


def _may_be_multipart(entity: Entity) -> bool:
    return any(kind.startswith("multipart") for kind in entity.types)


def _all_decodings(octets: Octets, entity: Entity) -> Contents:
    """A leaf's content by each encoding it may have; a message's also as it stands there (RFC 2046 5.2.1)."""
    raw = octets[entity.start : entity.end]
    is_message = not MESSAGE_TYPES.isdisjoint(entity.types)
    if len(entity.encodings) == 1 and not is_message:
        return decodings(raw, entity.encodings[0])
    defects: list[Defect] = []
    found: dict[bytes, None] = {}
    for encoding in entity.encodings:
        contents = decodings(raw, encoding)
        found |= dict.fromkeys((contents.usual, *contents.others))
        defects += contents.defects
    if is_message and raw not in found:
        found[raw] = None
        defects.append(Defect(_ENCODED, is_ambiguous=True))
    usual, *others = found
    return Contents(usual, tuple(others), tuple(defects))


_DASHES = re.compile(rb"(?:\A|\n)--")
_ENCODING_FIELD = re.compile(
    rb"""(?:\A|(?<=[\r\n])) [ \t]* (?i:content-\0?transfer-encoding) (?:[ \t]|\r?\n[ \t])* :
    [^\r\n]* (?:\r?\n[ \t][^\r\n]*)* \r?(?:\n|\Z)?""",
    re.X,
)


def _without_encoding(header: bytes) -> bytes:
    """The Content-* fields of a header alone, but for the encoding, so that what is decoded is not decoded again."""
    kept = _ENCODING_FIELD.sub(b"", header)
    return kept if not kept or kept.endswith(b"\n") else kept + b"\r\n"


def _same_skeleton(header: bytes, raw: bytes, decoded: bytes, max_entities: int) -> bool:
    """Do both have the same entities with the same headers? Then whoever decodes sees nothing else."""
    one, other = (next(readings(header + b"\r\n" + body, max_entities)) for body in (raw, decoded))
    return [_said(e) for e in one.entities] == [_said(e) for e in other.entities]


def _said(entity: Entity) -> _Key:
    return entity.types, entity.names, entity.encodings


def _key(types: tuple[str, ...], names: tuple[str, ...], content: Content | None) -> _Key:
    return types, names, hash(bytes(content or b""))


def _slice(octets: Octets, start: int, end: int) -> Content:
    return octets[start:end] if end - start <= _COPIED else memoryview(octets)[start:end]
