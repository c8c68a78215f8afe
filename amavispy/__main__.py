"""`python -m amavispy` is the command `amavispy`."""

from amavispy.cli.main import main

main()
