"""Smtp replies - what the SMTP and LMTP server says of its own accord, in one table.

Code, enhanced code and text stand together on one line, so they can be read (and compared with amavis') at a glance.
Texts with {} are completed by `about`. Replies that depend on a mail (accepted, blocked, relayed) come from the caller.
"""

from __future__ import annotations

from typing import Final

from amavispy.mail.reply import Reply

# any command
BAD_SYNTAX: Final = Reply(500, "5.5.2", "Error: bad syntax")
UNKNOWN: Final = Reply(500, "5.5.2", "Error: command {} not recognized")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Error: line too long")
LINE_END: Final = Reply(500, "5.5.2", "Error: lines must end with CRLF")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Error: command {} not implemented")
NO_ARGUMENTS: Final = Reply(501, "5.5.4", "Error: {} does not accept arguments")
TLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Error: too many errors")
NOT_HTTP: Final = Reply(421, "4.7.0", "Error: this is a mail service")
BROKEN_DATA: Final = Reply(421, "4.3.2", "Service shutting down, Connection broken during DATA")

# the session
HELO_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: {} hostname")
RSET_OK: Final = Reply(250, "2.0.0", "Ok RSET")
NOOP_OK: Final = Reply(250, "2.0.0", "Ok NOOP")
VRFY: Final = Reply(252, "2.0.0", "Argument not checked")
VRFY_SYNTAX: Final = Reply(501, "5.5.2", "Syntax: VRFY address")
HELP: Final = Reply(214, "2.0.0", "Commands: HELO EHLO LHLO XFORWARD STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT")
NO_AUTH: Final = Reply(503, "5.5.1", "Error: authentication not enabled")
TLS_READY: Final = Reply(220, "2.0.0", "Ready to start TLS")
TLS_ACTIVE: Final = Reply(554, "5.5.1", "Error: TLS already active")
TLS_UNAVAILABLE: Final = Reply(502, "5.5.1", "Error: command not available")
XFORWARD_OK: Final = Reply(250, "2.5.0", "Ok XFORWARD")
XFORWARD_NESTED: Final = Reply(503, "5.5.1", "Error: XFORWARD not allowed within transaction")
XFORWARD_SYNTAX: Final = Reply(501, "5.5.4", "Syntax error in XFORWARD parameters")
XFORWARD_PARAMETER: Final = Reply(501, "5.5.4", "XFORWARD command parameter error: {}")

# MAIL
MAIL_UNGREETED: Final = Reply(503, "5.5.1", "Need HELO, EHLO or LHLO command before MAIL")
MAIL_NESTED: Final = Reply(503, "5.5.1", "Error: nested MAIL command")
MAIL_SYNTAX: Final = Reply(501, "5.5.2", "Syntax: MAIL FROM:<address>")
MAIL_TOO_LONG: Final = Reply(501, "5.1.7", "Sender address too long")
MAIL_NOT_UTF8: Final = Reply(553, "5.6.7", "Non-ASCII addresses need SMTPUTF8")
MAIL_PARAMETERS: Final = Reply(501, "5.5.4", "Syntax error in MAIL FROM parameters")
MAIL_PARAMETER: Final = Reply(501, "5.5.4", "Syntax error in MAIL parameter: {}")
MAIL_PARAMETER_VALUE: Final = Reply(501, "5.5.4", "Syntax error in MAIL parameter, value is required: {}")
MAIL_PARAMETER_UNKNOWN: Final = Reply(504, "5.5.4", "MAIL command parameter error: {}")
MAIL_TOO_BIG: Final = Reply(552, "5.3.4", "Declared message size ({} B) exceeds size limit")

# RCPT
RCPT_NEEDS_MAIL: Final = Reply(503, "5.5.1", "Need MAIL command before RCPT")
RCPT_AFTER_BDAT: Final = Reply(503, "5.5.1", "Error: RCPT not allowed after BDAT")
RCPT_SYNTAX: Final = Reply(501, "5.5.2", "Syntax: RCPT TO:<address>")
RCPT_EMPTY: Final = Reply(501, "5.1.3", "Bad recipient address syntax")
RCPT_TOO_LONG: Final = Reply(501, "5.1.3", "Recipient address too long")
RCPT_PARAMETERS: Final = Reply(501, "5.5.4", "Syntax error in RCPT parameters")
RCPT_PARAMETER: Final = Reply(501, "5.5.4", "Syntax error in RCPT parameter {}")
RCPT_PARAMETER_VALUE: Final = Reply(501, "5.5.4", "Syntax error in RCPT parameter, value is required: {}")
RCPT_PARAMETER_UNKNOWN: Final = Reply(555, "5.5.4", "RCPT command parameter unrecognized: {}")
NOTIFY_VALUE: Final = Reply(501, "5.5.4", "Error in RCPT parameter NOTIFY, illegal value: {}")
NOTIFY_COMBINATION: Final = Reply(501, "5.5.4", "Error in RCPT parameter NOTIFY, illegal combination of values: {}")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")

# DATA and BDAT
DATA_NEEDS_MAIL: Final = Reply(503, "5.5.1", "Need MAIL command before {}")
DATA_NEEDS_RCPT: Final = Reply(503, "5.5.1", "Need RCPT command before {}")
NO_RECIPIENTS: Final = Reply(554, "5.1.1", "Error ({}): no valid recipients")
NO_RECIPIENTS_LMTP: Final = Reply(503, "5.1.1", "Error ({}): no valid recipients")  # RFC 2033 4.2 wants 503
START_MAIL: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
DATA_AFTER_BDAT: Final = Reply(503, "5.5.1", "Error: DATA not allowed after BDAT")
BDAT_SYNTAX: Final = Reply(521, "5.5.4", "Syntax: BDAT count [LAST]")
BDAT_OK: Final = Reply(250, "2.0.0", "Ok, {} octets received")
BDAT_AFTER_FAILURE: Final = Reply(503, "5.5.1", "Error: BDAT after a failed BDAT")
BARE_LF: Final = Reply(550, "5.5.2", "Error: bare <LF> received")
BARE_CR: Final = Reply(550, "5.5.2", "Error: bare <CR> received")
TOO_BIG: Final = Reply(552, "5.3.4", "Message size ({} B) exceeds size limit")


def about(template: Reply, value: object) -> Reply:
    """The reply with {} replaced by the value, which is cut to 200 characters: it is the client's own text."""
    return Reply(template.code, template.enhanced, template.text.format(str(value)[:200]))
