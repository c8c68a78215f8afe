"""policy - rules: which settings hold, what shall be done, no I/O."""
