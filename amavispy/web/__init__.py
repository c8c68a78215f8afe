"""web - the quarantine and status pages, a process of its own."""
