"""Clauses of SQL: marks become parameters, everything else passes as it is."""

from __future__ import annotations

import pytest

from amavispy.tables.sql_clause import SEL_POLICY, SEL_WBLIST, Clause


def test_marks_become_placeholders_of_the_driver() -> None:
    clause = Clause(SEL_WBLIST)
    assert "wblist.rid=? AND mailaddr.email IN (?,?,?)" in clause.statement("qmark", {"%k": 3})
    assert "wblist.rid=%s AND mailaddr.email IN (%s,%s,%s)" in clause.statement("format", {"%k": 3})


def test_parameters_stand_in_the_order_of_their_marks() -> None:
    clause = Clause("SELECT %d, %a, ?, %L, %u FROM t WHERE k IN (%k) AND %l=%e AND x=?")
    parts = ("A", "L", "U", "E", "D")
    found = clause.parameters(["k1", "k2"], parts, is_local=False, extra=(7,))
    assert found == ["D", "A", 7, "0", "U", "k1", "k2", "L", "E", None]


def test_marks_in_quotes_are_text_and_percent_signs_survive_a_driver_that_has_them() -> None:
    clause = Clause("SELECT '%k?''%k', \"a%kb\" FROM t WHERE a LIKE 'x%' AND b IN (%k)")
    assert clause.statement("qmark", {"%k": 1}) == "SELECT '%k?''%k', \"a%kb\" FROM t WHERE a LIKE 'x%' AND b IN (?)"
    written = clause.statement("format", {"%k": 1})
    assert written % ("1",) == "SELECT '%k?''%k', \"a%kb\" FROM t WHERE a LIKE 'x%' AND b IN (1)"


@pytest.mark.parametrize(
    ("text", "takes_all"),
    [
        (SEL_POLICY, True),
        ("SELECT *,users.id FROM users,policy WHERE (users.policy_id=policy.id) AND (users.email IN (%k))", True),
        ("SELECT *, 'Y' AS local FROM users WHERE email IN (%k) AND active='Y' ORDER BY priority DESC", True),
        (SEL_POLICY + " LIMIT 1", False),
        (SEL_POLICY + " UNION SELECT * FROM policy", False),
        (SEL_POLICY.replace("IN (%k)", "IN (%k) OR users.email=%a"), False),
        ("SELECT * FROM users JOIN aliases ON aliases.id=users.id WHERE aliases.email IN (%k)", False),
        ("SELECT * FROM users, aliases WHERE users.email IN (%k)", False),
        ("SELECT * FROM users WHERE users.name IN (%k)", False),
    ],
)
def test_only_rows_found_by_the_column_email_can_be_told_apart(text: str, takes_all: bool) -> None:
    assert Clause(text).takes_all_at_once is takes_all
