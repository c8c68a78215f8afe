"""Peers - what a real amavisd and a real rspamd find in a mail, each with a real clamd and our signatures.

Both are started in directories of their own, on free ports, with whatever helps them most: amavisd keeps the whole mail
for clamd, rspamd shows clamd every part, texts and pictures too. Both are asked for the name setup.exe as well:
amavisd by a banned rule, rspamd by its module mime_types.
"""

from __future__ import annotations

import http.client
import json
import shutil
import smtplib
from typing import Self

from tests.integration.daemons import Clamd, Daemon

_AMAVISD = r"""
use strict;
$max_servers = 1; $max_requests = 100000; $daemon_user = 'amavis'; $daemon_group = 'amavis';
$myhostname = 'mail.example.com'; $mydomain = 'example.com'; @local_domains_maps = (['.example.com']);
$MYHOME = '@HOME@'; $TEMPBASE = '@HOME@'; $QUARANTINEDIR = undef; $db_home = '@HOME@';
$pid_file = '@HOME@/pid'; $lock_file = '@HOME@/lock'; $enable_db = 0;
$inet_socket_port = @PORT@; $inet_socket_bind = '127.0.0.1';
$forward_method = 'smtp:[127.0.0.1]:1'; $notify_method = $forward_method;
$do_syslog = 0; $logfile = '@HOME@/amavisd.log'; $log_level = 0; $enable_dkim_verification = 0;
@bypass_spam_checks_maps = (1); @bypass_header_checks_maps = (1);
$final_virus_destiny = D_REJECT; $final_banned_destiny = D_REJECT; $final_unchecked_destiny = D_REJECT;
%final_destiny_by_ccat = (CC_VIRUS, D_REJECT, CC_BANNED, D_REJECT, CC_UNCHECKED, D_REJECT, CC_CATCHALL, D_DISCARD);
$virus_quarantine_method = undef; $banned_files_quarantine_method = undef; $unchecked_quarantine_method = undef;
$banned_filename_re = new_RE(qr'.\.(exe|vbs|pif|scr|bat|cmd|com|cpl)$'i);
$MAXLEVELS = 14; $MAXFILES = 1500; $MAX_EXPANSION_QUOTA = 300*1024*1024;
@keep_decoded_original_maps = (new_RE(qr'^MAIL$', qr'^MAIL-UNDECIPHERABLE$'));
@av_scanners = (['ClamAV-clamd', \&ask_daemon, ["CONTSCAN {}\n", '@CLAMD@'],
  qr/\bOK$/m, qr/\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
1;
"""
_RSPAMD = """
options {
    pidfile = "@HOME@/pid"; control_socket = "@HOME@/control mode=0600"; tempdir = "@HOME@";
    cache_file = "@HOME@/cache"; hs_cache_dir = "@HOME@/"; url_tld = "/usr/share/rspamd/effective_tld_names.dat";
    filters = ""; disable_hyperscan = true; history_rows = 1;
    dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }
}
logging { type = "console"; level = "info"; }
worker "normal" { bind_socket = "127.0.0.1:@PORT@"; count = 1; }
modules { path = "/usr/share/rspamd/plugins/antivirus.lua"; path = "/usr/share/rspamd/plugins/mime_types.lua"; }
lua = "@HOME@/rules.lua";
antivirus {
    clamav {
        type = "clamav"; servers = "@CLAMD@"; symbol = "CLAM_VIRUS"; scan_mime_parts = true; scan_text_mime = true;
        scan_image_mime = true; log_clean = true;
    }
}
mime_types { file = "@HOME@/types"; }
actions { reject = 1000; }
"""
_NAME_SYMBOLS = ("MIME_BAD_EXTENSION", "MIME_BAD_ATTACHMENT", "MIME_DOUBLE_BAD_EXTENSION", "MIME_BAD_UNICODE")


class AmavisdPeer(Daemon):
    """amavisd 2.13, asked by SMTP: infected, banned and unchecked mail is refused, other mail discarded."""

    def __init__(self, clamd: Clamd) -> None:
        super().__init__("amavisd")
        self.directory.chmod(0o755)
        home = self.directory / "home"
        home.mkdir()
        shutil.chown(home, "amavis")
        text = _AMAVISD.replace("@HOME@", str(home)).replace("@PORT@", str(self.port))
        config = self.directory / "amavisd.conf"
        config.write_text(text.replace("@CLAMD@", str(clamd.socket)))
        self.run("/usr/sbin/amavisd", "-c", config, "foreground")

    def finds(self, octets: bytes) -> str:
        """ "infected", "banned", "unchecked" or "" for nothing, as its reply says."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            client.ehlo("test.example.com")
            client.mail("ann@example.org")
            client.rcpt("bob@example.com")
            _, reply = client.data(octets)
        for word in ("INFECTED", "BANNED", "UNCHECKED"):
            if word in reply.decode():
                return word.lower()
        return ""


class RspamdPeer(Daemon):
    """rspamd 3.4, asked by HTTP; the names of its symbols say what it found."""

    def __init__(self, clamd: Clamd) -> None:
        super().__init__("rspamd")
        self.directory.chmod(0o777)
        (self.directory / "rules.lua").write_text("-- none\n")
        (self.directory / "types").write_text("text/plain 0.0\n")
        text = _RSPAMD.replace("@HOME@", str(self.directory)).replace("@PORT@", str(self.port))
        config = self.directory / "rspamd.conf"
        config.write_text(text.replace("@CLAMD@", f"127.0.0.1:{clamd.port}"))
        self.run("/usr/bin/rspamd", "-f", "-i", "-c", config)

    def finds(self, octets: bytes) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/checkv2", octets, {"From": "ann@example.org", "Rcpt": "bob@example.com"})
            symbols = json.loads(connection.getresponse().read())["symbols"]
        finally:
            connection.close()
        if "CLAM_VIRUS" in symbols:
            return "infected"
        return "banned" if any(name in symbols for name in _NAME_SYMBOLS) else ""


class Peers:
    """A clamd and both peers."""

    def __enter__(self) -> Self:
        self.clamd = Clamd()
        self.amavisd = AmavisdPeer(self.clamd)
        self.rspamd = RspamdPeer(self.clamd)
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in (self.rspamd, self.amavisd, self.clamd):
            daemon.close()
