"""Inquiry - how a virus scanner is asked and how its answer is read.

One frozen value: the part of an [[av_scanners]] entry that only some types have. Which type uses which member stands in
docs/scanners.md; the configuration has checked them.
"""

from __future__ import annotations

from dataclasses import dataclass

Condition = str | tuple[int, ...]  # a pattern in the answer, or exit statuses


@dataclass(frozen=True, slots=True)
class Inquiry:
    """`fallbacks` are further addresses of a daemon, asked when the one before fails.

    `query` of a daemon: `{}` is the directory of the parts, `{}/*` each file. `infected`, `clean` (None: its silence
    is inconclusive) and `names` read the answer, which `ends` with the connection ("close") or the "line". `service`
    and `method` are those of an ICAP server, `product` a SAVAPI licence's; `sends` is "data" or "paths" (SSSP).
    """

    fallbacks: tuple[str, ...] = ()
    query: str = ""
    infected: Condition = ""
    clean: Condition | None = None
    names: str = ""
    ends: str = "close"
    service: str = ""
    method: str = "RESPMOD"
    product: str = ""
    sends: str = "data"
