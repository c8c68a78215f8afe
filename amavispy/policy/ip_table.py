"""IpTable - a list of networks in which the first match counts, `!` excludes, and a look-up takes no microsecond.

In go the entries as an administrator writes them, out comes True, False or None (no opinion) for an address. The list
is flattened once: every address belongs to exactly one span, a span knows the entry that decides it, and a look-up is
one bisection. The arrays hold plain numbers, so look-ups in forked workers copy no pages. Knows nothing of banks.

**Failures:** `IpTable.of` raises ValueError naming the bad entry. A look-up never fails: what is no address is unknown,
and unknown matches only entries of prefix length 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_pton  # conversions only, nothing is opened
from struct import Struct

_MAPPED = 0xFFFF << 32  # RFC 4291 2.5.5.2: IPv4 lives in ::ffff:0:0/96
_ALL4 = (1 << 32) - 1
_ALL6 = (1 << 128) - 1
_number = int.from_bytes
_HALVES = Struct(">QQ").unpack
_INDEX_BITS = 16

_Range = tuple[int, int, int]  # first, last, number of the entry from 1; 128-bit addresses
_Span = tuple[int, int]  # first address, deciding entry: 0 none, negative when it excludes


class IpTable:
    """Networks in the order of their list. Equal when the texts are equal. Make it with `IpTable.of`."""

    __slots__ = ("_entries", "_index", "_shift", "_six", "_starts", "_unknown", "texts")

    texts: tuple[str, ...]

    def __init__(self, texts: tuple[str, ...], four: list[_Span], six: list[_Span], unknown: int) -> None:
        """IPv4 stands in the table itself, one call less a look-up; its index leaves the bisection next to nothing."""
        self.texts = texts
        self._unknown = unknown
        self._six = _Spans6(six)
        self._starts = array("I", [start - _MAPPED for start, _ in four])
        self._entries = array("i", [entry for _, entry in four])
        self._shift = 32 - min(_INDEX_BITS, len(four).bit_length())
        buckets = range((1 << 32 - self._shift) + 1)
        self._index = array("I", [bisect_left(self._starts, bucket << self._shift) for bucket in buckets])

    @classmethod
    def of(cls, texts: Iterable[str]) -> IpTable:
        """The forms of specification 5.3: addr, addr/len, addr/netmask, 10 and 10.1/16, [v6]/len, IPv6: and %scope."""
        texts = tuple(texts)
        ranges = [(*_parse(text), number) for number, text in enumerate(texts, 1)]
        excluding = bytes([0, *(_is_exclusion(text) for text in texts)])
        unknown = next((r[2] for r in ranges if r[:2] == (0, _ALL6) or r[:2] == (_MAPPED, _MAPPED | _ALL4)), 0)
        four, six = _split(ranges)
        signed = -unknown if excluding[unknown] else unknown
        spans = _flatten(four, excluding, _MAPPED, _MAPPED | _ALL4)
        return cls(texts, spans, _flatten(six, excluding, 0, _ALL6), signed)

    def find(self, ip: str | None) -> bool | None:
        """True when the first matching entry includes the address, False when it excludes it, None for no match."""
        entry = self._entry(ip)
        return entry > 0 if entry else None

    def contains(self, ip: str | None) -> bool:
        return self._entry(ip) > 0

    def matching(self, ip: str | None) -> str | None:
        """The text of the entry that decides, `!` included."""
        entry = self._entry(ip)
        return self.texts[abs(entry) - 1] if entry else None

    def _entry(self, ip: str | None) -> int:
        """The deciding entry's number from 1, negative when it excludes; 0 when none matches."""
        if ip is None:
            return self._unknown
        try:
            if ":" not in ip:
                number = _number(inet_pton(AF_INET, ip))
                bucket = number >> self._shift
                index = self._index
                return self._entries[bisect_right(self._starts, number, index[bucket], index[bucket + 1]) - 1]
            high, low = _HALVES(inet_pton(AF_INET6, ip))
            return self._six.entry(high, low) if high else self._low_entry(low)
        except (OSError, ValueError):
            return self._odd_entry(ip)

    def _low_entry(self, low: int) -> int:
        """For ::/64, in which IPv4 hides."""
        if low >> 32 == 0xFFFF:
            return self._entries[bisect_right(self._starts, low & _ALL4) - 1]
        return self._six.entry(0, low)

    def _odd_entry(self, ip: str) -> int:
        """For an address in brackets, with `IPv6:` or with a scope; anything else is unknown."""
        try:
            high, low = divmod(_address(_bare(ip)), 1 << 64)
        except ValueError:
            return self._unknown
        return self._six.entry(high, low) if high else self._low_entry(low)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IpTable) and self.texts == other.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"IpTable.of({self.texts!r})"


class _Spans6:
    """IPv6, in halves: nearly every prefix is decided by the upper one.

    The index reaches from the lowest to the highest start, for networks in use lie close together in so wide a space.
    """

    __slots__ = ("_ceiling", "_entries", "_floor", "_highs", "_index", "_lows", "_shift")

    def __init__(self, spans: list[_Span]) -> None:
        self._highs = array("Q", [start >> 64 for start, _ in spans])
        self._lows = array("Q", [start & (1 << 64) - 1 for start, _ in spans])
        self._entries = array("i", [entry for _, entry in spans])
        self._floor = floor = self._highs[min(1, len(spans) - 1)]
        self._ceiling = self._highs[-1]
        width = (self._ceiling - floor).bit_length()
        self._shift = max(0, width - min(_INDEX_BITS, len(spans).bit_length()))
        buckets = range((self._ceiling - floor >> self._shift) + 1)
        edges = [bisect_left(self._highs, floor + (bucket << self._shift)) for bucket in buckets]
        self._index = array("I", [*edges, len(spans)])

    def entry(self, high: int, low: int) -> int:
        if high < self._floor:
            return self._entries[0]
        if high > self._ceiling:
            return self._entries[-1]
        bucket = high - self._floor >> self._shift
        highs, index = self._highs, self._index
        last = bisect_right(highs, high, index[bucket], index[bucket + 1]) - 1
        if highs[last] == high and self._lows[last] > low:
            last = bisect_right(self._lows, low, bisect_left(highs, high, 0, last), last) - 1
        return self._entries[last]


def _split(ranges: list[_Range]) -> tuple[list[_Range], list[_Range]]:
    """What concerns IPv4 and what concerns IPv6; a network around ::ffff:0:0/96 concerns both."""
    end = _MAPPED | _ALL4
    four = [(max(r[0], _MAPPED), min(r[1], end), r[2]) for r in ranges if r[0] <= end and r[1] >= _MAPPED]
    six = [r for r in ranges if r[0] < _MAPPED or r[1] > end]
    return four, six


def _flatten(ranges: list[_Range], excluding: bytes, bottom: int, top: int) -> list[_Span]:
    """Spans (start, deciding entry, negative when excluding) from bottom to top; each reaches to the next one's start.

    Networks are nested or apart, never overlapping: a stack of the open ones suffices, and inside a network the
    smaller of its own and the surrounding winner's number wins, for that entry stands first in the list.
    """
    spans = {bottom: 0}
    opened: list[tuple[int, int]] = []
    for first, last, number in sorted(ranges, key=_by_start):
        _close(opened, spans, first)
        winner = min(number, opened[-1][1]) if opened else number
        spans[first] = winner
        opened.append((last, winner))
    _close(opened, spans, top + 1)
    spans.pop(top + 1, None)
    return list(_merged(spans, excluding))


def _by_start(r: _Range) -> tuple[int, int]:
    return r[0], -r[1]


def _close(opened: list[tuple[int, int]], spans: dict[int, int], before: int) -> None:
    """Ends every open network that ends before this address; what surrounds it decides from there on."""
    while opened and opened[-1][0] < before:
        last, _ = opened.pop()
        spans[last + 1] = opened[-1][1] if opened else 0


def _merged(spans: dict[int, int], excluding: bytes) -> Iterator[_Span]:
    """Neighbouring spans of one entry become one."""
    previous = -1
    for start, number in spans.items():
        if number != previous:
            yield start, -number if excluding[number] else number
        previous = number


def _is_exclusion(entry: str) -> bool:
    """Each leading `!` inverts."""
    if "!" not in entry:
        return False
    entry = entry.strip()
    return (len(entry) - len(entry.lstrip("!"))) % 2 == 1


def _parse(entry: str) -> tuple[int, int]:
    """First and last address of an entry, as 128-bit numbers."""
    text, slash, mask = entry.strip().lstrip("!").partition("/")
    text = _bare(text)
    try:
        width, implied = (128, 128) if ":" in text else (32, 8 * text.count(".") + 8)
        host_bits = width - (_length(mask, width) if slash else implied)
        first = _address(text if width == 128 else _completed(text)) >> host_bits << host_bits
    except ValueError as fault:
        raise ValueError(f'"{entry}" is no network: {fault}') from None
    return first, first | (1 << host_bits) - 1


def _bare(text: str) -> str:
    """Without brackets, the `IPv6:` of RFC 5321 4.1.3 and a scope (RFC 4007 11), which look-ups ignore."""
    text = text.strip()
    if text[:1] not in "[Ii" and "%" not in text:
        return text
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    return text.partition("%")[0]


def _completed(text: str) -> str:
    """A shortened IPv4 network with its missing octets: 10.1 is 10.1.0.0 (and, without a length, /16)."""
    return text + ".0" * (3 - text.count("."))


def _address(text: str) -> int:
    """The address as a 128-bit number, IPv4 mapped into IPv6."""
    try:
        if ":" in text:
            return int.from_bytes(inet_pton(AF_INET6, text), "big")
        return _MAPPED | int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):
        raise ValueError("expected an IPv4 or IPv6 address") from None


def _length(mask: str, width: int) -> int:
    """The prefix length that a number or, for IPv4, a netmask such as 255.255.255.0 stands for."""
    if len(mask) <= 3 and mask.isascii() and mask.isdigit() and (length := int(mask)) <= width:
        return length
    if width == 32 and "." in mask:
        inverted = _address(mask) & _ALL4 ^ _ALL4
        if not inverted & (inverted + 1):
            return 32 - inverted.bit_length()
        raise ValueError("its netmask has holes")
    raise ValueError(f"expected a prefix length of 0 to {width}")
