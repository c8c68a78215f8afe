"""server - processes and sockets."""
