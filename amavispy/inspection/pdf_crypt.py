"""pdf_crypt - the standard security handler of PDF: the key of a file, and strings and streams in clear.

Most encrypted PDF files have an empty user password: any reader opens them, the encryption only restricts what may be
done with them. So that one is tried first, then those given.

Source: ISO 32000-2, 7.6: algorithms 1 and 1.A (objects), 2 (key, revisions 2 to 4), 2.A and 2.B (revisions 5 and 6),
4 to 6 and 11 (checking the user password).

**Failures:** CannotUnpack (UC) when no password fits or the handler is another one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from amavispy.inspection.packed import CannotUnpack, Searchable
from amavispy.inspection.pdf_strings import string_of

_PAD = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_ENCRYPT = re.compile(rb"/Encrypt\s*(?:(\d{1,10})\s+\d{1,5}\s+R|<<)")
_ID = re.compile(rb"/ID\s*\[\s*(?:<([0-9a-fA-F\s]*)>|\(((?:\\.|[^\\()])*)\))", re.S)
_DICTIONARY = 8192
_FILTER_NAME = rb"/%s\s*/([A-Za-z0-9]+)"


@dataclass(frozen=True, slots=True)
class Decryption:
    """The key of one file. Methods are "V2" (RC4), "AESV2", "AESV3" and "" (nothing is encrypted)."""

    key: bytes
    strings: str
    streams: str
    files: str

    def string(self, octets: bytes, number: int, generation: int) -> bytes:
        return self._clear(octets, self.strings, number, generation)

    def stream(self, octets: bytes, number: int, generation: int, head: bytes, *, is_file: bool) -> bytes:
        """A stream in clear. Cross-reference streams never are encrypted (7.5.8.2)."""
        if re.search(rb"/Type\s*/XRef\b", head):
            return octets
        return self._clear(octets, self.files if is_file else self.streams, number, generation)

    def _clear(self, octets: bytes, method: str, number: int, generation: int) -> bytes:
        if not method:
            return octets
        if method == "AESV3":
            return _aes(self.key, octets)
        salt = b"sAlT" if method == "AESV2" else b""
        each = self.key + number.to_bytes(4, "little")[:3] + generation.to_bytes(4, "little")[:2] + salt
        key = _md5(each)[: min(len(self.key) + 5, 16)]
        return _aes(key, octets) if salt else rc4(key, octets)


def decryption(octets: Searchable, objects: Mapping[int, bytes], passwords: tuple[str, ...]) -> Decryption | None:
    """What decrypts the file; None when it is not encrypted."""
    match = _ENCRYPT.search(octets)
    if not match:
        return None
    if match[1]:
        rules = objects.get(int(match[1]), b"")
    else:
        rules = bytes(memoryview(octets)[match.start() : match.start() + _DICTIONARY])
    if b"/Standard" not in rules:
        raise CannotUnpack("pdf: encrypted for somebody", "UC")
    identity = _ID.search(octets)
    handler = _Handler(rules, string_of(identity[1], identity[2]) if identity else b"")
    for password in ("", *passwords):
        if key := handler.key(password):
            return Decryption(key, handler.method(b"StrF"), handler.method(b"StmF"), handler.method(b"EFF", b"StmF"))
    raise CannotUnpack("pdf: encrypted with a password", "UC")


class _Handler:
    """The Encrypt dictionary."""

    def __init__(self, rules: bytes, identity: bytes) -> None:
        self._rules = rules
        self._identity = identity
        self._version, self._revision = self._number(b"V", 0), self._number(b"R", 2)
        self._length = max(5, min(16, self._number(b"Length", 40) // 8)) if self._version != 4 else 16
        self._owner, self._user = self._text(b"O"), self._text(b"U")

    def method(self, *names: bytes) -> str:
        """How what `names` stand for is encrypted, by the crypt filter's method."""
        if self._version < 4:
            return "V2"
        chosen = next((m[1] for name in names if (m := re.search(_FILTER_NAME % name, self._rules))), b"Identity")
        if chosen == b"Identity":
            return ""
        definition = re.search(rb"/" + re.escape(chosen) + rb"\s*<<(.{0,300}?)>>", self._rules, re.S)
        found = re.search(rb"/CFM\s*/([A-Za-z0-9]+)", definition[1]) if definition else None
        return {b"V2": "V2", b"AESV2": "AESV2", b"AESV3": "AESV3"}.get(found[1], "") if found else ""

    def key(self, password: str) -> bytes | None:
        """The file's key when this is the user password."""
        if self._revision >= 5:
            return self._new_key(password.encode()[:127])
        padded = (password.encode("latin-1", "replace") + _PAD)[:32]
        permissions = (self._number(b"P", 0) & 0xFFFFFFFF).to_bytes(4, "little")
        hides_metadata = self._revision >= 4 and re.search(rb"/EncryptMetadata\s+false", self._rules)
        rest = b"\xff\xff\xff\xff" if hides_metadata else b""
        size = 5 if self._revision == 2 else self._length
        key = _md5(padded + self._owner[:32] + permissions + self._identity + rest)[:size]
        for _ in range(50 if self._revision >= 3 else 0):
            key = _md5(key)[:size]
        return key if self._is_right(key) else None

    def _is_right(self, key: bytes) -> bool:
        if self._revision == 2:
            return rc4(key, _PAD) == self._user[:32]
        check = _md5(_PAD + self._identity)
        for round_ in range(20):
            check = rc4(bytes(octet ^ round_ for octet in key), check)
        return check == self._user[:16]

    def _new_key(self, password: bytes) -> bytes | None:
        user, check, salt = self._user[:32], self._user[32:40], self._user[40:48]
        if self._hash(password, check) != user:
            return None
        return _aes(self._hash(password, salt), bytes(16) + self._text(b"UE")[:32], is_padded=False)

    def _hash(self, password: bytes, salt: bytes) -> bytes:
        """Algorithm 2.B; revision 5 had its first step only."""
        key = hashlib.sha256(password + salt).digest()
        if self._revision == 5:
            return key
        rounds, last = 0, 0
        while rounds < 64 or last > rounds - 32:
            encryptor = Cipher(AES(key[:16]), CBC(key[16:32])).encryptor()
            mixed = encryptor.update((password + key) * 64)
            digest = (hashlib.sha256, hashlib.sha384, hashlib.sha512)[sum(mixed[:16]) % 3]
            key, last = digest(mixed).digest(), mixed[-1]
            rounds += 1
        return key[:32]

    def _number(self, name: bytes, default: int) -> int:
        match = re.search(rb"/%s\s+(-?\d{1,10})" % name, self._rules)
        return int(match[1]) if match else default

    def _text(self, name: bytes) -> bytes:
        match = re.search(rb"/%s\s*(?:<([0-9a-fA-F\s]*)>|\(((?:\\.|[^\\)]){0,400})\))" % name, self._rules, re.S)
        return string_of(match[1], match[2]) if match else b""


def _md5(octets: bytes) -> bytes:
    return hashlib.md5(octets, usedforsecurity=False).digest()


def rc4(key: bytes, octets: bytes) -> bytes:
    """RC4, which libraries are giving up."""
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) & 255
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray(octets)
    for at, octet in enumerate(out):
        i = (i + 1) & 255
        a = state[i]
        j = (j + a) & 255
        b = state[j]
        state[i], state[j] = b, a
        out[at] = octet ^ state[(a + b) & 255]
    return bytes(out)


def _aes(key: bytes, octets: bytes, *, is_padded: bool = True) -> bytes:
    """AES-CBC with the initial vector in front; what is no whole block at the end is left out."""
    body = octets[16 : len(octets) // 16 * 16]
    if not body:
        return b""
    decryptor = Cipher(AES(key), CBC(octets[:16])).decryptor()
    clear = decryptor.update(body)
    return clear[: -clear[-1]] if is_padded and 0 < clear[-1] <= 16 else clear
