"""lookup_data - amavis' own schema of users, policy, mailaddr and wblist, out of its README files, and rows for tests.

The same rows for every database; `Ann@Example.org` and catch-alls show what the databases compare how.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from amavispy.mail.address import Address
from amavispy.policy.settings import Settings

README = Path("/usr/share/doc/amavisd-new")
_TABLES = re.compile(r"^CREATE TABLE (?:policy|users|mailaddr|wblist) \(.*?^\);", re.M | re.S)

ROWS = """
INSERT INTO policy (id, policy_name, virus_lover, spam_lover, spam_tag2_level, spam_kill_level, spam_subject_tag2,
    message_size_limit, spam_quarantine_to, sa_username, bypass_spam_checks) VALUES
  (1, 'Normal', 'N', NULL, 4.5, 6.5, NULL, NULL, NULL, NULL, NULL),
  (2, 'Lover', 'Y', 'Y', 3, NULL, '[SPAM] ', 100000, '', 'ann', 'y'),
  (3, 'Blank', ' ', '0', NULL, NULL, NULL, 0, NULL, NULL, 'F'),
  (9, 'Catchall', NULL, NULL, 5, 9.5, '*** ', NULL, 'spam@example.org', NULL, NULL);
INSERT INTO users (id, priority, policy_id, email, fullname) VALUES
  (10, 9, 2, 'ann@example.org', 'Ann'),
  (11, 7, 1, '@example.org', NULL),
  (12, 5, 3, '@.example.org', NULL),
  (13, 8, 3, 'root', 'only for local addresses'),
  (14, 9, 1, 'bob+lists@example.org', NULL),
  (15, 0, 9, '@.', NULL);
INSERT INTO mailaddr (id, priority, email) VALUES
  (1, 9, 'friend@elsewhere.example'), (2, 5, '@elsewhere.example'), (3, 9, 'foe@elsewhere.example'),
  (4, 1, '@.'), (5, 9, 'points@elsewhere.example');
INSERT INTO wblist (rid, sid, wb) VALUES
  (10, 1, 'W'), (10, 3, 'B'), (10, 5, '-2.5'), (11, 1, 'B'), (11, 2, ' '), (15, 4, 'N');
"""


def schema(readme: str) -> str:
    """The four tables of lookups as amavis documents them: "README.sql-pg.gz" or "README.sql-mysql.gz"."""
    with gzip.open(README / readme, "rt") as file:
        tables = _TABLES.findall(file.read())
    assert len(tables) == 4, f"{readme} has the four tables of lookups"
    return "\n".join(tables)


def address(path: str, settings: Settings) -> Address:
    return Address.of(path, delimiter=settings.recipient_delimiter, case_sensitive=settings.localpart_is_case_sensitive)
