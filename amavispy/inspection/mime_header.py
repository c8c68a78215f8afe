"""MIME header - what the header section of one entity says of it: type, encodings, names, the boundary of its parts.

In: the section's octets and a reader's habits. Out: a `Description`, with the defects of the section, and in the bits
of `habits` what another reader would understand otherwise about its structure. Types, names and encodings are those
of all readers together, the given reader's first, for they can be looked at side by side; of boundaries only one can
count at a time.

Nearly every section is proper: one regular expression says so, and nothing more is asked.

**Failures:** none. Everything is linear in the section's size, and no more than 50 Content-* fields are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from amavispy.inspection.habits import (
    BLANK_LINE_ENDS,
    CR_ENDS_LINES,
    CUTS_AT_NUL,
    EARLY_BODY,
    EXTENDED_FIRST,
    LAST_FIELD,
    REJECTS_ODD_VALUES,
    STRICT_NAMES,
    each,
)
from amavispy.inspection.mime_parameters import (
    Parameters,
    boundary_habits,
    boundary_of,
    decode_words,
    file_names,
    is_proper,
    text,
    value_habits,
    variants,
)
from amavispy.inspection.transfer_encodings import IDENTITIES, KNOWN_ENCODINGS
from amavispy.mail.verdict import Defect, DefectKind

_FIELD_LIMIT = 50
_CONFLICTING = Defect(DefectKind.CONFLICTING_NAMES, is_ambiguous=True)
_SEVERAL = Defect(DefectKind.SEVERAL_NAMES)
_ENCODED = Defect(DefectKind.ENCODED_PARAMETER)
_ODD_BOUNDARY = Defect(DefectKind.ODD_BOUNDARY, is_ambiguous=True)
_NAMES = re.compile(rb"(?i:name|boundary)")  # parameters that are asked for
_ONCE = frozenset(a + 10 * b + 100 * c for a in (0, 1) for b in (0, 1) for c in (0, 1))

# A section that all readers take for the same fields: no line that is no field, no blanks where none belong.
_PROPER = re.compile(rb"(?:[!-9;-~]++:[^\r\n\0]*+(?:\r?+\n|\Z)(?:[ \t]++[^\s\0][^\r\n\0]*+(?:\r?+\n|\Z))*+)*+")
_FIELD = re.compile(rb"\n(?i:content-(type|transfer-encoding|disposition)):([^\n]*(?:\n[ \t][^\n]*)*)")
_LOOSE_FIELD = re.compile(
    rb"\n[ \t]*(?i:content-(type|transfer-encoding|disposition))(?:[ \t]|\r?\n[ \t])*:([^\n]*(?:\n[ \t][^\n]*)*)"
)
_NOT_A_FIELD = re.compile(rb"^(?![ \t\r\n]|[!-9;-~\x80-\xff]++:|\Z)", re.M)
_NO_LOOSE_FIELD = re.compile(rb"^(?![ \t\r\n]|[!-9;-~\x80-\xff\0]++(?:[ \t]|\r?+\n[ \t])*+:|\Z)", re.M)
_BLANK_LINE = re.compile(rb"^[ \t]++\r?+(?:\n|\Z)", re.M)
_CONTENT = re.compile(rb"(?i:content-(?:type|transfer-encoding|disposition))")
_FOLDED_START = re.compile(rb"\A[ \t]+(?=(?i:content-))")
_NAME = re.compile(rb"^[^:\n]++(?=:|\n[ \t]++:)", re.M)
_BARE_CR = re.compile(rb"\r(?!\n)")
_NO_WORD = re.compile(r"[()\0\r\n]")
_ENDING = re.compile(r"\.([a-z][a-z0-9_]{0,9})[\s.]*$")
_ENCRYPTED = re.compile(r"/.*encrypted")


@dataclass(frozen=True, slots=True)
class Description:
    """An entity as its header describes it.

    `types` and `encodings` in lower case, () when none are given; `boundary` is None unless a multipart has one.
    `habits` are those that would find another boundary. `attributes` as in Part.
    """

    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    encodings: tuple[str, ...] = ()
    is_multipart: bool = False
    boundary: bytes | None = None
    attributes: str = ""
    defects: tuple[Defect, ...] = ()
    habits: int = 0


_NOTHING = Description()
_Fields = list[tuple[bytes, bytes]]


def _found(pattern: re.Pattern[bytes], header: bytes) -> _Fields:
    """The first Content-* fields of a section, never half a million of them."""
    return [(match[1], match[2]) for match in islice(pattern.finditer(b"\n" + header), _FIELD_LIMIT)]


def is_proper_section(header: bytes) -> bool:
    """Is this a section that all readers divide into the same fields?"""
    return _PROPER.fullmatch(header) is not None


def section_end(header: bytes, habits: int) -> tuple[int, int, int]:
    """Where a header section really ends, for a reader with these habits.

    Where it ends, where the body begins (-1: where it was thought to), and the habits with which it would end
    elsewhere. `header` reaches up to the empty line or to where a delimiter cuts it off.
    """
    found = 0
    cuts: list[tuple[int, int]] = []
    start = _mbox_line(header)
    strict, loose = _NOT_A_FIELD.search(header, start), _NO_LOOSE_FIELD.search(header, start)
    if strict and (not loose or loose.start() != strict.start()):
        found |= STRICT_NAMES
    if junk := strict if habits & STRICT_NAMES else loose:
        found |= EARLY_BODY
        if habits & EARLY_BODY:
            cuts.append((junk.start(), junk.start()))
    if blank := _BLANK_LINE.search(header):
        found |= BLANK_LINE_ENDS
        if habits & BLANK_LINE_ENDS:
            cuts.append((blank.start(), blank.end()))
    if _BARE_CR.search(header):
        found |= CR_ENDS_LINES
    end, body = min(cuts, default=(len(header), -1))
    return end, body, found


def _mbox_line(header: bytes) -> int:
    """Behind the line that mailboxes have on top, which is no field and which every reader knows."""
    return header.find(b"\n") + 1 if header.startswith((b"From ", b">From ")) else 0


def describe(
    header: bytes, habits: int = 0, *, is_proper_section: bool, is_part: bool = False, is_thorough: bool = True
) -> Description:
    """What a section says, as a reader with these habits understands it.

    `is_part`: it is a part's, or a whole mail's that no empty line ends: lines that are no fields may be its content.
    Not thorough: what other readers would understand is left out.
    """
    if is_proper_section:
        fields = _found(_FIELD, header)
        if not fields:
            return _NOTHING
        plain = _plainly(fields)
        if plain is not None:
            return plain
    if not is_thorough:
        return _summary(header)
    return _Odd(header, habits, is_proper_section, is_part).description()


def _summary(header: bytes) -> Description:
    """An odd section when too much time went into such ones already; whoever sends hundreds is up to no good."""
    fields = {name.lower(): value for name, value in _found(_FIELD, header)}
    kind = Parameters.parse(fields.get(b"type", b""))
    disposition = Parameters.parse(fields.get(b"disposition", b""))
    encodings = tuple(encoding_forms(fields.get(b"transfer-encoding", b""))[:1])
    return _Said(kind.main, [kind], [disposition], encodings).description(
        boundary_of(kind, 0), Defect(DefectKind.TOO_MANY_READINGS, is_ambiguous=True)
    )


def _plainly(fields: _Fields) -> Description | None:
    """The usual case: each field at most once, each value proper, one boundary; None when it is not."""
    main, encoding, count = "", "", 0
    kinds: list[Parameters] = []
    dispositions: list[Parameters] = []
    for name, given in fields:
        value = given.strip()
        if not is_proper(value):
            return None
        match len(name):  # type, disposition, transfer-encoding
            case 4:
                count += 1
                main = _main(value)
                if _NAMES.search(value):
                    kinds.append(Parameters.parse(value))
            case 11:
                count += 10
                if _NAMES.search(value):
                    dispositions.append(Parameters.parse(value))
            case _:
                if b"\n" in given:  # some do not unfold what they compare
                    return None
                count += 100
                encoding = _main(value)
    if count not in _ONCE:
        return None
    said = _Said(main, kinds, dispositions, (encoding,) if encoding else ())
    if not main.startswith("multipart"):
        return said.description(None)
    if not kinds:
        return said.description(None)
    if boundary_habits(kinds[0]):
        return None
    boundary = boundary_of(kinds[0], 0)
    is_odd = boundary is not None and (not boundary or boundary not in kinds[0].all("boundary"))
    return said.description(boundary, *((_ODD_BOUNDARY,) if is_odd else ()))


def _main(value: bytes) -> str:
    return text(value.partition(b";")[0].strip()).lower()


@dataclass(slots=True)
class _Said:
    """What a section without doubts says."""

    main: str
    kinds: list[Parameters]
    dispositions: list[Parameters]
    encodings: tuple[str, ...]

    def description(self, boundary: bytes | None, *defects: Defect) -> Description:
        names = file_names(self.dispositions, self.kinds) if self.kinds or self.dispositions else ()
        types = (self.main,) if self.main else ()
        return Description(
            types,
            names,
            self.encodings,
            self.main.startswith("multipart"),
            boundary,
            _attributes(types),
            (*defects, *_name_defects(names)),
        )


def _attributes(types: tuple[str, ...]) -> str:
    for kind in types:
        if "encrypted" in kind and _ENCRYPTED.search(kind):
            return "UC"
    return ""


def _name_defects(names: Sequence[str]) -> tuple[Defect, ...]:
    """Names with different endings would be opened by different programs; otherwise several are usual."""
    if len(names) < 2:
        return ()
    endings = {match[1] for name in names if (match := _ENDING.search(name.lower()))}
    if len(endings) > 1:
        return (_CONFLICTING,)
    return (_ENCODED,) if any("=?" in name for name in names) else (_SEVERAL,)


class _Odd:
    """A section that somebody might read otherwise."""

    def __init__(self, header: bytes, habits: int, is_proper_section: bool, is_part: bool) -> None:
        self.header = header
        self.is_part = is_part
        self.habits = habits
        self.defects: dict[Defect, None] = {}
        fields = _found(_FIELD, header) if is_proper_section else self._loose_fields()
        self.fields = [(name.lower(), value.strip()) for name, value in fields]
        self.has_folded_encoding = any(len(name) > 11 and b"\n" in value for name, value in fields)
        self.kinds = _values(self.fields, b"type")
        self.dispositions = _values(self.fields, b"disposition")
        self.transfer_encodings = _values(self.fields, b"transfer-encoding")
        self.read = {v: variants(v, value_habits(v)) for v in (*self.kinds, *self.dispositions)}

    def _loose_fields(self) -> _Fields:
        """The Content-* fields of a section that is not proper, and what is wrong with it."""
        header = self.header
        strict = _found(_FIELD, header)
        if b"\0" in header:
            header = _NAME.sub(lambda match: match[0].replace(b"\0", b""), header)
        loose = _found(_LOOSE_FIELD, _FOLDED_START.sub(b"", header))
        self._note_section(len(loose) > len(strict))
        return strict if self.habits & STRICT_NAMES else loose

    def _note_section(self, has_odd_names: bool) -> None:
        header = self.header
        if has_odd_names:
            self._note(DefectKind.ODD_FIELD_NAME, True)
        if junk := _NO_LOOSE_FIELD.search(header, _mbox_line(header)):
            is_content = self.is_part and b"\n" in header[junk.start() :]  # not just where somebody cut the mail off
            self._note(DefectKind.NO_BLANK_LINE, is_content or _CONTENT.search(header, junk.start()) is not None)
        if blank := _BLANK_LINE.search(header):
            self._note(DefectKind.BLANK_FOLD, self.is_part or _CONTENT.search(header, blank.end()) is not None)
        if bare := _BARE_CR.search(header):
            self._note(DefectKind.BARE_CR, _CONTENT.search(header, bare.end()) is not None)

    def _note(self, kind: DefectKind, is_ambiguous: bool) -> None:
        self.defects[Defect(kind, is_ambiguous)] = None

    def description(self) -> Description:
        kinds = [variant for value in self.kinds for variant in self.read[value]]
        dispositions = [variant for value in self.dispositions for variant in self.read[value]]
        names = file_names(dispositions, kinds)
        types = tuple(dict.fromkeys(kind.main for kind in (*self._usual(kinds), *kinds) if kind.main))
        encodings = self._encodings()
        container = self._container(self.habits)
        self._note_values(types, names, encodings)
        structural = self._structural_habits(container)
        if structural & ~REJECTS_ODD_VALUES and not any(defect.is_ambiguous for defect in self.defects):
            self._note(DefectKind.ODD_BOUNDARY, True)
        return Description(
            types,
            names,
            encodings,
            container[0].startswith("multipart"),
            container[1],
            _attributes(types),
            tuple(self.defects),
            structural,
        )

    def _usual(self, kinds: Sequence[Parameters]) -> Sequence[Parameters]:
        """The type that counts for this reader, to stand first."""
        return kinds[-1:] if self.habits & LAST_FIELD else kinds[:1]

    def _container(self, habits: int) -> tuple[str, bytes | None]:
        """Type and boundary for a reader with these habits; None when for him this is no multipart with one."""
        values = self.kinds if not habits & STRICT_NAMES else self._strictly_named()
        if not values:
            return "", None
        value = values[-1 if habits & LAST_FIELD else 0]
        if habits & REJECTS_ODD_VALUES and not is_proper(value):
            return "", None
        kind = Parameters.parse(value, habits)
        return kind.main, boundary_of(kind, habits) if kind.main.startswith("multipart") else None

    def _strictly_named(self) -> list[bytes]:
        return _values(_found(_FIELD, self.header), b"type")

    def _structural_habits(self, chosen: tuple[str, bytes | None]) -> int:
        """The habits that alone would make another container of it."""
        if not any(b"multipart" in value.lower() for value in self.kinds):
            return 0
        possible = LAST_FIELD | STRICT_NAMES
        for value in self.kinds:
            if odd := value_habits(value):
                possible |= odd | REJECTS_ODD_VALUES
            for variant in self.read[value]:
                possible |= boundary_habits(variant)
        return sum(bit for bit in each(possible) if self._container(self.habits ^ bit) != chosen)

    def _encodings(self) -> tuple[str, ...]:
        """What each reader might take the encoding for: known ones and, when there is no other, the unknown one."""
        found: dict[str, None] = {}
        for value in self.transfer_encodings:
            forms = encoding_forms(value)
            known = [form for form in forms if form in KNOWN_ENCODINGS or form in IDENTITIES]
            found |= dict.fromkeys(known or forms[:1])
        ordered = list(found)
        if self.habits & LAST_FIELD:
            ordered.reverse()
        if self.has_folded_encoding or not all(map(is_proper, self.transfer_encodings)):
            ordered.append("")  # who finds no encoding there decodes nothing
        return tuple(dict.fromkeys(ordered))

    def _note_values(self, types: Sequence[str], names: Sequence[str], encodings: Sequence[str]) -> None:
        self._note_duplicates(encodings)
        odd = [value for _, value in self.fields if not is_proper(value)]
        if any(b"\0" in value or _BARE_CR.search(value) for value in odd):
            self._note(DefectKind.CONTROL_IN_FIELD, True)
        if any(b"(" in value for value in odd):
            self._note(DefectKind.COMMENT_IN_FIELD, len(types) > 1 or len(encodings) > 1)
        if self.has_folded_encoding or any(not is_proper(v) and b"(" not in v for v in self.transfer_encodings):
            self._note(DefectKind.ODD_ENCODING, not IDENTITIES.issuperset(encodings))
        if len(self.kinds) == 1 and len(types) > 1:
            self._note(DefectKind.ODD_TYPE, True)
        for defect in _name_defects(names):
            self.defects[defect] = None
        self._note_boundaries()

    def _note_duplicates(self, encodings: Sequence[str]) -> None:
        if len(self.kinds) > 1:
            meanings = {(p.main, boundary_of(p, 0)) for p in map(Parameters.parse, self.kinds)}
            self._note(DefectKind.DUPLICATE_TYPE, len(meanings) > 1)
        if len(self.transfer_encodings) > 1:
            decoders = {"" if encoding in IDENTITIES else encoding for encoding in encodings}
            self._note(DefectKind.DUPLICATE_ENCODING, len(decoders) > 1)
        if len(self.dispositions) > 1:
            names = {file_names([Parameters.parse(value)], ()) for value in self.dispositions}
            self._note(DefectKind.DUPLICATE_DISPOSITION, len(names) > 1)

    def _note_boundaries(self) -> None:
        for value in self.kinds:
            given = {boundary_of(v, h) for v in self.read[value] for h in _boundary_choices(v)}
            if len(given) > 1 or any(boundary_habits(v) & EXTENDED_FIRST for v in self.read[value]):
                self._note(DefectKind.ODD_BOUNDARY, True)


def _values(fields: _Fields, wanted: bytes) -> list[bytes]:
    return [value.strip() for name, value in fields if name.lower() == wanted]


def _boundary_choices(parameters: Parameters) -> list[int]:
    return [0, *each(boundary_habits(parameters))]


def encoding_forms(value: bytes) -> list[str]:
    """A transfer encoding and what lenient readers make of it: without comments, its words, an encoded word read."""
    whole = text(value).strip().lower()
    words = [word.strip("\"';,") for word in _NO_WORD.sub(" ", decode_words(whole)).split()]
    forms = (Parameters.parse(value).main, Parameters.parse(value, CUTS_AT_NUL).main, *words, "".join(words), whole)
    return [form for form in dict.fromkeys(forms) if form]
