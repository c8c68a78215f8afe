"""cli - the command line: parse, print, exit."""
