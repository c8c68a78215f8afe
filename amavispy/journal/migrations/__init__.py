"""migrations - the steps that make and change the tables of records, in amavispy/journal/migrations/versions."""
