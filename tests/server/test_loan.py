"""A loan is the same on both sides, however large."""

import marshal

import pytest

from amavispy.mail.envelope import Connection
from amavispy.server.loan import Loan

CONNECTION = Connection("[::1]:10026", "2001:db8::1", 4711, "::1", 10026, "lo", 12)


def test_a_loan_survives_the_journey():
    loan = Loan("SMTP", ("", "MYNETS"), CONNECTION, b"\0state\xff", 12.5, True, b"250 Ok\r\n")
    assert Loan.decode(loan.encode()) == loan


@pytest.mark.parametrize("octets", [b"", b"f", b"250 Ok", Loan("SMTP", (), CONNECTION, b"").encode()[:-3]])
def test_what_is_not_a_loan_is_refused(octets):
    with pytest.raises(ValueError, match="not a loan"):
        Loan.decode(octets)


def test_a_tuple_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="not a loan"):
        Loan.decode(marshal.dumps((1, 2, 3)))
