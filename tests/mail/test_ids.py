"""A mail_id names a mail, its secret_id allows releasing it, and pairs made by amavis are honoured."""

from __future__ import annotations

import re

import pytest

from amavispy.mail.ids import IdIssuer, new_mail_id

KEY = b"sixteen octets.."


def test_a_mail_id_has_twelve_characters_and_alphanumeric_ends() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{10}[A-Za-z0-9]", new_mail_id()) for _ in range(2000))


def test_mail_ids_differ() -> None:
    assert len({new_mail_id() for _ in range(2000)}) == 2000


def test_an_issued_pair_verifies() -> None:
    issuer = IdIssuer(KEY)
    ids = issuer.issue("00001-01")
    assert ids.log_id == "00001-01"
    assert re.fullmatch(r"[A-Za-z0-9_-]{12}", issuer.secret_of(ids.mail_id))
    assert issuer.verifies(ids.mail_id, issuer.secret_of(ids.mail_id))


def test_every_node_with_the_key_knows_the_secret_and_nobody_else_does() -> None:
    issuer = IdIssuer(KEY)
    ids = issuer.issue("1")
    assert IdIssuer(KEY).verifies(ids.mail_id, issuer.secret_of(ids.mail_id))
    assert not IdIssuer(b"another key......").verifies(ids.mail_id, issuer.secret_of(ids.mail_id))


@pytest.mark.parametrize("secret", ["", "x", "AAAAAAAAAAAA", "é" * 12, "\udcff" * 12, "=" * 12])
def test_a_wrong_secret_does_not_verify(secret: str) -> None:
    assert not IdIssuer(KEY).verifies("kpMdsWJyj6tY", secret)


@pytest.mark.parametrize(
    ("mail_id", "secret_id"),
    [
        ("kpMdsWJyj6tY", "xWNILLgTRJ9Z"),  # amavis 2.7.0 and later
        ("oEbVZC32n9xt", "OIdno3lbyc4M"),
        ("2Hh0vGhPNZp4", "l-LThwO1ZOXo"),
        ("K3xShwGS389s", "xWNILLgTRJ9Z"),  # before 2.7.0: the MD5 of the text
        ("cx7YA2BrqCEt", "l+LThwO1ZOXo"),
    ],
)
def test_pairs_made_by_amavis_verify(mail_id: str, secret_id: str) -> None:
    issuer = IdIssuer(KEY)
    assert issuer.verifies(mail_id, secret_id)
    assert not issuer.verifies(mail_id[:-1] + ("A" if mail_id[-1] != "A" else "B"), secret_id)


def test_a_secret_that_decodes_to_nothing_never_verifies() -> None:
    assert not IdIssuer(KEY).verifies("1B2M2Y8AsgTp", "")  # the start of MD5 of nothing


def test_a_guessable_short_mail_id_of_amavis_is_not_honoured() -> None:
    assert not IdIssuer(KEY).verifies("kpMd", "xWNILLgTRJ9Z")


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 16"):
        IdIssuer(b"short")
