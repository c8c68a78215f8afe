"""The PROXY header, both versions: whole, octet by octet, and everything that is none."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.mail.reply import PeerError
from amavispy.protocols.proxy import EXTENSION_LIMIT, LINE_LIMIT, ProxyHeader, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


IPV4 = bytes((203, 0, 113, 7, 192, 0, 2, 1)) + struct.pack("!HH", 41234, 25)
IPV6 = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002") + struct.pack("!HH", 1, 2)
MAPPED = bytes.fromhex("00000000000000000000ffffcb00710700000000000000000000ffffc0000201") + struct.pack("!HH", 1, 2)

GOOD = {
    "version 1, IPv4": (
        b"PROXY TCP4 203.0.113.7 192.0.2.1 41234 25\r\n",
        ProxyHeader("203.0.113.7", 41234, "192.0.2.1", 25),
    ),
    "version 1, IPv6 in a long form": (
        b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 65535 0\r\n",
        ProxyHeader("2001:db8::1", 65535, "::1", 0),
    ),
    "version 1, IPv4-mapped": (
        b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n",
        ProxyHeader("203.0.113.7", 1, "::1", 2),
    ),
    "version 2, IPv4": (binary(0x21, 0x11, IPV4), ProxyHeader("203.0.113.7", 41234, "192.0.2.1", 25)),
    "version 2, IPv6": (binary(0x21, 0x21, IPV6), ProxyHeader("2001:db8::1", 1, "2001:db8::2", 2)),
    "version 2, IPv4-mapped": (binary(0x21, 0x21, MAPPED), ProxyHeader("203.0.113.7", 1, "192.0.2.1", 2)),
    "version 2, with TLVs": (
        binary(0x21, 0x11, IPV4 + b"\x04\x00\x03abc"),
        ProxyHeader("203.0.113.7", 41234, "192.0.2.1", 25),
    ),
    "version 2, a health check": (binary(0x20, 0x00, b""), ProxyHeader()),
}

BAD = {
    "SMTP at once": b"EHLO client.example.org\r\n",
    "version 1, UNKNOWN: a client nobody can name": b"PROXY UNKNOWN\r\n",
    "version 1, UDP": b"PROXY UDP4 203.0.113.7 192.0.2.1 41234 25\r\n",
    "version 1, no port": b"PROXY TCP4 203.0.113.7 192.0.2.1 41234\r\n",
    "version 1, a port beyond 65535": b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 25\r\n",
    "version 1, a port with a leading zero": b"PROXY TCP4 203.0.113.7 192.0.2.1 025 25\r\n",
    "version 1, no address": b"PROXY TCP4 999.0.113.7 192.0.2.1 41234 25\r\n",
    "version 1, the wrong family": b"PROXY TCP4 2001:db8::1 ::1 41234 25\r\n",
    "version 1, two blanks": b"PROXY TCP4  203.0.113.7 192.0.2.1 41234 25\r\n",
    "version 1, ended by LF alone": b"PROXY TCP4 203.0.113.7 192.0.2.1 41234 25\n",
    "version 1, endless": b"PROXY TCP4 " + b"1" * LINE_LIMIT,
    "version 2, version 3": binary(0x31, 0x11, IPV4),
    "version 2, a command of the future": binary(0x22, 0x11, IPV4),
    "version 2, family unspecified: a client nobody can name": binary(0x21, 0x00, b""),
    "version 2, UDP": binary(0x21, 0x12, IPV4),
    "version 2, Unix sockets": binary(0x21, 0x31, b"\0" * 216),
    "version 2, addresses too short": binary(0x21, 0x11, IPV4[:-1]),
    "version 2, more than we wait for": SIGNATURE + struct.pack("!BBH", 0x21, 0x11, EXTENSION_LIMIT + 1),
}


@pytest.mark.parametrize(("octets", "header"), GOOD.values(), ids=GOOD)
def test_a_header_is_read_and_what_stands_behind_it_left_alone(octets: bytes, header: ProxyHeader):
    assert read_header(octets + b"EHLO x\r\n") == (header, len(octets))


@pytest.mark.parametrize(("octets", "header"), GOOD.values(), ids=GOOD)
def test_no_part_of_a_header_is_taken_for_the_whole(octets: bytes, header: ProxyHeader):
    assert [read_header(octets[:end]) for end in range(len(octets))] == [None] * len(octets)


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_anything_else_closes_the_connection(octets: bytes):
    with pytest.raises(PeerError) as caught:
        read_header(octets)
    assert caught.value.closes
    assert caught.value.reply.code == 421


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_random_octets_are_refused_or_waited_for_and_never_outgrow_the_limit(octets: bytes, start: bytes):
    try:
        found = read_header(start + octets)
    except PeerError:
        return
    assert found is None or 16 <= found[1] <= len(start + octets)
