"""Edits - HeaderEdits applied to a mail's octets: what is not edited stays as it came in, octet by octet.

In: a Content, HeaderEdits and fields that the way itself adds (Received). Out: a list of chunks that make up the edited
mail, new octets and slices of the original; nothing of the body is copied. Lines end in CRLF.

The subject's tag is put in front of the octets that stand there, so encoded words, folds and even broken encodings
survive. Only when an earlier copy of the tag hides inside an encoded word is the subject decoded and written anew.

Failures: none. A subject whose encoding is broken keeps it.
"""

from __future__ import annotations

from email.errors import HeaderParseError
from email.header import Header, decode_header

from amavispy.mail.disposition import HeaderEdits
from amavispy.mail.headers import HeaderField
from amavispy.mail.message import Content

Chunks = list[bytes | memoryview]

_LINE_LIMIT = 998  # RFC 5322 2.1.1
_TAG_LEAST = 3  # a shorter tag may be part of somebody's subject, so it is never removed
_DECODED_LIMIT = 20_000  # a longer subject is nobody's earlier tagging, and decoding must stay cheap


def apply(content: Content, edits: HeaderEdits, extra_prepend: tuple[tuple[str, str], ...] = ()) -> Chunks:
    """The edited mail. `extra_prepend` stands between the edits' fields and the original header, as amavis does it."""
    if edits.remove or edits.subject_tag or edits.remove_at:
        return _rewritten(content, edits, extra_prepend)
    top = fields_octets((*edits.prepend, *extra_prepend))
    return [top, *_original(content)] if top else _original(content)


def fields_octets(fields: tuple[tuple[str, str], ...], line_end: str = "\r\n") -> bytes:
    """Header fields as octets; a value's "\\n" folds become line ends, an empty value leaves no blank behind."""
    text = "".join(f"{name}: {value}\n" if value else f"{name}:\n" for name, value in fields)
    return text.replace("\n", line_end).encode("utf-8", "surrogateescape")


def _original(content: Content) -> Chunks:
    octets = content.octets
    return [octets if isinstance(octets, bytes) else memoryview(octets)]


def _rewritten(content: Content, edits: HeaderEdits, extra_prepend: tuple[tuple[str, str], ...]) -> Chunks:
    """The slow path: some fields go or change, the octets between them are sliced."""
    whole = memoryview(content.octets)
    chunks: Chunks = []
    kept_from = 0
    has_subject = False
    counted = dict.fromkeys((name for name, _ in edits.remove_at), 0)
    for field in content.headers.fields:
        name = field.name.decode("latin-1").lower()
        is_tagged = bool(edits.subject_tag) and name == "subject"
        goes = name in edits.remove
        if name in counted:
            counted[name] += 1
            goes = goes or (name, counted[name]) in edits.remove_at
        if not is_tagged and not goes:
            continue
        chunks.append(whole[kept_from : field.start])
        kept_from = field.end
        if is_tagged:  # every one of them: nobody knows which of several a reader shows
            has_subject = True
            chunks.append(_tagged(field, edits.subject_tag))
    chunks.append(whole[kept_from:])
    missing = edits.subject_tag and not has_subject
    subject = (("Subject", _encoded(edits.subject_tag, "\n").rstrip()),) if missing else ()
    chunks.insert(0, fields_octets((*edits.prepend, *subject, *extra_prepend)))
    return [chunk for chunk in chunks if len(chunk)]


# --- the subject


def _tagged(field: HeaderField, tag: str) -> bytes:
    """The subject field with the tag in front, and without earlier copies of it."""
    name, _, value = field.octets.partition(b":")
    value = _without_tag(value.removeprefix(b" "), tag)
    head = name + b": " + _encoded(tag).encode()
    line_length = len(head) + len(value.partition(b"\r\n")[0])
    return head.rstrip(b" ") + b"\r\n " + value if line_length > _LINE_LIMIT else head + value


def _encoded(tag: str, line_end: str = "\r\n") -> str:
    """The tag as it may stand in a header: plain ASCII, or an encoded word (RFC 2047) followed by a blank.

    A blank between two encoded words is not shown (RFC 2047 6.2), so the tag's own final blank is encoded with it.
    """
    return tag if tag.isascii() else f"{Header(tag, 'utf-8', header_name='Subject').encode(linesep=line_end)} "


def _without_tag(value: bytes, tag: str) -> bytes:
    if len(tag) < _TAG_LEAST:
        return value
    plain = _encoded(tag).encode()
    if plain in value:
        return value.replace(plain, b"")
    if b"=?" not in value or len(value) > _DECODED_LIMIT:
        return value
    text = _decoded(value)
    if text is None or tag not in text:
        return value
    return (
        Header(text.replace(tag, ""), "utf-8", header_name="Subject: " + tag).encode(linesep="\r\n").encode() + b"\r\n"
    )


def _decoded(value: bytes) -> str | None:
    """The text of a subject; None when a word of it cannot be decoded."""
    unfolded = value.replace(b"\r\n", b"").strip(b" \t").decode("utf-8", "surrogateescape")
    try:
        words = decode_header(unfolded)
        return "".join(w if isinstance(w, str) else w.decode(charset or "ascii") for w, charset in words)
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return None
