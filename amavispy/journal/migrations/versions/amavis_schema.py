"""amavis schema - the tables as amavis 2.7.0 and later have them: made where they are missing, adopted where they are.

A database that amavis made is left exactly as it is; whatever reads it goes on reading it.
"""

from __future__ import annotations

from alembic import op

from amavispy.journal.sql_schema import metadata

revision = "amavis_schema"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make what is missing."""
    metadata().create_all(op.get_bind(), checkfirst=True)
