"""fuzz - coverage-guided fuzzing of everything that reads a stranger's octets: see `python -m tests.fuzz --help`."""
