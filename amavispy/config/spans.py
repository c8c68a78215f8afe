"""Spans - what the entries of network lists cover, and which of them can never match.

A list is searched in order, so an entry behind another one that covers it is dead; so is an entry of a
client_ipaddr_policy rule when an earlier rule takes all its addresses. Entries are judged one by one: two halves that
cover a whole together are not looked for.

Entries must be valid: IpTable has accepted them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, inet_pton  # conversions only, nothing is opened

_MAPPED = 0xFFFF << 32  # RFC 4291 2.5.5.2
_EXCLUSIONS_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Span:
    """A network: 128-bit `first`, `host_bits` free bits. `has_host_bits`: it was written with some of them set."""

    text: str
    first: int
    host_bits: int
    excludes: bool
    has_host_bits: bool

    def overlaps(self, other: Span) -> bool:
        bits = max(self.host_bits, other.host_bits)
        return self.first >> bits == other.first >> bits

    def network(self) -> str:
        """The network that is meant, written without host bits."""
        if self.first >> 32 == 0xFFFF and self.host_bits <= 32:
            return f"{IPv4Address(self.first & 0xFFFFFFFF)}/{32 - self.host_bits}"
        return f"{IPv6Address(self.first)}/{128 - self.host_bits}"


def span_of(text: str) -> Span:
    """The span of one entry, in any form IpTable knows."""
    plain = text.strip().lstrip("!")
    excludes = (len(text.strip()) - len(plain)) % 2 == 1
    bare, slash, mask = plain.partition("/")
    bare = bare.strip().strip("[]")
    bare = bare[5:] if bare[:5].lower() == "ipv6:" else bare
    bare = bare.partition("%")[0]
    is_six = ":" in bare
    width = 128 if is_six else 32
    implied = 128 if is_six else 8 * bare.count(".") + 8
    host_bits = width - (_length(mask) if slash else implied)
    number = _number(bare, is_six)
    first = number >> host_bits << host_bits
    return Span(text, first, host_bits, excludes, first != number)


def _number(bare: str, is_six: bool) -> int:
    if is_six:
        return int.from_bytes(inet_pton(AF_INET6, bare), "big")
    return _MAPPED | int.from_bytes(inet_pton(AF_INET, bare + ".0" * (3 - bare.count("."))), "big")


def _length(mask: str) -> int:
    return int(mask) if mask.isdigit() else int.from_bytes(inet_pton(AF_INET, mask), "big").bit_count()


class Cover:
    """The networks seen so far, by size: a look-up costs one probe for every size there is."""

    def __init__(self) -> None:
        self._by_size: dict[int, dict[int, str]] = {}

    def add(self, span: Span) -> None:
        self._by_size.setdefault(span.host_bits, {}).setdefault(span.first >> span.host_bits, span.text)

    def covering(self, span: Span) -> str | None:
        """The text of a network that covers the span whole."""
        for bits, networks in self._by_size.items():
            if bits >= span.host_bits and (text := networks.get(span.first >> bits)) is not None:
                return text
        return None


def dead_entries(spans: list[Span]) -> Iterator[tuple[int, str]]:
    """Entries of one list that never match: their index, and the earlier entry that covers them."""
    seen = Cover()
    for index, span in enumerate(spans):
        if (by := seen.covering(span)) is not None:
            yield index, by
        seen.add(span)


def taken_whole(spans: list[Span]) -> list[Span]:
    """The entries of a rule whose addresses never get to a later rule: no exclusion before them lets some through."""
    exclusions = [(index, span) for index, span in enumerate(spans) if span.excludes]
    if len(exclusions) > _EXCLUSIONS_LIMIT:
        return []
    return [
        span
        for index, span in enumerate(spans)
        if not span.excludes and not any(i < index and e.overlaps(span) for i, e in exclusions)
    ]
