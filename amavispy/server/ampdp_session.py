"""AmpdpSession - one lent AM.PDP connection: content checks for amavisd-milter, releases for amavisd-release.

The peer names a file, never sends one; only files inside a work directory below $MYHOME or $TEMPBASE are opened, each
component without following links. Recipients the client still has to deliver are handed back.

Failures: a malformed or impossible request is answered with `setreply=450 ...` and tempfail, and one line is logged;
the connection lives on unless the framing itself is broken.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import BinaryIO

from amavispy.config.model import ServerSettings
from amavispy.journal import Timings
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content, Message
from amavispy.mail.reply import PeerError, Reply, TemporaryFailure
from amavispy.policy.bank import PolicyBank
from amavispy.protocols import ampdp
from amavispy.server.loan import Loan
from amavispy.server.plan import Duty, Shutdown
from amavispy.server.session import Services, work_deadline
from amavispy.server.spool import Spool

_READ_SIZE = 65_536
_UNREADABLE = "Failure: cannot read the message file"


class AmpdpSession:
    """Answers every complete request that has come in, then gives the connection back."""

    def __init__(self, services: Services, loan: Loan, sock: socket.socket, duty: Duty) -> None:
        self._services = services
        self._loan = loan
        self._sock = sock
        self._duty = duty
        self._bank = services.banks.restore(loan.bank_path)
        self._reader = ampdp.RequestReader()
        self._reader.receive(loan.state)
        self._kinds: dict[str, Callable[[ampdp.Request, str], bytes]] = {
            "AM.PDP": self._check,
            "release": self._release,
            "requeue": self._release,
            "report": self._release,
            "smtpd_access_policy": lambda _request, _log_id: ampdp.POLICY_DUNNO,
        }

    def run(self) -> Loan | None:
        """Serve until the connection goes back (its loan, with what was read) or is over (None, closed)."""
        self._sock.settimeout(self._bank.settings.smtpd_timeout)
        try:
            while not self._reader.is_empty:
                request = self._reader.next_request()
                if request is None:
                    self._read_on()
                else:
                    self._sock.sendall(self._answer(request))
        except PeerError as error:
            self._hang_up(ampdp.failure(error.reply))
        except (OSError, EOFError, Shutdown):
            self._hang_up(b"")
        else:
            return replace(self._loan, state=b"", since=0.0)
        return None

    def _read_on(self) -> None:
        with self._duty.waiting():
            octets = self._sock.recv(_READ_SIZE)
        if not octets:
            raise EOFError
        self._reader.receive(octets)

    def _hang_up(self, last_words: bytes) -> None:
        try:
            self._sock.sendall(last_words)
        except OSError:
            pass  # the peer has gone already
        self._sock.close()

    # --- requests

    def _answer(self, request: ampdp.Request) -> bytes:
        log_id = self._duty.begin_message(self._bank.settings.child_timeout)
        with self._services.journal.task(log_id, self._bank):
            try:
                return self._kind(request)(request, log_id)
            except (PeerError, TemporaryFailure) as error:
                self._services.journal.refused(ampdp.envelope_of(request), error.reply)
                return ampdp.failure(error.reply)
            except BaseException:
                self._hang_up(ampdp.failure(Reply(450, "4.5.0", f"Error in processing, id={log_id}")))
                raise
            finally:
                self._duty.end_message()

    def _kind(self, request: ampdp.Request) -> Callable[[ampdp.Request, str], bytes]:
        kind = request.one("request")
        if kind not in self._kinds:
            raise PeerError(
                Reply(450, "4.5.0", f"Failure: unknown request {kind}" if kind else "Missing 'request' field")
            )
        return self._kinds[kind]

    def _release(self, request: ampdp.Request, _log_id: str) -> bytes:
        deadline = work_deadline(self._bank.settings.child_timeout)
        replies = self._services.release.handle(request, self._bank, deadline)
        return ampdp.respond([("setreply", (str(reply.code), reply.enhanced, reply.text)) for reply in replies])

    def _check(self, request: ampdp.Request, log_id: str) -> bytes:
        server = self._services.server
        envelope = ampdp.envelope_of(request)
        if not envelope.recipients:
            raise PeerError(Reply(450, "4.5.0", "Incomplete request: no recipients"))
        tempdir, mail_file = ampdp.mail_file_of(request, (server.myhome, server.tempbase))
        if _is_ours(tempdir, server):
            raise PeerError(Reply(450, "4.5.0", f"Failure: {tempdir} is no work directory"))
        try:
            with Spool(server.tempbase, server.spool_threshold) as spool, _opened(tempdir, mail_file) as file:
                return self._filter(request, envelope, _crlf_content(file, spool), log_id)
        finally:
            if request.one("tempdir_removed_by", "server") == "server":
                _remove(tempdir, mail_file)

    def _filter(self, request: ampdp.Request, envelope: Envelope, content: Content, log_id: str) -> bytes:
        services = self._services
        bank = self._bank_for(request, envelope)
        ids = services.ids.issue(log_id)
        message = Message(envelope, content, ids, self._loan.connection, "AM.PDP", datetime.now().astimezone())
        hands_back = request.one("delivery_care_of", "client") == "client"
        delivery = services.hand_back if hands_back else services.forward_each
        deadline = work_deadline(bank.settings.child_timeout)
        outcome = services.pipeline.process(message, bank, delivery, deadline, Timings())
        return ampdp.answer(outcome, log_id, message)

    def _bank_for(self, request: ampdp.Request, envelope: Envelope) -> PolicyBank:
        banks = self._services.banks
        bank = banks.for_client(self._bank, envelope.client.policy_address)
        bank = banks.for_names(bank, request.one("policy_bank", "").split(","))
        return banks.for_sender(bank, envelope.sender)


def _is_ours(tempdir: str, server: ServerSettings) -> bool:
    """A directory that is not a client's: one asking us to remove it afterwards would hurt."""
    return tempdir in (server.myhome, server.tempbase) or f"{tempdir}/".startswith(f"{server.quarantinedir}/")


def _remove(tempdir: str, mail_file: str) -> None:
    """The file the client made and its directory; whatever else is in there stays, and the directory with it."""
    with contextlib.suppress(OSError):
        os.unlink(mail_file)
        os.rmdir(tempdir)


def _opened(tempdir: str, path: str) -> BinaryIO:
    """The message file, opened below its work directory without following links."""
    try:
        directory = os.open(tempdir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            relative = os.path.relpath(path, tempdir)
            file = os.open(relative, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise PeerError(Reply(450, "4.5.0", f"{_UNREADABLE}: {error.strerror}")) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise PeerError(Reply(450, "4.5.0", f"{_UNREADABLE}: not a regular file"))
    opened = os.fdopen(file, "rb")
    return gzip.GzipFile(fileobj=opened) if path.endswith(".gz") else opened  # type: ignore[return-value]


def _crlf_content(file: BinaryIO, spool: Spool) -> Content:
    """The file's octets with CRLF line ends (the client writes LF)."""
    held = b""
    try:
        while chunk := file.read(1 << 20):
            octets = held + chunk
            held = b"\r" if octets.endswith(b"\r") else b""  # a CRLF cut in two by the chunk's edge
            octets = octets[: len(octets) - len(held)]
            spool.write(octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    except (OSError, EOFError) as error:
        raise PeerError(Reply(450, "4.5.0", f"{_UNREADABLE}: {error}")) from error
    spool.write(held)
    return spool.finish()
