"""Variables - $NAME in texts: any setting that is a text, by its name, whatever the case ($MYHOME, $myhostname).

A $ before anything but a letter or an underscore is itself ($1, ${helo-name}, a regular expression's end); $$NAME is
the text $NAME.

**Failures:** BadValue for an unknown name and for a variable that needs itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from amavispy.config.kinds import BadValue, nearest

_VARIABLE = re.compile(r"\$(\$?)([A-Za-z_][A-Za-z0-9_]*)")


class Variables:
    """`texts` are the raw texts of settings by name; a value that is no text cannot be used as a variable."""

    def __init__(self, texts: Mapping[str, Any]) -> None:
        self._texts = texts

    def expand(self, text: str, trail: tuple[str, ...] = ()) -> str:
        """The text with every variable replaced; `trail` are the variables being replaced around it."""
        return _VARIABLE.sub(self._replacement(trail), text)

    def _replacement(self, trail: tuple[str, ...]) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            return match[0][1:] if match[1] else self._value(match[2], trail)

        return replace

    def _value(self, name: str, trail: tuple[str, ...]) -> str:
        key = name.lower()
        if key in trail:
            circle = " -> ".join(f"${step}" for step in (*trail[trail.index(key) :], key))
            raise BadValue(f"this text needs itself: {circle}", "expected a text that ends somewhere")
        if key not in self._texts:
            hint = nearest(key, self._texts)
            raise BadValue(
                f"unknown variable ${name}{', ' + hint if hint else ''}",
                "known: every setting that is a text; $$ is a $",
            )
        value = self._texts[key]
        if not isinstance(value, str):
            raise BadValue(f"${name} is not a text", "only texts can be used as variables")
        return self.expand(value, (*trail, key))
