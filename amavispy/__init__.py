"""amavispy - a preforking mail content filter between the MTA and the mailboxes."""

__version__ = "0.1.0"
