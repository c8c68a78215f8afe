"""delivery - acts on mail: forward, quarantine, release, notify."""
