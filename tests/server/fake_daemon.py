"""fake_daemon - master, gateway and workers as they are, with sessions that only pretend to filter.

Run as `python -m tests.server.fake_daemon DIRECTORY`; `DIRECTORY/plan.json` is read at start and at every reload:
{"server": {...}, "bank": {...}, "banks": {...}, "interface_policy": {...}, "fault": "..."}. What happens to a mail is
said by its sender's local part: ok, hold (until the file `release` exists), bug, hang (deaf to the alarm).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from amavispy.config.faults import ConfigError, Fault
from amavispy.config.model import ListenSocket, ServerSettings
from amavispy.mail.reply import Reply
from amavispy.policy.bank import Banks, NamedBank
from amavispy.policy.ip_table import IpTable
from amavispy.policy.settings import Settings
from amavispy.protocols.events import Chunk, Data, EndOfMail, Mail, Rcpt, Signal
from amavispy.protocols.smtp_server import SmtpServer
from amavispy.server import master
from amavispy.server.listener import inherited_sockets
from amavispy.server.loan import Loan
from amavispy.server.plan import Duty, Plan, Shutdown
from amavispy.server.profiles import Profiles

boot_status = 0  # of children right after their fork, unless it is 0


def end_at_birth() -> None:
    if boot_status:
        os._exit(boot_status)


class FakeSessions:
    """Accepts everything; the reply names the worker and the plan."""

    def __init__(self, directory: Path, banks: Banks, profiles: Profiles, name: str) -> None:
        self.directory, self.banks, self.profiles, self.name = directory, banks, profiles, name

    def run(self, loan: Loan, sock: socket.socket, duty: Duty) -> Loan | None:
        if loan.protocol == "AM.PDP":
            return self.run_ampdp(loan, sock, duty)
        bank = self.banks.restore(loan.bank_path)
        engine = SmtpServer(self.profiles(bank, loan.connection), state=loan.state)
        sock.settimeout(bank.settings.smtpd_timeout)
        sender, in_mail = "", False
        while (event := engine.next_event()) is not Signal.CLOSED:
            if isinstance(event, Mail):
                sender, in_mail = event.sender, True
                engine.accept()
            elif isinstance(event, Rcpt | Data):
                engine.accept()
            elif isinstance(event, EndOfMail):
                engine.answer([self.process(sender, bank, loan, duty, sock)])
                sock.sendall(engine.take_output())
                return replace(loan, state=engine.state(), since=0.0)  # others may be waiting for their turn
            elif event is Signal.START_TLS:
                duty.mark("T")
                engine.tls_started()
                in_mail = True  # stays here
            elif event is Signal.RESET:
                in_mail = False
            elif event is Signal.NEED_DATA:
                if engine.has_output:
                    sock.sendall(engine.take_output())
                if not in_mail:
                    return replace(loan, state=engine.state(), since=0.0)
                self.read(engine, sock, duty)
            else:
                assert isinstance(event, Chunk)
        try:
            sock.sendall(engine.take_output())
        except OSError:
            pass
        sock.close()
        return None

    def read(self, engine: SmtpServer, sock: socket.socket, duty: Duty) -> None:
        try:
            with duty.waiting():
                octets = sock.recv(65536)
        except Shutdown:
            engine.say_goodbye(Reply(421, "4.3.2", "Service shutting down, closing channel"))
        except OSError:
            engine.receive(b"")
        else:
            engine.receive(octets)

    def run_ampdp(self, loan: Loan, sock: socket.socket, duty: Duty) -> Loan | None:
        unread = loan.state
        sock.settimeout(10)
        while b"\n\n" not in unread:
            with duty.waiting():
                octets = sock.recv(4096)
            if not octets:
                sock.close()
                return None
            unread += octets
        log_id = duty.begin_message(10)
        sock.sendall(f"log_id={log_id}\r\n\r\n".encode())
        duty.end_message()
        return replace(loan, state=unread.partition(b"\n\n")[2], since=0.0)

    def process(self, sender: str, bank, loan: Loan, duty: Duty, sock: socket.socket) -> Reply:
        log_id = duty.begin_message(bank.settings.child_timeout)
        try:
            self.act(sender.partition("@")[0])
        except TimeoutError:
            sock.sendall(b"451 4.5.0 timed out\r\n")
            raise
        finally:
            duty.end_message()
        return Reply(250, "2.0.0", f"Ok {log_id} {self.name} bank={bank.name} peer={loan.connection.peer}")

    def act(self, order: str) -> None:
        if order == "bug":
            raise RuntimeError("a bug, as ordered")
        if order == "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(60)
        while order == "hold" and not (self.directory / "release").exists():
            time.sleep(0.01)


def settings_of(values: dict) -> dict:
    converted = dict(values)
    if "inet_acl" in converted:
        converted["inet_acl"] = IpTable.of(converted["inet_acl"])
    return converted


def listen_socket(text: str) -> ListenSocket:
    if text.startswith("/"):
        return ListenSocket.unix(text)
    host, _, port = text.rpartition(":")
    return ListenSocket(text, "inet", host=host.strip("[]"), port=int(port))


def make_plan(directory: Path) -> Plan:
    values = json.loads((directory / "plan.json").read_text())
    if fault := values.get("fault"):
        raise ConfigError([Fault("plan.json", 1, "fault", fault)])
    listen_sockets = tuple(map(listen_socket, values["server"].pop("listen_sockets")))
    server = ServerSettings(
        **{
            "myhome": str(directory),
            "pid_file": str(directory / "pid"),
            "daemon_user": "nobody",
            "daemon_group": "",
            **values["server"],
        },
        listen_sockets=listen_sockets,
    )
    named = {name: NamedBank(name, settings_of(bank)) for name, bank in values.get("banks", {}).items()}
    policy = {key: tuple(names) for key, names in values.get("interface_policy", {}).items()}
    banks = Banks(Settings(**settings_of(values.get("bank", {}))), named, policy)
    global boot_status
    boot_status = values.get("boot_status", 0)
    sessions = FakeSessions(directory, banks, Profiles(server), values.get("name", "first"))
    return Plan(server, banks, sessions, lambda: (directory / f"reopened-{os.getpid()}").touch())


def main() -> int:
    directory = Path(sys.argv[1])
    os.register_at_fork(after_in_child=end_at_birth)
    logging.addLevelName(25, "NOTICE")
    logging.basicConfig(filename=directory / "log", level=logging.DEBUG, format="%(process)d %(levelname)s %(message)s")
    try:
        return master.run(
            lambda: make_plan(directory),
            environment=os.environ,
            inherited=inherited_sockets(os.environ),
            ready=(directory / "ready").touch,
        )
    except master.StartError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
