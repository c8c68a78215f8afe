"""Mailers - mails in the manner of the programs that people write mail with."""

from __future__ import annotations

import email.message
import email.policy

from tests.corpus import build
from tests.corpus.writing import Template, Writer, base64_of, multipart, plain, quoted, word


def python_email(writer: Writer) -> bytes:
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = (
        "ann@example.org",
        "bob@example.net",
        writer.accented()[:30].split("\r")[0],
    )
    mail.set_content(writer.accented())
    if writer.random.random() < 0.6:
        mail.add_alternative(writer.html(), subtype="html")
    for _ in range(writer.random.randrange(4)):
        name, content = writer.file()
        mail.add_attachment(content, "application", "octet-stream", filename=name)
    return bytes(mail)


def outlook(writer: Writer) -> bytes:
    outer = f"----=_NextPart_000_{writer.hexadecimal(4)}_01D{writer.hexadecimal(5)}.{writer.hexadecimal(8).upper()}"
    inner = outer.replace("_000_", "_001_")
    name, content = writer.file()
    shown = name if name.isascii() else word(name, "utf-8")
    alternative = f'Content-Type: multipart/alternative;\r\n\tboundary="{inner}"\r\n\r\n\r\n' + multipart(
        inner,
        plain(quoted(writer.accented()), ';\r\n\tcharset="utf-8"', "quoted-printable"),
        'Content-Type: text/html;\r\n\tcharset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
        + quoted(writer.html()),
    )
    attached = (
        f'Content-Type: application/octet-stream;\r\n\tname="{shown}"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment;\r\n\tfilename="{shown}"\r\n\r\n{base64_of(content)}'
    )
    body = multipart(outer, alternative, attached, preamble="This is a multipart message in MIME format.\r\n\r\n")
    return writer.header(
        "MIME-Version: 1.0", f'Content-Type: multipart/mixed;\r\n\tboundary="{outer}"', "Thread-Index: AdW1b2Pq",
        "Content-Language: de", mailer="Microsoft Outlook 16.0",
    ) + f"\r\n{body}".encode()  # fmt: skip


def exchange(writer: Writer) -> bytes:
    number = writer.hexadecimal(32).upper()
    outer, inner = f"_004_{number}mailexampleorg_", f"_000_{number}mailexampleorg_"
    name, content = writer.file()
    shown = word(name) if not name.isascii() else name
    alternative = f'Content-Type: multipart/alternative;\r\n\tboundary="{inner}"\r\n\r\n' + multipart(
        inner,
        plain(base64_of(writer.accented().encode()), '; charset="utf-8"', "base64"),
        f'Content-Type: text/html; charset="utf-8"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        f"{base64_of(writer.html().encode())}",
    )
    attached = (
        f'Content-Type: application/pdf; name="{shown}"\r\nContent-Description: {shown}\r\nContent-Disposition: '
        f'attachment; filename="{shown}"; size={len(content)};\r\n\tcreation-date="Mon, 01 Jun 2026 12:00:00 GMT";\r\n'
        '\tmodification-date="Mon, 01 Jun 2026 12:00:00 GMT"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + base64_of(content)
    )
    top = writer.header(f'Content-Type: multipart/mixed;\r\n\tboundary="{outer}"', "MIME-Version: 1.0")
    return top + f"\r\n{multipart(outer, alternative, attached)}".encode()


def apple_mail(writer: Writer) -> bytes:
    mark = f"Apple-Mail=_{writer.hexadecimal(8)}-{writer.hexadecimal(4)}-{writer.hexadecimal(12)}".upper()
    mark = mark.replace("APPLE-MAIL", "Apple-Mail")
    name, content = writer.file()
    encoded = "".join(f"%{o:02X}" if o > 127 or o in b" '" else chr(o) for o in name.encode())
    attached = (
        f"Content-Disposition: attachment;\r\n\tfilename*=utf-8''{encoded}\r\nContent-Type: application/pdf;\r\n"
        f'\tx-unix-mode=0644;\r\n\tname="{word(name)}"\r\nContent-Transfer-Encoding: base64\r\n\r\n{base64_of(content)}'
    )
    text = plain(quoted(writer.accented()), ";\r\n\tcharset=utf-8", "quoted-printable")
    return writer.header(
        f'Content-Type: multipart/mixed;\r\n\tboundary="{mark}"', "Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3731\\))",
        mailer="Apple Mail (2.3731)",
    ) + f"\r\n\r\n{multipart(mark, text, attached)}".encode()  # fmt: skip


def apple_double(writer: Writer) -> bytes:
    outer, inner = f"Apple-Mail-1-{writer.random.randrange(10**9)}", f"Apple-Mail-2-{writer.random.randrange(10**9)}"
    forks = base64_of(bytes.fromhex("00051607000200004d6163204f53205820202020202020200001") + bytes(60))
    body = multipart(
        outer,
        plain(writer.text(), "; charset=US-ASCII; format=flowed"),
        f"Content-Type: multipart/appledouble;\r\n\tboundary={inner}\r\nContent-Disposition: attachment\r\n\r\n"
        + multipart(
            inner,
            "Content-Transfer-Encoding: base64\r\nContent-Type: application/applefile;\r\n\tname=photo.jpg\r\n"
            f"Content-Disposition: attachment;\r\n\tfilename=photo.jpg\r\n\r\n{forks}",
            "Content-Transfer-Encoding: base64\r\nContent-Type: image/jpeg;\r\n\tname=photo.jpg\r\n"
            f"Content-Disposition: attachment;\r\n\tfilename=photo.jpg\r\n\r\n{base64_of(build.PNG)}",
        ),
    )
    return writer.header("Mime-Version: 1.0 (Apple Message framework v624)",
                         f"Content-Type: multipart/mixed; boundary={outer}") + f"\r\n{body}".encode()  # fmt: skip


def gmail(writer: Writer) -> bytes:
    outer, inner = f"000000000000{writer.hexadecimal(16)}", f"000000000000{writer.hexadecimal(16)}"
    name, content = writer.file()
    parts = [
        f'Content-Type: multipart/alternative; boundary="{inner}"\r\n\r\n'
        + multipart(inner, f'Content-Type: text/plain; charset="UTF-8"\r\n\r\n{writer.text()}',
                     'Content-Type: text/html; charset="UTF-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
                     f"{quoted(writer.html())}"),
        f'Content-Type: application/pdf; name="{word(name)}"\r\n'
        f'Content-Disposition: attachment; filename="{word(name)}"'
        "\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <f_lq1>\r\nX-Attachment-Id: f_lq1\r\n\r\n"
        + base64_of(content),
    ]  # fmt: skip
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{outer}"') + (
        f"\r\n{multipart(outer, *parts)}".encode()
    )


def thunderbird(writer: Writer) -> bytes:
    mark = f"------------{writer.hexadecimal(24)}"
    name, content = writer.file()
    pieces = [name.encode()[at : at + 18] for at in range(0, len(name.encode()), 18)]
    sections = ";\r\n ".join(
        f"filename*{n}*={'UTF-8' + chr(39) * 2 if not n else ''}" + "".join(f"%{o:02X}" for o in piece)
        for n, piece in enumerate(pieces)
    )
    attached = (
        f'Content-Type: application/pdf; name="{word(name)}"\r\nContent-Disposition: attachment;\r\n {sections}\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{base64_of(content)}"
    )
    text = plain(writer.accented(), "; charset=UTF-8; format=flowed", "8bit")
    return (
        writer.header(
            f'Content-Type: multipart/mixed; boundary="{mark}"', "MIME-Version: 1.0", "User-Agent: Mozilla Thunderbird"
        )
        + f"\r\nThis is a multi-part message in MIME format.\r\n{multipart(mark, text, attached)}".encode()
    )


def mutt(writer: Writer) -> bytes:
    mark = writer.hexadecimal(16)
    patch = "diff --git a/x b/x\r\n--- a/x\r\n+++ b/x\r\n@@ -1 +1 @@\r\n-old\r\n+new\r\n-- \r\n2.39\r\n"
    parts = [
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n\r\n{writer.text()}\r\n-- \r\nAnn",
        'Content-Type: text/x-diff; charset=us-ascii\r\nContent-Disposition: attachment; filename="x.patch"\r\n\r\n'
        + patch,
    ]
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"',
                         "Content-Disposition: inline", "User-Agent: Mutt/2.2.9") + (
        f"\r\n\r\n{multipart(mark, *parts)}".encode()
    )  # fmt: skip


def java_mail(writer: Writer) -> bytes:
    outer, inner = (
        f"----=_Part_{n}_{writer.random.randrange(10**9)}.{writer.random.randrange(10**13)}" for n in (1, 10)
    )
    text = plain(writer.text(), "; charset=Cp1252")
    related = f'Content-Type: multipart/related; \r\n\tboundary="{inner}"\r\n\r\n' + multipart(
        inner,
        "Content-Type: text/html;charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + quoted(writer.html()),
        "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <1>\r\n\r\n"
        + base64_of(build.PNG),
    )
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; \r\n\tboundary="{outer}"') + (
        f"\r\n{multipart(outer, text, related)}".encode()
    )


def php_mailer(writer: Writer) -> bytes:
    number = writer.hexadecimal(32)
    inner = f'Content-Type: multipart/alternative;\r\n boundary="b2_{number}"\r\n\r\n' + multipart(
        f"b2_{number}",
        plain(writer.text(), "; charset=us-ascii"),
        f"Content-Type: text/html; charset=us-ascii\r\n\r\n{writer.html()}\r\n",
    )
    name, content = writer.file()
    shown = name if name.isascii() and " " not in name else word(name)
    attached = (
        f"Content-Type: application/octet-stream; name={shown}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment; filename={shown}\r\n\r\n{base64_of(content)}"
    )
    body = multipart(f"b1_{number}", inner, attached)
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed;\r\n boundary="b1_{number}"',
                         "Content-Transfer-Encoding: 8bit") + (
        f"\r\nThis is a multi-part message in MIME format.\r\n\r\n{body}\r\n".encode()
    )  # fmt: skip


def php_class(writer: Writer) -> bytes:
    """Of the many classes for PHP that name the inner boundary after the outer one."""
    mark, ending = f"----=_NextPart_{writer.hexadecimal(32)}", writer.random.choice(("_alt", "alt", "_rel", ".1", "A"))
    inner = f'Content-Type: multipart/alternative;\r\n\tboundary="{mark}{ending}"\r\n\r\n' + multipart(
        mark + ending,
        plain(writer.accented(), '; charset="utf-8"', "8bit"),
        f'Content-Type: text/html; charset="utf-8"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{writer.html()}',
    )
    attached = (
        "Content-Type: application/octetstream\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="LOGO.png"\r\n\r\n{base64_of(build.PNG)}'
    )
    return writer.header(f'Content-Type: multipart/mixed;\r\n\tboundary="{mark}"', "MIME-Version: 1.0") + (
        f"\r\n{multipart(mark, inner, attached)}".encode()
    )


def nodemailer(writer: Writer) -> bytes:
    number = writer.hexadecimal(14)
    parts = [plain(writer.text(2), "; charset=utf-8")]
    body = multipart(f"--_NmP-{number}-Part_1", *parts, f"Content-Type: text/html; charset=utf-8\r\n"
                      f"Content-Transfer-Encoding: 7bit\r\n\r\n{writer.html()}")  # fmt: skip
    return writer.header(
        f'Content-Type: multipart/alternative; boundary="--_NmP-{number}-Part_1"', "MIME-Version: 1.0"
    ) + (f"\r\n{body}".encode())


def lotus_notes(writer: Writer) -> bytes:
    mark = f"=_alternative 00{writer.hexadecimal(6).upper()}C1257{writer.hexadecimal(3).upper()}_="
    body = multipart(
        mark,
        plain(writer.text(), '; charset="US-ASCII"').replace("Content-Transfer-Encoding: 7bit\r\n", ""),
        f'Content-Type: text/html; charset="US-ASCII"\r\n\r\n\r\n{writer.html()}',
        preamble="This is a multipart message in MIME format.\r\n",
    )
    return writer.header("MIME-Version: 1.0", f'Content-Type: multipart/alternative; boundary="{mark}"') + (
        f"\r\n{body}".encode()
    )


def calendar_invitation(writer: Writer) -> bytes:
    mark = writer.hexadecimal(24)
    event = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    body = multipart(
        mark,
        plain(writer.text(), "; charset=UTF-8; format=flowed; delsp=yes"),
        f"Content-Type: text/calendar; charset=UTF-8; method=REQUEST\r\nContent-Transfer-Encoding: 7bit\r\n\r\n{event}",
        'Content-Type: application/ics; name="invite.ics"\r\n'
        'Content-Disposition: attachment; filename="invite.ics"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{base64_of(event.encode())}",
    )
    return (
        writer.header("MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"') + f"\r\n{body}".encode()
    )


MAILERS: tuple[Template, ...] = (
    python_email,
    outlook,
    exchange,
    apple_mail,
    apple_double,
    gmail,
    thunderbird,
    mutt,
    java_mail,
    php_mailer,
    php_class,
    nodemailer,
    lotus_notes,
    calendar_invitation,
)
