"""peers - the filters that are compared, the sink behind them and the scanner beside them, all from Debian packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCENARIOS = ("S0", "S1", "S2")
_ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(address: int | Path, seconds: float = 30) -> None:
    """Until somebody accepts connections on a loopback port or Unix socket."""
    end = time.monotonic() + seconds
    while True:
        family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
        with socket.socket(family) as probe:
            try:
                probe.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
                return
            except OSError:
                if time.monotonic() > end:
                    raise
        time.sleep(0.05)


class Daemon:
    """A process in a private directory; ended by its process id, its directory removed."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="amavispy-bench-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self, *command: str | Path) -> None:
        with open(self.directory / "output", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def home(self, user: str) -> Path:
        home = self.directory / "home"
        for path in (home, home / "tmp", home / "quarantine", home / "db"):
            path.mkdir()
            if os.geteuid() == 0:
                shutil.chown(path, user)
        return home

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Sink(Daemon):
    """Postfix's smtp-sink: takes everything, keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.start("smtp-sink", *user, "-c", f"127.0.0.1:{self.port}", "1000")
        wait_for(self.port)


class Clamd(Daemon):
    """clamd with one signature of our own."""

    def __init__(self, *, needed: bool) -> None:
        super().__init__()
        self.path = self.directory / "clamd.ctl"
        if not needed:
            return
        (self.directory / "db").mkdir()
        (self.directory / "db/bench.ndb").write_text("Bench.Test:0:*:616d617669737079\n")
        config = (
            f"DatabaseDirectory {self.directory}/db\nLocalSocket {self.path}\nLocalSocketMode 666\nForeground yes\n"
        )
        (self.directory / "clamd.conf").write_text(config)
        self.start("clamd", "-c", self.directory / "clamd.conf")
        wait_for(self.path)


class Amavispy(Daemon):
    """amavispy with 4 workers."""

    def __init__(self, scenario: str, sink: Sink, clamd: Clamd) -> None:
        super().__init__()
        self.port = free_port()
        home = self.home("nobody")
        (self.directory / "amavispy.toml").write_text(
            _AMAVISPY.format(
                port=self.port,
                sink=sink.port,
                checks=_AMAVISPY_CHECKS[scenario].format(clamd=clamd.path),
            )
        )
        user = ["-u", "nobody", "-g", "nogroup"] if os.geteuid() == 0 else ["-X", "no_conf_file_writable_check"]
        command = [Path(sys.executable).parent / "amavispy", "foreground", "-c", self.directory / "amavispy.toml"]
        self.start(*command, "-H", home, "-P", home / "pid", *user)
        wait_for(self.port)


class Amavisd(Daemon):
    """The real amavisd with 4 children."""

    def __init__(self, scenario: str, sink: Sink, clamd: Clamd) -> None:
        super().__init__()
        self.port = free_port()
        home = self.home("amavis")
        checks = _AMAVISD_CHECKS[scenario].replace("@CLAMD@", str(clamd.path))
        text = _AMAVISD.replace("@HOME@", str(home)).replace("@PORT@", str(self.port)).replace("@SINK@", str(sink.port))
        (self.directory / "amavisd.conf").write_text(text + checks + "1;\n")
        self.start("amavisd", "-c", self.directory / "amavisd.conf", "foreground")
        wait_for(self.port)


PEERS = {"amavisd": Amavisd, "amavispy": Amavispy}

_AMAVISPY = """
myhostname = "mail.example.com"
mydomain = "example.com"
max_servers = 4
max_requests = 0
local_domains_maps = [[".example.com"]]
listen_sockets = ["127.0.0.1:{port}"]
forward_method = "smtp:[127.0.0.1]:{sink}"
notify_method = "smtp:[127.0.0.1]:{sink}"
do_syslog = false
logfile = "$MYHOME/amavispy.log"
{checks}
"""
_AMAVISPY_S0 = """
bypass_decode_parts = true
bypass_virus_checks_maps = true
bypass_spam_checks_maps = true
bypass_banned_checks_maps = true
bypass_header_checks_maps = true
"""
_AMAVISPY_S1 = r"""
bypass_spam_checks_maps = true
banned_filename_re = ['.\.(?:exe|vbs|pif|scr|bat|cmd|com|cpl)$', '^\.exe-ms$']
"""
_AMAVISPY_CLAMD = """
[[av_scanners]]
name = "ClamAV-clamd"
type = "clamd"
address = "{clamd}"
"""
_AMAVISD = r"""
use strict;
$max_servers = 4; $max_requests = 1000; $daemon_user = 'amavis'; $daemon_group = 'amavis';
$myhostname = 'mail.example.com'; $mydomain = 'example.com'; @local_domains_maps = (['.example.com']);
$MYHOME = '@HOME@'; $TEMPBASE = '@HOME@/tmp'; $QUARANTINEDIR = '@HOME@/quarantine'; $db_home = '@HOME@/db';
$pid_file = '@HOME@/pid'; $lock_file = '@HOME@/lock'; $enable_db = 0;
$inet_socket_port = @PORT@; $inet_socket_bind = '127.0.0.1';
$forward_method = 'smtp:[127.0.0.1]:@SINK@'; $notify_method = $forward_method;
$do_syslog = 0; $logfile = '@HOME@/amavisd.log'; $log_level = 0; $log_recip_templ = undef;
$enable_dkim_verification = 0;
"""
_AMAVISD_S0 = r"""
@bypass_virus_checks_maps = (1); @bypass_spam_checks_maps = (1);
@bypass_banned_checks_maps = (1); @bypass_header_checks_maps = (1); $bypass_decode_parts = 1;
"""
_AMAVISD_S1 = r"""
@bypass_spam_checks_maps = (1);
$banned_filename_re = new_RE(qr'.\.(exe|vbs|pif|scr|bat|cmd|com|cpl)$'i, qr'^\.exe-ms$');
$MAXLEVELS = 14; $MAXFILES = 1500; $MAX_EXPANSION_QUOTA = 300*1024*1024;
@keep_decoded_original_maps = (new_RE(qr'^MAIL$', qr'^MAIL-UNDECIPHERABLE$'));
"""
_AMAVISD_CLAMD = r"""
@av_scanners = (['ClamAV-clamd', \&ask_daemon, ["CONTSCAN {}\n", '@CLAMD@'],
  qr/\bOK$/m, qr/\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
"""
_AMAVISPY_CHECKS = {"S0": _AMAVISPY_S0, "S1": _AMAVISPY_S1, "S2": _AMAVISPY_S1 + _AMAVISPY_CLAMD}
_AMAVISD_CHECKS = {
    "S0": _AMAVISD_S0,
    "S1": "@bypass_virus_checks_maps = (1);\n" + _AMAVISD_S1,
    "S2": _AMAVISD_S1 + _AMAVISD_CLAMD,
}
