"""Blocklist - lists of addresses and domains that are asked by DNS (specification, chapter 5.3), as values.

A `Blocklist` names zones and the answers that count; `names_for` and `domains_for` say what has to be asked, `lists`
judges what came back. `Blocklisted` is the table that stands in a lookup list: it reads what was fetched for an address
of this message. Who asks a name server is `tables.dnsxl`; nothing here does.

**Failures:** none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from amavispy.mail.address import Address

SOURCE = "dnsxl"


@dataclass(frozen=True, slots=True)
class Blocklist:
    """Zones, and the answers that mean "listed": a last octet ("2"), octets from the end ("0.2"), a whole address, or
    a pattern between slashes ("/^127\\.0\\.0\\.[2-9]$/"). `%a` in a zone stands where the address or domain goes.
    """

    zones: tuple[str, ...]
    expected: tuple[str, ...] = ("127.0.0.2",)
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile("|".join(f"(?:{_as_pattern(text)})" for text in self.expected)))

    def lists(self, answers: Iterable[str]) -> bool:
        """Whether any of these A records says "listed". Only 127/8 counts: others are a parked domain's."""
        return any(answer.startswith("127.") and self._pattern.search(answer) for answer in answers)

    def names_for(self, ip: str | None) -> list[str]:
        """The names to ask for a client; none for an unknown one, and for one that no public list can know."""
        try:
            address = ip_address(ip or "")
        except ValueError:
            return []
        mapped = getattr(address, "ipv4_mapped", None)
        reverse = (mapped or address).reverse_pointer.rsplit(".", 2)[0]
        return [_joined(reverse, zone) for zone in self.zones]

    def domains_for(self, address: Address) -> list[str]:
        """The names to ask for the domain of an address; none where there is no domain that DNS could know."""
        domain = address.domain
        if not domain.isascii() or "." not in domain or domain.startswith("["):
            return []
        return [_joined(domain, zone) for zone in self.zones]


@dataclass(frozen=True, slots=True)
class Blocklisted:
    """Answers True for an address whose domain is listed, otherwise it has no opinion."""

    blocklist: Blocklist

    def find(self, address: Address) -> bool | None:
        for row in address.records.get(SOURCE, ()):
            if any(self.blocklist.lists(row.get(name, ())) for name in self.blocklist.domains_for(address)):
                return True
        return None


def _joined(name: str, zone: str) -> str:
    return zone.replace("%a", name) if "%a" in zone else f"{name}.{zone}"


def _as_pattern(text: str) -> str:
    if len(text) > 1 and text.startswith("/") and text.endswith("/"):
        return text[1:-1]
    return rf"(?:^|\.){re.escape(text)}$"
