"""passwords - what may open an encrypted archive: the configured ones, and those that the mail's own text gives away.

Who sends malware in an encrypted archive writes the password beside it. A word behind "password", "Passwort" and the
like is the likeliest; after those come the other words that look like one. Only so many are tried: each costs up to a
tenth of a second with the slow key derivations of today's formats. Off unless configured.

**Failures:** none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_MOST = 24  # passwords that are tried on one archive
_LONGEST = 64
_TEXT = 65_536

_INTRODUCED = re.compile(
    r"(?:pass(?:wor[dt]|wort|phrase|code|e)?|pwd?|pin|code|kennwort|mot de passe|contrase(?:ñ|n)a|senha|has[łl]o|heslo"
    r"|wachtwoord|l[öo]senord|salasana|adgangskode|parol[ae]?|пароль|密码|密碼|パスワード|암호)"
    r"(?:[ \t]+(?:is|ist|for|to|of|the|this|your|file|zip|archive|archiv|attachment|est|es|des|der)\b){0,6}"
    r"[ \t]{0,8}[:=：\-–—]{0,2}\s{0,8}[\"'“„«‘`(\[<]{0,2}([^\s\"'”“»’`<>]{1,64})",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]{0,400}>")
_WORD = re.compile(r"\S{3,40}")
_ENDS = ".,;:!?\"'”“»’`)]>"


@dataclass(frozen=True, slots=True)
class Passwords:
    """`configured` are tried on every encrypted archive; `are_looked_for` also tries words of the mail's text."""

    configured: tuple[str, ...] = ()
    are_looked_for: bool = False

    def for_mail(self, texts: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        """Those to try on an archive of a mail, likeliest first. `texts` is asked only when need be."""
        if not self.are_looked_for:
            return self.configured
        found = dict.fromkeys(self.configured)
        for candidate in candidates(texts()):
            if len(found) >= _MOST + len(self.configured):
                break
            found[candidate] = None
        return tuple(found)


def candidates(texts: Iterable[str]) -> Iterator[str]:
    """Words that may be a password: introduced as one first, then those that mix letters with digits or signs."""
    seen = [_TAG.sub(" ", text[:_TEXT]) for text in texts]
    for text in seen:
        for match in _INTRODUCED.finditer(text):
            yield from _readings(match[1])
    for text in seen:
        for match in _WORD.finditer(text):
            if _looks_like_one(match[0].strip(_ENDS)):
                yield from _readings(match[0])


def _readings(word: str) -> Iterator[str]:
    """A word with and without the punctuation that ends a sentence."""
    bare = word.strip(_ENDS)
    if 0 < len(bare) <= _LONGEST:
        yield bare
    if bare != word and len(word) <= _LONGEST:
        yield word


def _looks_like_one(word: str) -> bool:
    has_letter = any(c.isalpha() for c in word)
    return has_letter and any(c.isdigit() for c in word) and len(word) >= 4
