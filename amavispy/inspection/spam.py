"""Spam - what spamd thinks of a mail.

spamd gets the mail with the pseudo header fields that amavis gives its scanners (Return-Path, X-Envelope-To,
X-Amavis-MessageSize), one connection for each mail, no User header: every recipient shares the daemon's own
preferences. A large mail is cut: at most 64 KiB of header and 400 KiB of body are sent, unless cutting would save less
than 5 KiB. SpamAssassin's rules look at the beginning of a mail, and its time grows with the rest.

**Failures:** none after the start: a SpamScan without score and with `error`, which is not the same as score 0. At the
start ValueError for an improper address.
"""

from __future__ import annotations

from amavispy.inspection.wire import DaemonAddress, Lost, Wire
from amavispy.inspection.workload import Mail
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import SpamScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.spamd import ResponseReader, SpamdError, request_head

HEADER_LIMIT = 64 * 1024
BODY_LIMIT = 400 * 1024
_WORTH_CUTTING = 5 * 1024
_RECIPIENTS_SHOWN = 100
_CONTROLS = dict.fromkeys((*range(32), 127), "?")


class SpamdScanner:
    """One spamd."""

    def __init__(self, spec: ScannerSpec) -> None:
        self.spec = spec
        self._address = DaemonAddress.parse(spec.address)

    def start(self, mail: Mail, ends_at: float) -> SpamdDialogue:
        """Connect, and send as much as possible at once."""
        dialogue = SpamdDialogue(self.spec, ends_at)
        dialogue.begin(self._address, what_spamd_gets(mail.content, mail.envelope))
        return dialogue


class SpamdDialogue:
    """The scan of one mail by one spamd."""

    __slots__ = ("_error", "_reader", "_spec", "_wire", "ends_at")

    def __init__(self, spec: ScannerSpec, ends_at: float) -> None:
        self.ends_at = ends_at
        self._spec = spec
        self._reader = ResponseReader()
        self._wire: Wire | None = None
        self._error = ""

    @property
    def interest(self) -> int:
        return self._wire.interest if self._wire else 0

    def fileno(self) -> int:
        assert self._wire
        return self._wire.fileno()

    def begin(self, address: DaemonAddress, pieces: list[bytes]) -> None:
        try:
            self._wire = Wire(address)
            self._wire.queue(request_head(sum(map(len, pieces))), *pieces)
            self._wire.send()  # the error it may return comes again when the answer is awaited
        except Lost as error:
            self._end(str(error))

    def work_here(self) -> None:
        """Nothing: spamd works there."""

    def advance(self) -> None:
        if self._wire is None:
            return
        try:
            octets = self._wire.pump()
            if octets is not None:
                self._reader.receive(octets)
        except (Lost, SpamdError) as error:
            self._end(str(error))
        if self._reader.response:
            self._end("")

    def expire(self) -> None:
        if self._wire:
            self._end("no answer in time")

    def close(self) -> None:
        if self._wire:
            self._wire.close()

    def result(self) -> SpamScan:
        spec, response = self._spec, self._reader.response
        if self._error or response is None:
            return SpamScan(spec.name, error=self._error or "no response", on_failure=spec.on_failure)
        return SpamScan(spec.name, response.score, response.tests, "", response.report, "", spec.on_failure)

    def _end(self, error: str) -> None:
        self._error = error
        if self._wire:
            self._wire.close()
            self._wire = None


def what_spamd_gets(content: Content, envelope: Envelope) -> list[bytes]:
    """The pseudo header and the mail, cut to size, ended by a line end (spamd reads lines)."""
    octets, size = content.octets, content.size
    most = min(content.body_start, HEADER_LIMIT) + BODY_LIMIT
    length = most if size >= most + _WORTH_CUTTING else size
    mail = octets if isinstance(octets, bytes) and length == size else octets[:length]
    return [_pseudo_header(envelope, size, length), mail, b"" if mail.endswith(b"\n") else b"\r\n"]


def _pseudo_header(envelope: Envelope, size: int, length: int) -> bytes:
    recipients = ",\r\n\t".join(f"<{r.address.translate(_CONTROLS)}>" for r in envelope.recipients[:_RECIPIENTS_SHOWN])
    cut = f", TRUNCATED to {length}" if length < size else ""
    text = (
        f"Return-Path: <{envelope.sender.translate(_CONTROLS)}>\r\nX-Envelope-To: {recipients}\r\n"
        f"X-Amavis-MessageSize: {size}{cut}\r\n"
    )
    return text.encode("utf-8", "surrogateescape")
