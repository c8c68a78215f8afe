"""protocols - octets become events and values become octets, no I/O."""
