"""tables - lookup tables that need I/O."""
