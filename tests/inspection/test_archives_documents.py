"""Documents that carry more than text: their files come out, macros and actions are flagged, locked ones reported."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import pypdf
import pytest
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoded, Decoder
from amavispy.inspection.passwords import Passwords
from amavispy.inspection.pdf import looks_loaded
from amavispy.mail.message import Content
from tests.corpus import build
from tests.inspection import by_hand
from tests.inspection.children import PAYLOAD, holders, minors

DECODER = Decoder(Limits())


def decode(octets: bytes, name: str = "document.bin") -> Decoded:
    return DECODER.decode(Content(build.attachment(octets, name)))


def short_types(octets: bytes) -> tuple[str, ...]:
    decoded = decode(octets)
    return next(part for part in decoded.parts if "document.bin" in part.names).short_types


# PDF


def made_pdf(*, script: bool = False, **encryption: Any) -> bytes:
    """A PDF of an independent writer, with an attached file."""
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_attachment("payload.vbs", PAYLOAD)
    if script:
        action = {NameObject("/S"): NameObject("/JavaScript"), NameObject("/JS"): TextStringObject("app.alert('x')")}
        writer._root_object[NameObject("/OpenAction")] = DictionaryObject(action)
    if encryption:
        writer.encrypt(**encryption)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_ordinary_pdf_is_no_work_at_all():
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    out = io.BytesIO()
    writer.write(out)
    assert not looks_loaded(out.getvalue())
    assert not looks_loaded(build.PDF)


def test_a_file_attached_to_a_pdf_comes_out():
    assert [part.names for part in holders(decode(made_pdf()))] == [("payload.vbs",)]


def test_a_file_named_in_an_object_stream_comes_out():
    octets = by_hand.pdf_with_file("payload.vbs", PAYLOAD)
    assert looks_loaded(octets)
    assert [part.names for part in holders(decode(octets))] == [("payload.vbs",)]


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"])
def test_a_pdf_that_only_restricts_its_use_is_read(algorithm: str):
    octets = made_pdf(script=True, user_password="", owner_password="own", algorithm=algorithm)
    decoded = decode(octets)
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]
    assert minors(decoded) == []
    assert "pdf-js" in short_types(octets)


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"])
def test_a_pdf_with_a_password_is_encrypted_unless_it_is_known(algorithm: str):
    octets = made_pdf(user_password="s3cret", owner_password="own", algorithm=algorithm)
    assert minors(decode(octets)) == [0, 1]
    knowing = Decoder(Limits(), passwords=Passwords(("wrong", "s3cret")))
    decoded = knowing.decode(Content(build.attachment(octets, "x.pdf")))
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]
    assert minors(decoded) == []


ENCODINGS = {
    "FlateDecode": zlib.compress,
    "ASCIIHexDecode": lambda octets: octets.hex().encode() + b">",
    "ASCII85Decode": lambda octets: base64.a85encode(octets) + b"~>",
    "RunLengthDecode": lambda octets: b"".join(bytes((0, octet)) for octet in octets) + b"\x80",
    "LZWDecode": lambda octets: _lzw(octets),
}


def _lzw(octets: bytes) -> bytes:
    """LZW without any compression: the table is cleared before it grows."""
    codes: list[int] = []
    for at in range(0, len(octets), 100):
        codes += [256, *octets[at : at + 100]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_filter_of_embedded_files_is_undone(name: str):
    data = ENCODINGS[name](PAYLOAD)
    head = f"7 0 obj<</Type/EmbeddedFile/Filter/{name}/Length {len(data)}>>stream\n".encode()
    assert holders(decode(by_hand.pdf(head + data + b"\nendstream endobj")))


def test_filters_after_filters_are_undone():
    data = zlib.compress(PAYLOAD).hex().encode() + b">"
    head = b"7 0 obj<</Type/EmbeddedFile/Filter[/ASCIIHexDecode/FlateDecode]/Length 1>>stream\n"
    assert holders(decode(by_hand.pdf(head + data + b"\nendstream endobj")))


ACTIONS = {
    b"2 0 obj<</S/JavaScript/JS(app.alert)>>endobj": "pdf-js",
    b"2 0 obj<</S/J#61vaScript/J#53(app.alert)>>endobj": "pdf-js",
    b"2 0 obj<</S /Launch /F(cmd.exe)>>endobj": "pdf-launch",
    b"2 0 obj<</AA<</O<</S\n/Launch/Win<</F(cmd.exe)>>>>>>>>endobj": "pdf-launch",
}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_a_pdf_runs_is_flagged(action: bytes):
    assert short_types(by_hand.pdf(action)) == ("pdf", ACTIONS[action])


def test_a_script_in_a_stream_is_there_for_scanners():
    body = b"2 0 obj<</S/JavaScript/JS 3 0 R>>endobj 3 0 obj<</Length %d>>stream\n" % len(PAYLOAD)
    assert [part.names for part in holders(decode(by_hand.pdf(body + PAYLOAD + b"\nendstream endobj")))] == [()]


# Compound files


def test_macros_of_a_compound_document_are_flagged_and_their_source_scanned():
    module = by_hand.vba_module(PAYLOAD)
    octets = by_hand.compound({"Macros/VBA/dir": b"\1", "Macros/VBA/_VBA_PROJECT": b"\xcc\x61", "Macros/VBA/M": module})
    assert "doc-macro" in short_types(octets)
    assert holders(decode(octets))


def test_a_sheet_of_old_macros_is_flagged():
    sheet = struct.pack("<HHIBB", 0x85, 8, 0, 0, 1) + b"\1a"
    assert "doc-macro" in short_types(by_hand.compound({"Workbook": struct.pack("<HH", 0x809, 0) + sheet}))


def test_an_ordinary_sheet_is_not_flagged():
    sheet = struct.pack("<HHIBB", 0x85, 8, 0, 0, 0) + b"\1a"
    assert "doc-macro" not in short_types(by_hand.compound({"Workbook": struct.pack("<HH", 0x809, 0) + sheet}))


def test_the_macros_of_a_zipped_document_are_flagged_on_the_document():
    project = by_hand.compound({"VBA/dir": b"\1", "VBA/M": by_hand.vba_module(PAYLOAD)})
    octets = build.zip_of({"[Content_Types].xml": b"<x/>", "word/vbaProject.bin": project})
    assert short_types(octets) == ("zip", "doc", "doc-macro")
    assert holders(decode(octets))


LOCKED_DOCUMENTS = {
    "of today": {"EncryptionInfo": b"x", "EncryptedPackage": b"x"},
    "of old Word": {"WordDocument": b"\xec\xa5\xc1\0\0\0\0\0\0\0\0\1"},
    "of old Excel": {"Workbook": struct.pack("<HHHH", 0x809, 0, 0x2F, 54)},
    "of old PowerPoint": {"EncryptedSummary": b"x"},
}


@pytest.mark.parametrize("kind", LOCKED_DOCUMENTS)
def test_an_encrypted_document_is_reported(kind: str):
    assert minors(decode(by_hand.compound(LOCKED_DOCUMENTS[kind]))) == [0, 1]


def test_an_outlook_message_gives_attachments_and_bodies():
    wide = "payload.vbs".encode("utf-16-le")
    octets = by_hand.compound(
        {
            "__properties_version1.0": b"x",
            "__substg1.0_1000001E": b"the body",
            "__attach_version1.0_#00000000/__substg1.0_37010102": PAYLOAD,
            "__attach_version1.0_#00000000/__substg1.0_3707001F": wide,
        }
    )
    decoded = decode(octets)
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]
    assert holders(decoded, b"the body")


def test_files_that_were_put_into_a_document_as_they_are_come_out():
    octets = by_hand.compound({"ObjectPool/_1/CONTENTS": PAYLOAD, "Other": b"MZ" + PAYLOAD, "Plain": b"not " + PAYLOAD})
    assert len(holders(decode(octets))) == 2


def test_half_a_compound_file_is_unchecked():
    assert minors(decode(build.office_file())) == [0]


# Others


def test_winmail_has_long_names_too():
    decoded = decode(by_hand.tnef("PAYLOA~1.VBS", PAYLOAD, long_name="payload one.vbs"))
    assert [part.names for part in holders(decoded)] == [("PAYLOA~1.VBS", "payload one.vbs")]


def test_a_winmail_that_breaks_off_is_unchecked():
    octets = by_hand.tnef("a", PAYLOAD * 20)
    assert minors(decode(octets[: len(octets) // 2])) == [0]


def test_each_file_of_a_notebook_has_every_name_that_is_shown():
    decoded = decode(by_hand.onenote({"invoice.pdf.exe": b"one" * 9, "payload.vbs": PAYLOAD}))
    assert [set(part.names) for part in holders(decoded)] == [{"invoice.pdf.exe", "payload.vbs"}]


def test_digits_of_an_rtf_object_may_be_broken_in_every_way():
    data = by_hand.rtf_object("payload.vbs", PAYLOAD)
    assert [part.names for part in holders(decode(data))] == [("payload.vbs",)]


def test_an_rtf_object_in_binary_comes_out():
    native = by_hand.ole_package("payload.vbs", PAYLOAD)[4:]
    head = struct.pack("<III", 0x501, 2, 8) + b"Package\0" + bytes(8) + struct.pack("<I", len(native))
    octets = b"{\\rtf1{\\object{\\*\\objdata \\bin%d " % len(head + native) + head + native + b"}}}"
    assert [part.names for part in holders(decode(octets))] == [("payload.vbs",)]


def test_a_compound_file_in_an_rtf_object_is_looked_into():
    inner = by_hand.compound({"\1Ole10Native": by_hand.ole_package("payload.vbs", PAYLOAD)})
    head = struct.pack("<III", 0x501, 2, 9) + b"Word.Doc\0" + bytes(8) + struct.pack("<I", len(inner))
    octets = b"{\\rtf1{\\object{\\*\\objdata " + (head + inner).hex().encode() + b"}}}"
    assert [part.names for part in holders(decode(octets))] == [("payload.vbs",)]


def test_a_text_in_rtf_alone_is_no_work_at_all():
    decoded = decode(b"{\\rtf1\\ansi hello}")
    assert len(decoded.parts) == 3
