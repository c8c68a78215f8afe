"""Ids - the names of a mail: the public mail_id and the secret_id that allows its release.

A mail_id is 72 random bits as twelve base64url characters, the first and last alphanumeric (amavis' form; file names,
log lines and X-Quarantine-ID carry it). Its secret_id is a keyed hash of it, so nothing has to be stored: whoever has
the key can tell a right pair from a wrong one. Pairs that amavis made are honoured as well (mail_id = start of the
base64 of MD5(secret)), so that an old quarantine can still be released.

Must not know where mails are kept or who may release them.

Failures: ValueError when the key is too short to be one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

from amavispy.mail.message import Ids

_RANDOM_OCTETS = 9
_SECRET_LENGTH = 12
_KEY_OCTETS_LEAST = 16
_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = str.maketrans("-_", "+/")
# Below 48 bits an amavis secret could be guessed from the public mail_id by trying.
_AMAVIS_ID = re.compile(r"[A-Za-z0-9_+-]{8,16}")


def new_mail_id() -> str:
    """Twelve characters of A-Z a-z 0-9 - _, of which the first and the last are alphanumeric."""
    while True:
        mail_id = base64.b64encode(os.urandom(_RANDOM_OCTETS), b"-_").decode()
        if mail_id[0].isalnum() and mail_id[-1].isalnum():
            return mail_id


class IdIssuer:
    """Makes ids for mails and checks secret_ids given back. All nodes that share a quarantine share the key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < _KEY_OCTETS_LEAST:
            raise ValueError(f"the release key has {len(key)} octets, it needs at least {_KEY_OCTETS_LEAST}")
        self._key = key

    def issue(self, log_id: str) -> Ids:
        """The ids of a new mail, processed under this log_id."""
        return Ids(log_id, new_mail_id())

    def secret_of(self, mail_id: str) -> str:
        """The secret_id that belongs to a mail_id of ours: the start of HMAC-SHA256, base64url."""
        digest = hmac.digest(self._key, mail_id.encode("utf-8", "surrogateescape"), "sha256")
        return base64.b64encode(digest[:_RANDOM_OCTETS], b"-_").decode()[:_SECRET_LENGTH]

    def verifies(self, mail_id: str, secret_id: str) -> bool:
        """Whether this secret_id allows releasing this mail_id; compared in constant time."""
        return _same(self.secret_of(mail_id), secret_id) or _is_amavis_pair(mail_id, secret_id)


def _is_amavis_pair(mail_id: str, secret_id: str) -> bool:
    """amavis 2.7.0 and later: base64url of MD5(R) for the secret R. Before: of MD5(base64 text), with + and -."""
    if not _AMAVIS_ID.fullmatch(mail_id) or not _AMAVIS_ID.fullmatch(secret_id):
        return False
    length = len(mail_id)
    if "+" not in secret_id and _same(_md5_text(_decoded(secret_id)).translate(_TO_URL)[:length], mail_id):
        return True
    old = _md5_text(secret_id.encode()).replace("/", "-")[:length]
    return "_" not in secret_id and _same(old, mail_id)


def _decoded(secret_id: str) -> bytes:
    try:
        return base64.b64decode(secret_id.translate(_FROM_URL))
    except binascii.Error:
        return b""


def _md5_text(octets: bytes) -> str:
    return base64.b64encode(hashlib.md5(octets, usedforsecurity=False).digest()).decode()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
