"""postfix - a private Postfix: own configuration, queue and log, free ports, ended by its master's process id.

Its smtpd services: `filtered` (content_filter, by SMTP), `by_lmtp` (by LMTP), `proxied` (smtpd_proxy_filter), `milted`
(smtpd_milters) and `reentry` (no filters, where mail comes back); everything is relayed to the test's sink. XCLIENT is
allowed, so that a test can be any client.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.running import free_port, private_directory, wait_until

_MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
shlib_directory = /usr/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
inet_interfaces = 127.0.0.1, [::1]
inet_protocols = all
myhostname = mail.example.com
mydomain = example.com
mydestination =
mynetworks = 0.0.0.0/0 [::]/0
relay_domains = static:all
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_authorized_xclient_hosts = 127.0.0.0/8 [::1]/128
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
alias_maps =
alias_database =
biff = no
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
in_flow_delay = 0
milter_default_action = tempfail
default_process_limit = 60
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
"""

_MASTER = """
127.0.0.1:{filtered} inet n - n - - smtpd
    -o content_filter=smtp-amavis:{post_queue}
[::1]:{filtered6} inet n - n - - smtpd
    -o content_filter=smtp-amavis:{post_queue}
127.0.0.1:{by_lmtp} inet n - n - - smtpd
    -o content_filter=lmtp-amavis:{post_queue}
127.0.0.1:{proxied} inet n - n - 40 smtpd
    -o smtpd_proxy_filter={proxy_filter}
    -o smtpd_client_connection_count_limit=40
127.0.0.1:{milted} inet n - n - - smtpd
    -o smtpd_milters={milters}
127.0.0.1:{reentry} inet n - n - - smtpd
    -o content_filter=
    -o smtpd_milters=
    -o smtpd_authorized_xforward_hosts=127.0.0.0/8,[::1]/128
    -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters
smtp-amavis unix - - n - {filters} smtp
    -o smtp_send_xforward_command=yes
    -o smtp_data_done_timeout=1200
    -o disable_dns_lookups=yes
lmtp-amavis unix - - n - {filters} lmtp
    -o lmtp_send_xforward_command=yes
    -o disable_dns_lookups=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Routes:
    """Where the filter listens: `host:port` for the post-queue and proxy routes, milter sockets in Postfix's words."""

    post_queue: str
    proxy_filter: str = ""
    milters: str = ""
    filters: int = 4


class Postfix:
    """A running Postfix. Ports: `filtered` (and `filtered6`), `by_lmtp`, `proxied`, `milted`, `reentry`."""

    def __init__(self, sink_port: int, reentry_port: int, routes: Routes) -> None:
        self.directory = private_directory("postfix")
        self.filtered, self.filtered6, self.by_lmtp, self.proxied, self.milted = (free_port() for _ in range(5))
        self.reentry = reentry_port
        self._configure(sink_port, routes)
        subprocess.run(["postfix", "-c", self.directory / "etc", "start"], check=True, capture_output=True, timeout=60)
        wait_until(lambda: (self.directory / "queue/pid/master.pid").exists(), "Postfix's master")
        self.pid = int((self.directory / "queue/pid/master.pid").read_text())

    def _configure(self, sink_port: int, routes: Routes) -> None:
        for name in ("etc", "queue", "data"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        for name in ("dynamicmaps.cf", "postfix-files"):
            if Path("/etc/postfix", name).exists():
                shutil.copy(Path("/etc/postfix", name), self.directory / "etc")
        (self.directory / "etc/main.cf").write_text(_MAIN.format(dir=self.directory, sink=sink_port))
        (self.directory / "etc/master.cf").write_text(
            _MASTER.format(
                filtered=self.filtered,
                filtered6=self.filtered6,
                by_lmtp=self.by_lmtp,
                proxied=self.proxied,
                milted=self.milted,
                reentry=self.reentry,
                post_queue=routes.post_queue,
                proxy_filter=routes.proxy_filter or routes.post_queue,
                milters=routes.milters,
                filters=routes.filters,
            )
        )

    def log(self) -> str:
        path = self.directory / "mail.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def queue(self) -> str:
        done = subprocess.run(["postqueue", "-c", self.directory / "etc", "-p"], capture_output=True, text=True)
        return done.stdout

    def flush(self) -> None:
        subprocess.run(["postqueue", "-c", self.directory / "etc", "-f"], check=True, capture_output=True)

    def stop(self) -> None:
        subprocess.run(["postfix", "-c", self.directory / "etc", "abort"], capture_output=True, timeout=60)
        wait_until(lambda: not Path(f"/proc/{self.pid}").exists(), "Postfix's end")
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Postfix:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
