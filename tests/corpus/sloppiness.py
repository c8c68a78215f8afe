"""Sloppiness - what list servers, relays, reports and scripts do to mail every day, meaning no harm."""

from __future__ import annotations

import base64

from tests.corpus import build
from tests.corpus.mailers import apple_mail, gmail, mutt, outlook, python_email
from tests.corpus.writing import FILES, Template, Writer, base64_of, multipart, plain, quoted


def list_footer_in_text(writer: Writer) -> bytes:
    footer = (
        "_" * 47 + "\r\nUsers mailing list\r\nUsers@lists.example.org\r\nhttps://lists.example.org/listinfo/users\r\n"
    )
    return writer.header("MIME-Version: 1.0", "Content-Type: text/plain; charset=us-ascii",
                         "List-Id: <users.example.org>", "Precedence: list") + (
        f"\r\n{writer.text()}{footer}".encode()
    )  # fmt: skip


def list_footer_behind_base64(writer: Writer) -> bytes:
    footer = (
        "_" * 47 + "\r\nUsers mailing list\r\nUsers@lists.example.org\r\nhttps://lists.example.org/listinfo/users\r\n"
    )
    return writer.header("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Precedence: list",
                         "Content-Transfer-Encoding: base64") + (
        f"\r\n{base64_of((writer.accented() + 'x' * writer.random.randrange(3)).encode())}{footer}".encode()
    )  # fmt: skip


def list_footer_behind_quoted_printable(writer: Writer) -> bytes:
    footer = "\r\n-- \r\nTo unsubscribe visit http://lists.example.org/?id=users&mail=bob=example.net\r\n"
    return writer.header("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Precedence: bulk",
                         "Content-Transfer-Encoding: quoted-printable") + (
        f"\r\n{quoted(writer.accented())}{footer}".encode()
    )  # fmt: skip


def list_footer_as_part(writer: Writer) -> bytes:
    mark = f"==============={writer.random.getrandbits(62):019}=="
    inner = f"Content-Type: text/html; charset=utf-8\r\nMIME-Version: 1.0\r\n\r\n{writer.html()}"
    footer = plain("_" * 47 + "\r\nUsers mailing list\r\n", '; charset="us-ascii"') + ""
    footer = "MIME-Version: 1.0\r\n" + footer.replace("7bit\r\n", "7bit\r\nContent-Disposition: inline\r\n")
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + (
        f"\r\n{multipart(mark, inner, footer)}".encode()
    )


def text_behind_the_end(writer: Writer) -> bytes:
    """An advertisement or a disclaimer that a relay put behind the closing delimiter."""
    mark = writer.hexadecimal(20)
    body = multipart(mark, plain(writer.text()), epilogue=f"\r\n{writer.text()}\r\n")
    return (
        writer.header("MIME-Version: 1.0", f"Content-Type: multipart/mixed; boundary={mark}") + f"\r\n{body}".encode()
    )


def digest(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    top = "\r\nFrom: ann@example.org\r\nSubject: one\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    parts = [top + writer.text() for _ in range(5)]
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/digest; boundary="{mark}"') + (
        f"\r\n{multipart(mark, *parts)}".encode()
    )


def bounce(writer: Writer) -> bytes:
    """A delivery status notification with the beginning of the mail that it is about."""
    mark = f"{writer.hexadecimal(10).upper()}.{writer.random.randrange(10**10)}/mail.example.net"
    returned = writer.random.choice((outlook, gmail, python_email))(writer)[
        : writer.random.randrange(1500, 4000)
    ].decode()
    body = multipart(
        mark,
        f"Content-Description: Notification\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n{writer.text()}",
        "Content-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Content-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n"
        f"Content-Transfer-Encoding: 8bit\r\n\r\n{returned}",
    )
    return writer.header("Auto-Submitted: auto-replied", "MIME-Version: 1.0",
                         f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{mark}"') + (
        f"\r\nThis is a MIME-encapsulated message.\r\n\r\n{body}".encode()
    )  # fmt: skip


def qmail_bounce(writer: Writer) -> bytes:
    returned = gmail(writer)[:1500].decode()
    return writer.header(subject="failure notice") + (
        "\r\nHi. This is the qmail-send program at example.net.\r\n<bob@example.net>:\r\nno mailbox here.\r\n\r\n"
        f"--- Below this line is a copy of the message.\r\n\r\nReturn-Path: <ann@example.org>\r\n{returned}".encode()
    )


def forwarded_as_attachment(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    inner = writer.random.choice((outlook, apple_mail, mutt, python_email))(writer).decode()
    attached = (
        'Content-Type: message/rfc822; name="Fwd.eml"\r\nContent-Transfer-Encoding: 7bit\r\n'
        f'Content-Disposition: attachment; filename="Fwd.eml"\r\n\r\n{inner}'
    )
    body = multipart(mark, plain(writer.text()), attached)
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


def pgp_signed(writer: Writer) -> bytes:
    mark = f"=-{writer.hexadecimal(16)}"
    signature = "-----BEGIN PGP SIGNATURE-----\r\n\r\niQEzBAEBCAAd\r\n-----END PGP SIGNATURE-----\r\n"
    body = multipart(
        mark,
        plain(quoted(writer.accented()), '; charset="UTF-8"', "quoted-printable"),
        'Content-Type: application/pgp-signature; name="signature.asc"\r\nContent-Description: signature\r\n'
        f"Content-Transfer-Encoding: 7bit\r\n\r\n{signature}",
    )
    kind = f'multipart/signed; micalg="pgp-sha512";\r\n\tprotocol="application/pgp-signature"; boundary="{mark}"'
    return writer.header(f"Content-Type: {kind}", "MIME-Version: 1.0") + f"\r\n\r\n{body}".encode()


def smime_signed(writer: Writer) -> bytes:
    mark = f"----{writer.hexadecimal(32).upper()}"
    body = multipart(
        mark,
        plain(writer.text()),
        'Content-Type: application/x-pkcs7-signature; name="smime.p7s"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n{base64_of(bytes.fromhex("3080") + bytes(300))}',
        preamble="This is an S/MIME signed message\r\n\r\n",
    )
    kind = f'multipart/signed; protocol="application/x-pkcs7-signature"; micalg="sha-256"; boundary="{mark}"'
    return writer.header("MIME-Version: 1.0", f"Content-Type: {kind}") + f"\r\n{body}".encode()


def plain_text(writer: Writer) -> bytes:
    return writer.header() + f"\r\n{writer.text()}".encode()


def cron_job(writer: Writer) -> bytes:
    fields = [
        "Content-Type: text/plain; charset=UTF-8",
        "Auto-Submitted: auto-generated",
        "X-Cron-Env: <SHELL=/bin/sh>",
    ]
    return writer.header(*fields, subject="Cron <root@host> /usr/bin/backup") + f"\r\n{writer.text()}".encode()


def unquoted_parameters(writer: Writer) -> bytes:
    mark, name = f"=_{writer.hexadecimal(20)}", writer.random.choice([f for f in FILES if f.isascii()])
    attached = (
        f"Content-Type: application/octet-stream; name={name}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment; filename={name}\r\n\r\n{base64_of(b'x' * 300)}"
    )
    body = multipart(mark, plain(writer.text(), "; charset = us-ascii"), attached)
    return (
        writer.header("MIME-Version: 1.0", f"Content-Type: multipart/mixed; boundary={mark}") + f"\r\n{body}".encode()
    )


def no_closing_boundary(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    body = multipart(mark, plain(writer.text()), f"Content-Type: text/html\r\n\r\n{writer.html()}").rsplit(
        f"--{mark}--"
    )[0]
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/alternative; boundary="{mark}"') + (
        f"\r\n{body}".encode()
    )


def inner_multipart_not_closed(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    inner = f'Content-Type: multipart/alternative; boundary="i{mark}"\r\n\r\n' + multipart(
        f"i{mark}", plain(writer.text()), f"Content-Type: text/html\r\n\r\n{writer.html()}"
    ).replace(f"--i{mark}--\r\n", "")
    body = multipart(
        mark, inner, f"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n{base64_of(build.PNG)}"
    )
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


def raw_8bit_header(writer: Writer) -> bytes:
    charset = writer.random.choice(("latin-1", "utf-8"))
    top = writer.header("MIME-Version: 1.0", f'Content-Type: text/plain; charset="{charset}"; name="Grüße.txt"',
                        "Content-Transfer-Encoding: 8bit", subject="Grüße aus Köln")  # fmt: skip
    return top.decode().encode(charset) + f"\r\n{writer.text()}für\r\n".encode(charset)


def raw_8bit_name(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    attached = (
        f'Content-Type: application/pdf; name="Rechnung für {mark[:2]}.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
    )
    attached += f'Content-Disposition: attachment; filename="Rechnung für {mark[:2]}.pdf"\r\n\r\n{base64_of(build.PDF)}'
    body = multipart(mark, plain(writer.text()), attached)
    top = writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"')
    return top + f"\r\n{body}".encode(writer.random.choice(("latin-1", "utf-8")))


def ascii_fallback_name(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    attached = (
        "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; "
        f"filename=\"Resume.pdf\"; filename*=UTF-8''R%C3%A9sum%C3%A9.pdf\r\n\r\n{base64_of(build.PDF)}"
    )
    body = multipart(mark, plain(writer.text()), attached)
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


def newsletter(writer: Writer) -> bytes:
    """HTML that is said to be quoted-printable and is not."""
    page = writer.html().replace("<p>", '<p class="a"><a href="http://example.org/?a=zz&b=yy">x</a>')
    fields = ["MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", "Precedence: bulk",
              "Content-Transfer-Encoding: quoted-printable"]  # fmt: skip
    return writer.header(*fields) + f"\r\n{page}".encode()


def encoding_of_the_multipart(writer: Writer) -> bytes:
    mark = f"_{writer.hexadecimal(12)}"
    encoding = writer.random.choice(("8bit", "7bit", "quoted-printable", "binary"))
    body = multipart(mark, plain(writer.text()), f"Content-Type: text/html\r\n\r\n{writer.html()}")
    body = body.replace('bgcolor="#ffffff"', "")
    return writer.header("MIME-Version: 1.0", f"Content-Transfer-Encoding: {encoding}",
                         f'Content-Type: multipart/alternative; boundary="{mark}"') + (
        f"\r\n{body}".encode()
    )  # fmt: skip


def odd_encodings(writer: Writer) -> bytes:
    encoding = writer.random.choice(("8-bit", "7BIT", "8Bit", "7bit;", "utf-8", "none", "us-ascii", "8BITMIME", "text",
                                     "quoted printable"))  # fmt: skip
    fields = ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", f"Content-Transfer-Encoding: {encoding}"]
    return writer.header(*fields) + f"\r\n{writer.accented()}".encode()


def odd_types(writer: Writer) -> bytes:
    kind = writer.random.choice(
        ("text", "text/html; charset=", "text/html;charset=utf-8;", 'text/plain; charset="utf-8', "TEXT/PLAIN",
         "text/html ;", 'text/html; charset="iso-8859-1" ; format=flowed', "text/plain; charset=us-ascii (Plain text)",
         "text/plain; charset=unicode-1-1-utf-7", "plain/text", "text/html; charset=utf-8; boundary=x")
    )  # fmt: skip
    return writer.header("MIME-Version: 1.0", f"Content-Type: {kind}") + f"\r\n{writer.html()}".encode()


def type_said_twice(writer: Writer) -> bytes:
    """A script that sets what its library sets too."""
    fields = ["MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", "Content-type: text/html; charset=UTF-8"]
    return writer.header(*fields) + f"\r\n{writer.html()}".encode()


def mailbox_line_on_top(writer: Writer) -> bytes:
    return b"From ann@example.org Mon Jun  1 12:00:00 2026\r\n" + outlook(writer)


def folded_oddly(writer: Writer) -> bytes:
    line = "References: " + "\r\n ".join(f"<{writer.hexadecimal(12)}@example.org>" for _ in range(30))
    return writer.header(line, "MIME-Version: 1.0", "Content-Type:\r\n text/plain;\r\n charset=utf-8") + (
        f"\r\n{writer.text()}".encode()
    )


def base64_untidy(writer: Writer) -> bytes:
    """One long line, blanks at the ends of lines, or no line end at the end."""
    mark, content = writer.hexadecimal(20), writer.random.randbytes(2000)
    encoded = writer.random.choice(
        (base64.b64encode(content).decode() + "\r\n", base64_of(content).replace("\r\n", "  \r\n"),
         base64_of(content).rstrip(), base64_of(content) + "\r\n\r\n \r\n",
         base64_of(content).replace("\r\n", "\r\n\r\n"))
    )  # fmt: skip
    attached = f"Content-Type: image/jpeg; name=a.jpg\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}"
    body = multipart(mark, plain(writer.text()), attached)
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


def empty_parts(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    body = multipart(mark, plain(""), "Content-Type: text/html; charset=utf-8\r\n\r\n", plain("\r\n"), "\r\n")
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


def multipart_without_parts(writer: Writer) -> bytes:
    fields = ["MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{writer.hexadecimal(20)}"']
    return writer.header(*fields) + f"\r\n{writer.text(2)}".encode()


def quoted_mail_in_text(writer: Writer) -> bytes:
    quoted = outlook(writer).decode().replace("\r\n", "\r\n> ")[:3000]
    return (
        writer.header("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8") + f"\r\n> {quoted}\r\n".encode()
    )


def source_code_in_text(writer: Writer) -> bytes:
    lines = "begin\r\n  x := 1;\r\nend;\r\n--\r\n-- comment\r\n--option value\r\n----\r\nbegin 5 minutes early\r\n"
    return (
        writer.header("Content-Type: text/plain; charset=utf-8; format=flowed") + f"\r\n{lines}{writer.text()}".encode()
    )


def long_preamble(writer: Writer) -> bytes:
    mark = writer.hexadecimal(20)
    preamble = f"{writer.text(9)}If you can see this, your mailer does not understand MIME.\r\n\r\n"
    body = multipart(mark, plain(writer.text()), preamble=preamble)
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


def line_ends_of_unix(writer: Writer) -> bytes:
    return writer.random.choice((outlook, mutt, gmail, plain_text))(writer).replace(b"\r\n", b"\n")


SLOPPINESS: tuple[Template, ...] = (
    list_footer_in_text,
    list_footer_behind_base64,
    list_footer_behind_quoted_printable,
    list_footer_as_part,
    text_behind_the_end,
    digest,
    bounce,
    qmail_bounce,
    forwarded_as_attachment,
    pgp_signed,
    smime_signed,
    plain_text,
    cron_job,
    unquoted_parameters,
    no_closing_boundary,
    inner_multipart_not_closed,
    raw_8bit_header,
    raw_8bit_name,
    ascii_fallback_name,
    newsletter,
    encoding_of_the_multipart,
    odd_encodings,
    odd_types,
    type_said_twice,
    mailbox_line_on_top,
    folded_oddly,
    base64_untidy,
    empty_parts,
    multipart_without_parts,
    quoted_mail_in_text,
    source_code_in_text,
    long_preamble,
    line_ends_of_unix,
)
