"""A running daemon and its quarantine: files, SQL and mail, kills in the middle, two nodes, and people who use it."""

from __future__ import annotations

import json
import os
import pwd
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.database_servers import PostgreSQL
from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import AMAVISPY, USER, RunningDaemon, wait_until
from tests.sink import Sink

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
RELEASE = """
release_method = "smtp:[127.0.0.1]:{sink}"
requeue_method = "smtp:[127.0.0.1]:{sink}"
"""


def virus(subject: str) -> bytes:
    return MAIL.replace(b"Subject: t", f"Subject: {subject}".encode()).replace(b"Hi\r\n", EICAR + b"\r\n")


def deliver(port: int, octets: bytes, *recipients: str) -> str:
    with Talk(port) as talk:
        talk.greet()
        return talk.deliver(octets, *recipients)


class Site:
    """A daemon with a sink behind it and the commands that look after its quarantine."""

    def __init__(self, sink: Sink, extra: str, *, workers: int = 2) -> None:
        self.sink = sink
        extra += RELEASE.format(sink=sink.port)
        self.port, self.config = small_config(sink.port, extra=extra, workers=workers)
        self.daemon = RunningDaemon(self.config)

    def command(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command, subcommand, *rest = words
        called = [AMAVISPY, command, subcommand, *self.daemon.options, *rest]
        done = subprocess.run(called, input=given, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def listed(self, *filters: str) -> list[dict[str, object]]:
        done = self.command("quarantine", "list", "--json", *filters)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ids(self, *filters: str) -> dict[str, str]:
        """mail_id by subject."""
        return {str(mail["subject"]): str(mail["mail_id"]) for mail in self.listed(*filters)}

    def stop(self) -> None:
        self.daemon.stop()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        init = [AMAVISPY, "db", "init", "-X", "no_conf_file_writable_check", "-c", _minimal(running.directory)]
        command = [*init, "--set", f'storage_sql_dsn="{running.dsn}"']
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        yield running


def _minimal(directory: Path) -> str:
    (directory / "minimal.toml").write_text('myhostname = "mail.example.com"\n')
    return f"{directory}/minimal.toml"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    extra = 'clean_quarantine_method = "local:clean-%m.gz"\nquarantine_lifetimes = { virus = "1s" }\n'
    with Sink() as sink:
        running = Site(sink, extra)
        yield running
        running.stop()


# --- people


def test_kept_mail_is_listed_shown_and_released(site: Site) -> None:
    assert deliver(site.port, virus("first"), "b@example.com", "c@example.com").startswith("250 2.7.0 Ok, discarded")
    mail_id = site.ids("--category", "virus", "--recipient", "c@example.com")["first"]
    line = site.command("quarantine", "list", "--sender", "a@example.org", "--subject", "FIRST").stdout
    assert line.split("\t")[0] == mail_id
    assert line.split("\t")[2:] == ["virus", "-", "196", "<a@example.org>", "b@example.com,c@example.com", "first\n"]
    shown = site.command("quarantine", "show", mail_id).stdout
    assert "recipient:   <b@example.com> did not get it\n" in shown
    assert "\nX-Amavis-Alert: INFECTED, message contains virus: EICAR-Test-File\n" in shown
    raw = [AMAVISPY, "quarantine", "show", *site.daemon.options, mail_id, "--raw"]
    assert subprocess.run(raw, capture_output=True, timeout=60).stdout == virus("first")
    before = len(site.sink.mails)
    done = site.command("quarantine", "release", mail_id)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{mail_id} <") == 2
    assert site.sink.mails[before].recipients == ["b@example.com", "c@example.com"]
    assert site.sink.mails[before].octets.endswith(virus("first"))
    (mail,) = site.listed("--subject", "first")
    assert all(recipient["released"] for recipient in mail["recipients"])  # type: ignore[attr-defined]
    assert f"Quarantined message release (miscategorized): {mail_id}" in site.daemon.log()


def test_mails_can_be_named_on_standard_input_and_sent_elsewhere(site: Site) -> None:
    for subject in ("one", "two"):
        deliver(site.port, virus(subject))
    lines = "".join(
        line for line in site.command("quarantine", "list").stdout.splitlines(True) if line.endswith(("one\n", "two\n"))
    )
    before = len(site.sink.mails)
    done = site.command("quarantine", "release", "-", "--to", "<admin@example.com>", "--json", given=lines)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["recipient"], answer["ok"], answer["code"]) for answer in answers] == [
        ("admin@example.com", True, 250)
    ] * 2
    assert [mail.recipients for mail in site.sink.mails[before:]] == [["admin@example.com"]] * 2


def test_requeue_and_report_send_what_they_should(site: Site) -> None:
    deliver(site.port, virus("third"))
    mail_id, before = site.ids()["third"], len(site.sink.mails)
    assert site.command("quarantine", "requeue", mail_id).returncode == 0
    assert site.command("quarantine", "report", mail_id, "--to", "abuse@example.net").returncode == 0
    assert site.command("quarantine", "report", mail_id).returncode == 2
    requeued, reported = site.sink.mails[before:]
    assert requeued.octets.endswith(virus("third"))
    assert b"Feedback-Type: abuse" in reported.octets


def test_what_cannot_be_done_is_said_in_one_line(site: Site) -> None:
    done = site.command("quarantine", "release", "AAAAAAAAAAAA")
    assert (done.returncode, done.stderr) == (1, "AAAAAAAAAAAA: no quarantined message AAAAAAAAAAAA\n")
    done = site.command("quarantine", "show", "AAAAAAAAAAAA")
    assert done.returncode == 1
    assert done.stderr.startswith("no kept mail AAAAAAAAAAAA; ")
    done = site.command("quarantine", "delete", "--json", "AAAAAAAAAAAA")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (1, False)
    assert site.command("quarantine", "list", "--since", "yesterday").returncode == 2
    assert site.command("quarantine", "release", "x", "--to", "nobody").returncode == 2
    assert site.command("db", "init").returncode == 1


def test_a_next_hop_that_refuses_makes_the_command_fail(site: Site) -> None:
    deliver(site.port, virus("fourth"))
    usual, site.sink.replies["rcpt"] = site.sink.replies["rcpt"], "550 5.1.1 unknown"
    try:
        done = site.command("quarantine", "release", site.ids()["fourth"])
    finally:
        site.sink.replies["rcpt"] = usual
    assert done.returncode == 1
    assert "550 5.1.1 from MTA(" in done.stderr


def test_what_is_too_old_expires_and_what_is_deleted_is_gone(site: Site) -> None:
    for subject in ("old 1", "old 2"):
        deliver(site.port, virus(subject))
    deliver(site.port, MAIL.replace(b"Subject: t", b"Subject: clean"))
    wait_until(lambda: len(site.command("quarantine", "expire", "--dry-run").stdout.splitlines()) >= 2, "mails expire")
    assert "old 1" in site.ids()
    done = site.command("quarantine", "expire")
    assert done.returncode == 0
    assert done.stdout.endswith("mails deleted\n")
    assert set(site.ids()) == {"clean"}
    mail_id = site.ids()["clean"]
    assert site.command("quarantine", "delete", mail_id).stdout == f"{mail_id}: deleted\n"
    assert site.listed() == []
    assert not [path for path in (site.daemon.home / "quarantine").rglob("*") if path.is_file()]


def test_a_lost_index_is_made_again_and_stays_the_daemons(site: Site) -> None:
    deliver(site.port, virus("lost"))
    for path in site.daemon.home.glob("quarantine.db*"):
        path.unlink()
    assert site.listed() == []
    assert site.command("quarantine", "reindex").stdout == "1 copies read, 1 mails in the index\n"
    assert set(site.ids()) == {"lost"}
    owners = {pwd.getpwuid(path.stat().st_uid).pw_name for path in site.daemon.home.rglob("*")}
    assert owners == {USER}
    deliver(site.port, virus("found"))
    wait_until(lambda: "found" in site.ids(), "the daemon goes on in the new index")


# --- SQL


@pytest.fixture
def sql_site(postgresql: PostgreSQL) -> Iterator[Site]:
    postgresql.sql("TRUNCATE maddr, msgs, msgrcpt, quarantine")
    extra = f'storage_sql_dsn = "{postgresql.dsn}"\nvirus_quarantine_method = "sql:"\n'
    with Sink() as sink:
        running = Site(sink, extra, workers=3)
        yield running
        running.stop()


def test_a_database_that_is_down_leaves_the_mail_with_the_client(sql_site: Site, postgresql: PostgreSQL) -> None:
    assert deliver(sql_site.port, virus("before")).startswith("250 ")
    postgresql.stop()
    try:
        reply = deliver(sql_site.port, virus("while"))
        assert reply.startswith("451 4.5.0 Error in processing, id=")
        assert "quarantine FAILED: database: " in reply
        assert deliver(sql_site.port, MAIL).startswith("250 "), "clean mail needs no database"
    finally:
        postgresql.start()
    wait_until(lambda: deliver(sql_site.port, virus("after")).startswith("250 "), "the database is used again", 40)
    assert {"before", "after"} <= set(sql_site.ids())
    assert "while" not in sql_site.ids()


def test_amavisd_release_takes_mail_out_of_sql(sql_site: Site, postgresql: PostgreSQL, tmp_path: Path) -> None:
    deliver(sql_site.port, virus("for amavisd-release"))
    mail_id = sql_site.ids()["for amavisd-release"]
    source = Path("/usr/sbin/amavisd-release").read_text()
    script = tmp_path / "amavisd-release"
    script.write_text(source.replace("/var/lib/amavis/amavisd.sock", f"{sql_site.daemon.home}/amavisd.sock"))
    secret = postgresql.sql("SELECT convert_from(secret_id, 'UTF8') FROM msgs").strip()
    done = subprocess.run(["perl", "-T", script, mail_id, secret], capture_output=True, text=True, timeout=60)
    assert done.stderr.startswith("250 2.0.0 from MTA("), done.stderr
    assert sql_site.sink.mails[-1].octets.endswith(virus("for amavisd-release"))
    wait_until(lambda: postgresql.sql("SELECT rs FROM msgrcpt").strip() == "R", "the release is recorded")


@pytest.mark.parametrize("method", ["sql:", "local:virus-%m", "smtp"])
def test_a_killed_worker_never_takes_a_copy_with_it(postgresql: PostgreSQL, method: str) -> None:
    """kill -9 at any moment between end of data and reply: whoever heard 250 has a copy."""
    postgresql.sql("TRUNCATE maddr, msgs, msgrcpt, quarantine")
    with Sink() as sink:
        wanted = f"smtp:[127.0.0.1]:{sink.port}" if method == "smtp" else method
        extra = f'storage_sql_dsn = "{postgresql.dsn}"\nvirus_quarantine_method = "{wanted}"\n'
        extra += 'virus_quarantine_to_maps = "quarantine@example.com"\n' if method == "smtp" else ""
        site = Site(sink, extra, workers=8)  # the dead are replaced slowly when many die
        try:
            accepted = _deliver_while_killing(site, 50)
            assert accepted, "some mails get through"
            kept = _subjects(site, postgresql, method)
        finally:
            site.stop()
    assert accepted <= kept


def _deliver_while_killing(site: Site, count: int) -> set[str]:
    """Subjects of the mails that were answered with 250, while busy workers die."""
    accepted: set[str] = set()
    is_over = threading.Event()
    killer = threading.Thread(target=_kill_busy_workers, args=(site.daemon, is_over))
    killer.start()
    for number in range(count):
        with suppress(OSError, AssertionError, IndexError):
            if deliver(site.port, virus(f"mail-{number}")).startswith("250 "):
                accepted.add(f"mail-{number}")
    is_over.set()
    killer.join()
    return accepted


def _kill_busy_workers(daemon: RunningDaemon, is_over: threading.Event) -> None:
    dice = random.Random(4)
    while not is_over.wait(dice.random() * 0.03):
        for pid in daemon.workers():
            with suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"(ch" in title and b"avail" not in title and dice.random() < 0.3:
                    os.kill(pid, signal.SIGKILL)


def _subjects(site: Site, postgresql: PostgreSQL, method: str) -> set[str]:
    """Of all mails of which there is a copy."""
    if method == "sql:":
        octets = postgresql.sql("SELECT encode(mail_text, 'escape') FROM quarantine")
    elif method == "smtp":
        octets = "\n".join(mail.octets.decode() for mail in site.sink.mails)
    else:
        files = (path for path in (site.daemon.home / "quarantine").rglob("virus-*"))
        octets = "\n".join(path.read_text() for path in files)
    return {word for line in octets.splitlines() if line.startswith("Subject: ") for word in line.split()[1:]}


def test_two_nodes_share_what_is_kept(postgresql: PostgreSQL) -> None:
    postgresql.sql("TRUNCATE maddr, msgs, msgrcpt, quarantine")
    extra = f'storage_sql_dsn = "{postgresql.dsn}"\nvirus_quarantine_method = "sql:"\n'
    extra += f'quarantine_index = "{postgresql.dsn}"\n'
    with Sink() as sink:
        one, other = Site(sink, extra), Site(sink, extra)
        try:
            assert deliver(one.port, virus("kept by one")).startswith("250 ")
            one.stop()
            assert set(other.ids()) == {"kept by one"}
            assert other.command("quarantine", "release", other.ids()["kept by one"]).returncode == 0
            assert sink.mails[-1].octets.endswith(virus("kept by one"))
            assert deliver(other.port, virus("kept by the other")).startswith("250 ")
            assert set(other.ids()) == {"kept by one", "kept by the other"}
        finally:
            one.stop()
            other.stop()
