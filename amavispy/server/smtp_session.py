"""SmtpSession - one lent SMTP or LMTP connection: events of the engine become a Message, an Outcome becomes replies.

The engine knows the protocol, the pipeline knows the mail; this knows the socket, the bank and the spool. One write a
turn: replies gather in the engine and leave when input is needed.

Failures: before hand-over everything unexpected is answered with 451. A mail that timed out or met a bug is answered
first, then the error is raised so that the worker retires. A client that goes away is nobody's error.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from amavispy.journal import Timings
from amavispy.mail.envelope import Client, Envelope
from amavispy.mail.message import Content, Message
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.protocols.events import Chunk, Data, EndOfMail, Event, Mail, Rcpt, Signal
from amavispy.protocols.smtp_server import SmtpServer
from amavispy.server.loan import Loan
from amavispy.server.plan import Duty, Shutdown
from amavispy.server.session import SHUTTING_DOWN, TIMED_OUT, LastingDelivery, Services, work_deadline
from amavispy.server.spool import Spool

_READ_SIZE = 262_144


class SmtpSession:
    """Runs from the MAIL command the gateway stopped at until the connection is idle again."""

    def __init__(self, services: Services, loan: Loan, sock: socket.socket, duty: Duty) -> None:
        self._services = services
        self._loan = loan
        self._sock = sock
        self._duty = duty
        self._base = services.banks.restore(loan.bank_path)
        self._bank = self._base
        self._engine = SmtpServer(services.profile(self._base, loan.connection), state=loan.state)
        self._spool = Spool(services.server.tempbase, services.server.spool_threshold)
        self._client = Client()
        self._envelope = Envelope("", ())
        self._fault: Reply | None = None
        self._is_pinned = False
        self._timings = Timings()
        self._acts: dict[type, Callable[[Any], None]] = {
            Mail: self._on_mail,
            Rcpt: self._on_rcpt,
            Data: self._on_data,
            Chunk: self._on_chunk,
            EndOfMail: self._on_end_of_mail,
        }

    def run(self) -> Loan | None:
        """Serve until the connection goes back (its loan) or is over (None, closed)."""
        self._sock.settimeout(self._bank.settings.smtpd_timeout)
        with self._spool:
            while (event := self._engine.next_event()) is not Signal.CLOSED:
                if event is not Signal.NEED_DATA:
                    self._act(event)
                    if not isinstance(event, EndOfMail):
                        continue
                elif not self._is_at_rest:
                    self._exchange()
                    continue
                if self._is_at_rest:  # even with the next mail in the input: others wait, too
                    return self._give_back()
            self._flush()
        self._sock.close()
        return None

    @property
    def _is_at_rest(self) -> bool:
        """Between transactions, and allowed to leave this process (a TLS session cannot)."""
        return not self._engine.in_transaction and not self._is_pinned

    def _act(self, event: Event) -> None:
        if event is Signal.START_TLS:
            self._start_tls()
        elif event is Signal.RESET:
            self._forget_transaction()
        else:
            self._acts[type(event)](event)

    # --- the socket

    def _exchange(self) -> None:
        """Say what is to be said, in one write, and read on."""
        if self._is_pinned and self._duty.is_retiring and not self._engine.in_transaction:
            self._engine.say_goodbye(SHUTTING_DOWN)
            return
        try:
            self._flush()
            with self._duty.waiting():
                octets = self._sock.recv(_READ_SIZE)
        except TimeoutError:
            self._engine.say_goodbye(TIMED_OUT)
        except Shutdown:
            self._engine.say_goodbye(SHUTTING_DOWN)
        except OSError:
            self._engine.receive(b"")
        else:
            self._engine.receive(octets)

    def _flush(self) -> None:
        if self._engine.has_output:
            try:
                self._sock.sendall(self._engine.take_output())
            except OSError:
                self._engine.receive(b"")

    def _give_back(self) -> Loan:
        self._flush()
        return replace(self._loan, state=self._engine.state(), since=0.0)

    def _start_tls(self) -> None:
        context = self._services.tls
        assert context is not None, "STARTTLS is offered only with a certificate"
        self._is_pinned = True
        self._flush()
        try:
            self._sock = context.wrap_socket(self._sock, server_side=True)
        except (ssl.SSLError, OSError):
            self._engine.receive(b"")
        else:
            self._engine.tls_started()

    # --- the transaction

    def _on_mail(self, mail: Mail) -> None:
        self._client = mail.client or self._peer_as_client()
        banks = self._services.banks
        try:
            self._bank = banks.for_sender(banks.for_client(self._base, self._client.policy_address), mail.sender)
        except TemporaryFailure as failure:
            self._services.journal.refused(Envelope(mail.sender, (), self._client), failure.reply)
            self._engine.refuse(failure.reply)
            return
        limit = self._bank.settings.smtpd_message_size_limit
        if limit and mail.size and mail.size > limit:
            text = f"Declared message size ({mail.size} B) exceeds size limit"
            self._engine.refuse(Reply(552, "5.3.4", text))
        else:
            self._engine.accept(size_limit=limit)

    def _peer_as_client(self) -> Client:
        return Client(self._loan.connection.peer)

    def _on_rcpt(self, rcpt: Rcpt) -> None:
        del rcpt
        self._engine.accept()

    def _on_data(self, data: Data) -> None:
        self._envelope = replace(data.envelope, client=self._client)
        self._timings = Timings()
        self._duty.mark("d")
        self._engine.accept()

    def _on_chunk(self, chunk: Chunk) -> None:
        if self._fault is None:
            try:
                self._spool.write(chunk.octets)
            except TemporaryFailure as failure:
                self._fault = failure.reply

    def _on_end_of_mail(self, end: EndOfMail) -> None:
        self._timings.mark("receive")
        log_id = self._duty.begin_message(self._bank.settings.child_timeout)
        with self._services.journal.task(log_id, self._bank):
            try:
                self._answer(self._process(end, log_id))
            finally:
                self._duty.end_message()
                self._forget_transaction()

    def _process(self, end: EndOfMail, log_id: str) -> list[Reply]:
        """The replies for this mail, one or (LMTP) one a recipient. Only a bug or the alarm raises, after a 451."""
        try:
            if fault := end.fault or self._fault:
                self._services.journal.refused(self._envelope, fault)
                return self._to_each(fault)
            return self._filter(log_id, self._spool.finish())
        except TemporaryFailure as failure:
            self._services.journal.refused(self._envelope, failure.reply)
            return self._to_each(failure.reply)
        except BaseException:
            self._answer(self._to_each(Reply(451, "4.5.0", f"Error in processing, id={log_id}")))
            self._flush()
            self._sock.close()
            raise

    def _filter(self, log_id: str, content: Content) -> list[Reply]:
        services = self._services
        ids = services.ids.issue(log_id)
        connection = replace(self._loan.connection, helo=self._engine.helo_name)
        message = Message(self._envelope, content, ids, connection, self._engine.protocol, datetime.now().astimezone())
        forward = services.forward_each if self._engine.is_lmtp else services.forward_all
        deadline = work_deadline(self._bank.settings.child_timeout)
        delivery = LastingDelivery(forward, self._duty)
        outcome = services.pipeline.process(message, self._bank, delivery, deadline, self._timings)
        return list(outcome.replies_each()) if self._engine.is_lmtp else [outcome.single_reply(log_id)[0]]

    def _to_each(self, reply: Reply) -> list[Reply]:
        return [reply] * (len(self._envelope.recipients) if self._engine.is_lmtp else 1)

    def _answer(self, replies: list[Reply]) -> None:
        self._engine.answer(replies)

    def _forget_transaction(self) -> None:
        self._spool.close()
        self._fault = None
        self._bank = self._base
