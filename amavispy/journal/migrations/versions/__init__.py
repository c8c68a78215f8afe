"""versions - one module a step; alembic finds them by their `revision`."""
