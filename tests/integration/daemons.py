"""daemons - real clamd, spamd and rspamd, each in a private directory, on a free port, ended by its process id.

A daemon that is not installed is a failure, not a skip.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.running import free_port, private_directory, wait_until

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

# One signature for the EICAR file, anywhere, and one of our own.
SIGNATURES = f"Eicar-Signature:0:*:{EICAR.hex()}\nTest.Worm-1:0:*:{b'WORM-TEST-SIGNATURE-1'.hex()}\n"


class Daemon:
    """A process of its own directory; `log` is what it printed."""

    def __init__(self, name: str) -> None:
        self.directory = private_directory(name)
        self.port = free_port()
        self._output = open(self.directory / "output", "w+b")  # noqa: SIM115 - lives as long as the daemon
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process, "not started"
        return self._process

    def run(self, *command: str | Path) -> None:
        self._process = subprocess.Popen(
            command, cwd=self.directory, env={"HOME": str(self.directory), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
        )  # fmt: skip
        wait_until(self._answers_or_died, f"{command[0]} answers on port {self.port}:\n{self.log()}", 60)
        assert self.process.poll() is None, f"{command[0]} ended:\n{self.log()}"

    def _answers_or_died(self) -> bool:
        if self.process.poll() is not None:
            return True
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.directory / "output").read_text(errors="replace")

    def end(self) -> None:
        """End the process; the directory stays, so that it can be started again."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.end()
        self._output.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Clamd(Daemon):
    """clamd with two signatures of our own, on the Unix socket `socket` and on `port`; it starts in a second."""

    def __init__(self, *, stream_max: str = "25M") -> None:
        super().__init__("clamd")
        self.socket = self.directory / "clamd.ctl"
        self.database = self.directory / "db"
        self.database.mkdir()
        (self.database / "test.ndb").write_text(SIGNATURES)
        (self.directory / "clamd.conf").write_text(
            f"LocalSocket {self.socket}\nLocalSocketMode 666\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
            f"DatabaseDirectory {self.database}\nTemporaryDirectory {self.directory}\nForeground yes\n"
            f"StreamMaxLength {stream_max}\nAlertExceedsMax yes\n"
        )
        self.start()

    def start(self) -> None:
        self.run("/usr/sbin/clamd", "-c", self.directory / "clamd.conf")

    def reload(self) -> None:
        """Read the signatures again, and wait until the new ones count."""
        count = self.log().count("Activating the newly loaded database")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"zRELOAD\0")
            assert connection.recv(100) == b"RELOADING\0"
        wait_until(lambda: self.log().count("Activating the newly loaded database") > count, "clamd has reloaded")


class Spamd(Daemon):
    """spamd without network tests, on `port`. Users' preferences are files `users/NAME` of its directory."""

    def __init__(self) -> None:
        super().__init__("spamd")
        self.directory.chmod(0o777)
        self._users = self.directory / "users"
        self._users.mkdir(mode=0o777)
        self._users.chmod(0o777)
        self.run(
            "/usr/sbin/spamd", "-L", "-x", "-u", "nobody", "-i", "127.0.0.1", "-p", str(self.port), "-m", "2",
            "-s", "stderr", "--siteconfigpath", "/etc/spamassassin", "--pidfile", self.directory / "spamd.pid",
            f"--virtual-config-dir={self._users}/%u",
        )  # fmt: skip

    def prefers(self, user: str, *lines: str) -> None:
        """The preferences of a user: lines of a user_prefs file."""
        directory = self._users / user
        directory.mkdir()
        (directory / "user_prefs").write_text("".join(f"{line}\n" for line in lines))
        directory.chmod(0o777)


RSPAMD_RULES = """
local function subject_has(word)
  return function(task) return (task:get_subject() or ''):find(word) ~= nil end
end
rspamd_config.RECIPIENTS = {
  callback = function(task) return true, #(task:get_recipients('smtp') or {}) end, score = 1.0 }
rspamd_config.CLIENT = { score = 0.0, callback = function(task)
  local ip = task:get_from_ip()
  local told = {ip and ip:is_valid() and ip:to_string() or '-', task:get_helo() or '-', task:get_hostname() or '-',
    task:get_user() or '-', (task:get_from('smtp') or {{}})[1].addr or '-'}
  return true, 1.0, table.concat(told, ' ')
end }
rspamd_config.LARGE = { score = 1.0, callback = function(task) return true, task:get_size() / 1000000 end }
rspamd_config.PUT_OFF = { score = 0.0, callback = function(task)
  if subject_has('later')(task) then task:set_pre_result('soft reject', 'Come back later') return true end
  return false
end }
rspamd_config.EDITS = { score = 0.0, type = 'idempotent', callback = function(task)
  if subject_has('edits')(task) then
    task:set_milter_reply({ add_headers = { ['X-Rspamd-Said'] = 'hello' }, remove_headers = { ['X-Old'] = 0 } })
  end
end }
"""


class Rspamd(Daemon):
    """rspamd with rules of our own (RSPAMD_RULES) and no modules, on `port` and on the Unix socket `socket`."""

    def __init__(self) -> None:
        super().__init__("rspamd")
        self.directory.chmod(0o777)
        self.socket = self.directory / "rspamd.sock"
        (self.directory / "rules.lua").write_text(RSPAMD_RULES)
        (self.directory / "tld").write_text("com\norg\nnet\nexample\n")
        (self.directory / "rspamd.conf").write_text(
            f"""
            options {{
                pidfile = "{self.directory}/pid"; control_socket = "{self.directory}/control mode=0600";
                tempdir = "{self.directory}"; cache_file = "{self.directory}/cache"; hs_cache_dir = "{self.directory}/";
                url_tld = "{self.directory}/tld"; filters = ""; disable_hyperscan = true; history_rows = 1;
                dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
            }}
            logging {{ type = "console"; level = "info"; }}
            worker "normal" {{
                bind_socket = "127.0.0.1:{self.port}"; bind_socket = "{self.socket} mode=0666"; count = 1;
            }}
            lua = "{self.directory}/rules.lua";
            actions {{ reject = 15; add_header = 6; greylist = 4; }}
            """
        )
        self.run("/usr/bin/rspamd", "-f", "-i", "-c", self.directory / "rspamd.conf")
