"""Fields - what can be wrong with an entity's header section, so that readers disagree what the entity is.

Each function takes an entity, a leaf or a multipart, and gives it with its header spoilt; some reader still finds the
entity behind it as it was. Where that reader takes the last of several things, another takes the first: both orders
are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from tests.corpus.entities import CRLF, Entity, field

Spoiler = Callable[[Random, Entity], Entity]
_TYPE, _ENCODING, _DISPOSITION = b"Content-Type", b"Content-Transfer-Encoding", b"Content-Disposition"
_HARMLESS_TYPE = field(_TYPE, b"text/plain; charset=us-ascii")


def type_twice_last_counts(_: Random, entity: Entity) -> Entity:
    return entity.before(_TYPE, _HARMLESS_TYPE)


def type_twice_first_counts(_: Random, entity: Entity) -> Entity:
    return entity.behind(_TYPE, _HARMLESS_TYPE)


def encoding_twice_last_counts(_: Random, entity: Entity) -> Entity:
    return entity.before(_ENCODING, field(_ENCODING, b"7bit")) if entity.has(_ENCODING) else entity


def encoding_twice_first_counts(_: Random, entity: Entity) -> Entity:
    return entity.behind(_ENCODING, field(_ENCODING, b"quoted-printable")) if entity.has(_ENCODING) else entity


def blank_before_colon(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b":", b" \t:", 1))


def fold_before_colon(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b":", b"\r\n :", 1))


def folds_everywhere(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b": ", b":\r\n\t").replace(b"; ", b"\r\n ;\r\n\t"))


def blank_before_first_name(_: Random, entity: Entity) -> Entity:
    return replace(entity, fields=(b" " + entity.fields[0], *entity.fields[1:]))


def comment_in_front(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b": ", b": (a (nested) comment) ", 1))


def comment_behind(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.rstrip() + b" (a comment)" + CRLF)


def comment_with_semicolon(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b";", b' (; boundary="decoy"; name=a.txt) ;', 1))


def nul_in_value(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b"e", b"e\0", 2).replace(b"e\0", b"e", 1))


def nul_behind_value(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.rstrip() + b"\0junk" + CRLF)


def nul_in_name(_: Random, entity: Entity) -> Entity:
    return entity.with_every_content_field(lambda line: line.replace(b"-T", b"-\0T", 1).replace(b"-D", b"-\0D", 1))


def cr_in_front(_: Random, entity: Entity) -> Entity:
    """The fields stand behind a bare CR, which ends a line for some."""
    return replace(entity, fields=(b"X-Note: hello\r" + entity.fields[0], *entity.fields[1:]))


def cr_between_fields(_: Random, entity: Entity) -> Entity:
    return replace(entity, fields=(*(line[:-2] + b"\r" for line in entity.fields[:-1]), entity.fields[-1]))


def junk_line_in_header(_: Random, entity: Entity) -> Entity:
    return replace(entity, fields=(b"this line is no field" + CRLF, *entity.fields))


def blank_line_of_blanks_in_header(_: Random, entity: Entity) -> Entity:
    return replace(entity, fields=(b"X-Note: hello" + CRLF, b" \t" + CRLF, *entity.fields))


def no_blank_line(_: Random, entity: Entity) -> Entity:
    return replace(entity, gap=b"")


def blank_line_of_blanks(_: Random, entity: Entity) -> Entity:
    return replace(entity, gap=b" " + CRLF)


def mixed_case(random: Random, entity: Entity) -> Entity:
    def shaken(line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        letters = bytes(random.choice((letter, letter ^ 32)) if 65 <= letter & ~32 <= 90 else letter for letter in name)
        return letters + b":" + value

    return entity.with_every_content_field(shaken)


def parameters_without_semicolons(_: Random, entity: Entity) -> Entity:
    return entity.with_field(_TYPE, lambda line: line.replace(b";", b""))


def value_in_single_quotes(_: Random, entity: Entity) -> Entity:
    return entity.with_field(_TYPE, lambda line: line.replace(b'"', b"'"))


def type_in_quotes(_: Random, entity: Entity) -> Entity:
    return entity.with_field(_TYPE, lambda line: line.replace(b": ", b': "').replace(b";", b'";', 1))


def blanks_in_type(_: Random, entity: Entity) -> Entity:
    return entity.with_field(_TYPE, lambda line: line.replace(b"/", b" / ", 1))


def _boundary(entity: Entity, change: Callable[[bytes], bytes]) -> Entity:
    """With the boundary parameter, which stands in quotes, replaced by what `change` makes of its value."""

    def changed(line: bytes) -> bytes:
        before, mark, rest = line.partition(b'boundary="')
        value, quote, behind = rest.partition(b'"')
        return before + change(value) + behind if mark and quote else line

    return entity.with_field(_TYPE, changed)


def boundary_twice_last_counts(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b'boundary="decoy"; boundary="' + value + b'"')


def boundary_twice_first_counts(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b'boundary="' + value + b'"; boundary="decoy"')


def boundary_without_quotes(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b"boundary=" + value)


def boundary_continued(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b'boundary*0="' + value[:3] + b'"; boundary*1="' + value[3:] + b'"')


def boundary_with_charset(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b"boundary*=us-ascii''" + b"".join(b"%%%02X" % octet for octet in value))


def boundary_of_both_kinds(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b"boundary=\"decoy\"; boundary*=us-ascii''" + value.replace(b"=", b"%3D"))


def boundary_as_encoded_word(_: Random, entity: Entity) -> Entity:
    return _boundary(
        entity, lambda value: b'boundary="=?us-ascii?q?' + value.replace(b"=", b"=3D").replace(b"_", b"=5F") + b'?="'
    )


def boundary_with_trailing_blank(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b'boundary="' + value + b' "')


def boundary_with_escapes(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b'boundary="' + b"".join(b"\\" + bytes((octet,)) for octet in value) + b'"')


def boundary_with_junk_behind(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b"boundary=" + value + b" junk")


def no_boundary(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b"x=y")


def another_boundary(_: Random, entity: Entity) -> Entity:
    return _boundary(entity, lambda value: b'boundary="never-used"')


_FOR_ALL: tuple[Spoiler, ...] = (
    type_twice_last_counts, type_twice_first_counts, encoding_twice_last_counts, encoding_twice_first_counts,
    blank_before_colon, fold_before_colon, folds_everywhere, comment_in_front, comment_behind,
    comment_with_semicolon, nul_in_value, nul_behind_value, nul_in_name, cr_in_front, cr_between_fields,
    junk_line_in_header, blank_line_of_blanks_in_header, no_blank_line, blank_line_of_blanks, mixed_case,
)  # fmt: skip
_FOR_MULTIPARTS: tuple[Spoiler, ...] = (
    parameters_without_semicolons, value_in_single_quotes, type_in_quotes, blanks_in_type, boundary_twice_last_counts,
    boundary_twice_first_counts, boundary_without_quotes, boundary_continued, boundary_with_charset,
    boundary_of_both_kinds, boundary_as_encoded_word, boundary_with_trailing_blank, boundary_with_escapes,
    boundary_with_junk_behind, no_boundary, another_boundary,
)  # fmt: skip


def _by_name(spoilers: tuple[Spoiler, ...]) -> dict[str, Spoiler]:
    return {spoiler.__name__.replace("_", " "): spoiler for spoiler in spoilers}


LEAF_FIELDS: Mapping[str, Spoiler] = _by_name((*_FOR_ALL, blank_before_first_name))
CONTAINER_FIELDS: Mapping[str, Spoiler] = _by_name(_FOR_ALL + _FOR_MULTIPARTS)
