"""SMTP client - one session with a next hop over SMTP or LMTP, from its greeting on, mail after mail.

In: octets of the server, errands. Out: octets to say, and an answer for every recipient. The caller does as `want`
says (`smtp_client_errand.Want` has the list). Commands are pipelined as far as the server allows (RFC 2920), the whole
envelope of a mail in one group.

The module must not know where octets come from, how long anything may take (`stage` names what is being waited for),
nor what an answer means for the mail's fate.

**Failures:** none raised; whatever the server says ends in an answer or in `failure`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from amavispy.mail.envelope import Envelope
from amavispy.mail.reply import Reply
from amavispy.protocols.smtp_client_commands import (
    Extensions,
    mail_command,
    parse_extensions,
    rcpt_command,
    xforward_commands,
)
from amavispy.protocols.smtp_client_errand import (
    STAGES,
    Answer,
    Errand,
    Expected,
    Failure,
    Step,
    Want,
    is_too_many,
    own_refusals,
    said,
)
from amavispy.protocols.smtp_client_replies import GarbledReply, ReplyReader

_FIRST: Mapping[Step, Expected] = {step: Expected(step) for step in Step}
GROUP_SIZE = 100  # commands in one write: their replies must fit the connection's buffers (RFC 2920 3.1)


class SmtpClient:
    """One session. `helo_name` is what we call ourselves; `tls` is "none", "may" or "encrypt"."""

    def __init__(self, helo_name: str, *, is_lmtp: bool = False, tls: str = "none") -> None:
        self.want = Want.READ
        self.failure = Failure("", "")
        self.extensions: Extensions = {}
        self.answers: list[Answer | None] = []
        self._hello = (helo_name, is_lmtp, tls)
        self._reader = ReplyReader()
        self._commands: deque[tuple[bytes, Expected]] = deque()
        self._expected: deque[Expected] = deque([Expected(Step.GREETING)])
        self._output = b""
        self._errand = Errand(Envelope("", ()))
        self._is_closing = False
        self._must_reset = False

    # --- what the caller sees and does

    @property
    def step(self) -> Step:
        """What is being waited for."""
        return self._expected[0].step if self._expected else Step.MAIL

    @property
    def stage(self) -> str:
        """The step's name in replies and logs."""
        stage = STAGES[self.step]
        return stage.pipelined_name if self._pipelines else stage.name

    @property
    def is_reusable(self) -> bool:
        """Another mail may be sent on this connection."""
        return self.want is Want.READY and not self._is_closing and not self._reader.has_input

    @property
    def left_over(self) -> list[int]:
        """Recipients that were too many for this transaction, to be sent in another one now."""
        if len(self.answers) == 1 or not any(answer and answer.reply.is_success for answer in self.answers):
            return []
        return [i for i, answer in enumerate(self.answers) if answer and is_too_many(answer.reply)]

    def take_output(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def receive(self, octets: bytes) -> None:
        """Take what the server said; b"" is the end of the connection."""
        try:
            self._reader.receive(octets)
            while self._expected and (reply := self._reader.next_reply()):
                self._take(reply)
            if not octets and self._expected:
                self._break_off("No")
        except GarbledReply as garbled:
            self._break_off("Bad", f": {garbled}")
        self._proceed()

    def tls_started(self) -> None:
        """The handshake is done: everything before it is forgotten and asked for again (RFC 3207 4.2)."""
        self.want = Want.READ
        self.extensions = {}
        self._hello = (*self._hello[:2], "none")
        self._say_hello()
        self._proceed()

    def begin(self, errand: Errand) -> None:
        """Deliver a mail; the session must be READY."""
        self._errand = errand
        self.answers = own_refusals(errand, self.extensions)
        self._reader.charset = "utf-8" if errand.is_utf8 else "ascii"
        if None in self.answers:
            self._queue_envelope()
            self.want = Want.READ
            self._proceed()

    def content_sent(self) -> None:
        """Everything including the final dot is on its way: from now on the server may have the mail."""
        accepted = [Expected(Step.DOT, i) for i, answer in enumerate(self.answers) if answer is None]
        self._expected = deque(accepted if self._is_lmtp else accepted[:1])
        self.want = Want.READ

    # --- saying hello

    @property
    def _is_lmtp(self) -> bool:
        return self._hello[1]

    @property
    def _pipelines(self) -> bool:
        return "PIPELINING" in self.extensions

    def _say_hello(self) -> None:
        verb = "LHLO" if self._is_lmtp else "EHLO"
        self._queue(f"{verb} {self._hello[0]}\r\n".encode(), Step.EHLO)

    def _on_greeting(self, reply: Reply, at: Expected) -> None:
        del reply, at
        self._say_hello()

    def _on_hello(self, reply: Reply, at: Expected) -> None:
        del at
        self.extensions = parse_extensions(reply.text)
        tls = self._hello[2]
        if tls != "none" and "STARTTLS" in self.extensions:
            self._queue(b"STARTTLS\r\n", Step.STARTTLS)
        elif tls == "encrypt":
            self._fail("fwd-connect", "TLS is required, but the next hop does not offer it")

    def _on_no_ehlo(self, reply: Reply, at: Expected) -> None:
        """A server of old (RFC 5321 3.2); LMTP has nothing to fall back to, and HELO no STARTTLS."""
        if self._is_lmtp or self._hello[2] == "encrypt":
            self._on_refusal(reply, at)
        else:
            self._queue(f"HELO {self._hello[0]}\r\n".encode(), Step.HELO)

    def _on_starttls(self, reply: Reply, at: Expected) -> None:
        del reply, at
        if self._reader.has_input:
            self._fail("fwd-connect", "Text behind the reply to STARTTLS")  # it would pass for an encrypted reply
        else:
            self.want = Want.HANDSHAKE

    def _on_no_starttls(self, reply: Reply, at: Expected) -> None:
        if self._hello[2] == "encrypt":
            self._on_refusal(reply, at)

    def _on_refusal(self, reply: Reply, at: Expected) -> None:
        what = "greeting" if at.step is Step.GREETING else f"response to {self._name(at)}"
        self._fail("fwd-connect", f"Negative {what}: {said(reply)}")

    # --- the envelope

    def _queue_envelope(self) -> None:
        errand, extensions = self._errand, self.extensions
        envelope, dsn = errand.envelope, errand.with_dsn
        if self._must_reset:
            self._queue(b"RSET\r\n", Step.RSET)
        if "XFORWARD" in extensions:
            for command in xforward_commands(envelope.client, extensions):
                self._queue(command, Step.XFORWARD)
        mail = mail_command(envelope, extensions, is_8bit=errand.is_8bit, is_utf8=errand.is_utf8, with_dsn=dsn)
        self._queue(mail, Step.MAIL)
        for i, recipient in enumerate(envelope.recipients):
            if self.answers[i] is None:
                self._queue(rcpt_command(recipient, extensions, with_dsn=dsn), Step.RCPT, i)
        self._queue(b"DATA\r\n", Step.DATA)
        self._must_reset = True

    def _on_ok(self, reply: Reply, at: Expected) -> None:
        """Nothing hangs on this reply: later ones decide. A refused XFORWARD costs the next hop's log a name."""

    def _on_mail_refused(self, reply: Reply, at: Expected) -> None:
        self._answer_rest(Answer.of(reply, at.step))

    def _on_rcpt_refused(self, reply: Reply, at: Expected) -> None:
        self._answer(at.recipient, Answer.of(reply, at.step))

    @property
    def _is_pointless(self) -> bool:
        """No reason to go on: nobody is left to deliver to, or not everybody would get it."""
        return None not in self.answers or (self._errand.needs_all and self._tempfail is not None)

    @property
    def _tempfail(self) -> Answer | None:
        """The first recipient that was refused for now, without those of whom there were too many at once."""
        refused = (answer for answer in self.answers if answer and answer.reply.is_tempfail)
        return next((answer for answer in refused if not is_too_many(answer.reply)), None)

    # --- the content

    def _on_go_ahead(self, reply: Reply, at: Expected) -> None:
        del reply, at
        if self._is_pointless:
            self._is_closing = True  # every other way out of DATA would end a mail
        elif self._reader.has_input:
            self._fail("fwd-data-cmd", "Text behind the reply to DATA")  # it would pass for the reply to the final dot
        else:
            self.want = Want.CONTENT
            self._expected.append(Expected(Step.CONTENT))

    def _on_data_refused(self, reply: Reply, at: Expected) -> None:
        self._answer_rest(Answer.of(reply, at.step))

    def _on_content_refused(self, reply: Reply, at: Expected) -> None:
        """The server did not wait for the final dot."""
        self._is_closing = True
        self._answer_rest(Answer.of(reply, at.step))
        self.want = Want.READ

    def _on_end(self, reply: Reply, at: Expected) -> None:
        self._must_reset = False
        if self._is_lmtp:
            self._answer(at.recipient, Answer.of(reply, at.step))
        else:
            self._answer_rest(Answer.of(reply, at.step))

    # --- answers and failures

    def _answer(self, index: int, answer: Answer) -> None:
        if self.answers[index] is None:
            self.answers[index] = answer

    def _answer_rest(self, answer: Answer) -> None:
        self.answers = [known or answer for known in self.answers]

    def _fail(self, stage: str, text: str) -> None:
        self.want = Want.FAILED
        self.failure = Failure(stage, text)
        self._expected.clear()
        self._commands.clear()

    def _break_off(self, kind: str, detail: str = "") -> None:
        """The connection ended ("No" reply), or what came was none ("Bad")."""
        at, stage = self._expected[0], self.stage
        self._is_closing = True
        if at.step is Step.DOT:
            text = f"{kind} resp. to data-dot{detail}"
            self._answer_rest(Answer(Reply(451, "4.5.0", text), text))
        elif at.step is Step.GREETING:
            self._fail(stage, f"{kind} greeting{detail}")
        elif None in self.answers or at.step < Step.MAIL:
            self._fail(stage, f"{kind} response to {self._name(at)}{detail}")
        self._expected.clear()
        self._commands.clear()

    def _name(self, at: Expected) -> str:
        """What was said to which the reply belongs."""
        if at.step is Step.EHLO and self._is_lmtp:
            return "LHLO"
        name = at.step.name + (" (pip)" if self._pipelines and at.step in (Step.MAIL, Step.RCPT) else "")
        return f"{name} (<{self._errand.envelope.recipients[at.recipient].address}>)" if at.step is Step.RCPT else name

    # --- moving on

    def _queue(self, command: bytes, step: Step, index: int = 0) -> None:
        self._commands.append((command, Expected(step, index) if index else _FIRST[step]))

    def _take(self, reply: Reply) -> None:
        self._is_closing |= reply.code == 421
        action = _ACTIONS.get((self._expected[0].step, reply.code // 100))
        if action is None:
            raise GarbledReply(said(reply))
        action(self, reply, self._expected.popleft())

    def _proceed(self) -> None:
        """Say what may be said now, or come to an end."""
        if self.want is not Want.READ or self._expected:
            return
        if self._commands and self._commands[0][1].step >= Step.MAIL and self._is_pointless:
            self._commands.clear()
        if self._commands:
            size = GROUP_SIZE if self._pipelines else 1
            group = [self._commands.popleft() for _ in range(min(size, len(self._commands)))]
            self._output += b"".join([command for command, _ in group])
            self._expected.extend([expected for _, expected in group])
        else:
            self.want = Want.READY
            self._settle()

    def _settle(self) -> None:
        """Where nobody got the mail because somebody cannot have it now, everybody is to come back."""
        if not self._errand.needs_all:
            return
        reason = self._tempfail
        replies = [answer.reply for answer in self.answers if answer]
        has_everyone = len(replies) == len(self.answers) and all(reply.is_tempfail for reply in replies)
        if reason and not has_everyone and not any(reply.is_success for reply in replies):
            text = f"Bail out, one reply for all recipients and not all can have it now: {reason.said}"
            self.failure = Failure("fwd-data-chkpnt", text, is_broken=False)
            self.want = Want.FAILED


_ACTIONS: Mapping[tuple[Step, int], Callable[[SmtpClient, Reply, Expected], None]] = {
    (Step.GREETING, 2): SmtpClient._on_greeting,
    (Step.GREETING, 4): SmtpClient._on_refusal,
    (Step.GREETING, 5): SmtpClient._on_refusal,
    (Step.EHLO, 2): SmtpClient._on_hello,
    (Step.EHLO, 4): SmtpClient._on_refusal,
    (Step.EHLO, 5): SmtpClient._on_no_ehlo,
    (Step.HELO, 2): SmtpClient._on_ok,
    (Step.HELO, 4): SmtpClient._on_refusal,
    (Step.HELO, 5): SmtpClient._on_refusal,
    (Step.STARTTLS, 2): SmtpClient._on_starttls,
    (Step.STARTTLS, 4): SmtpClient._on_no_starttls,
    (Step.STARTTLS, 5): SmtpClient._on_no_starttls,
    (Step.RSET, 2): SmtpClient._on_ok,
    (Step.XFORWARD, 2): SmtpClient._on_ok,
    (Step.XFORWARD, 4): SmtpClient._on_ok,
    (Step.XFORWARD, 5): SmtpClient._on_ok,
    (Step.MAIL, 2): SmtpClient._on_ok,
    (Step.MAIL, 4): SmtpClient._on_mail_refused,
    (Step.MAIL, 5): SmtpClient._on_mail_refused,
    (Step.RCPT, 2): SmtpClient._on_ok,
    (Step.RCPT, 4): SmtpClient._on_rcpt_refused,
    (Step.RCPT, 5): SmtpClient._on_rcpt_refused,
    (Step.DATA, 3): SmtpClient._on_go_ahead,
    (Step.DATA, 4): SmtpClient._on_data_refused,
    (Step.DATA, 5): SmtpClient._on_data_refused,
    (Step.CONTENT, 4): SmtpClient._on_content_refused,
    (Step.CONTENT, 5): SmtpClient._on_content_refused,
    (Step.DOT, 2): SmtpClient._on_end,
    (Step.DOT, 4): SmtpClient._on_end,
    (Step.DOT, 5): SmtpClient._on_end,
}
"""What a reply of a class means at a step; a pair that is missing is no answer to what was said."""
