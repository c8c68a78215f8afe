"""database_servers - real PostgreSQL, MariaDB, Redis and OpenLDAP servers for tests: private, on loopback.

Each is a context manager that answers when it is constructed; `stop()` and `start()` end it and start it again on the
same port and data, `freeze()` and `thaw()` let it hang without closing connections. Servers that refuse to run as root
run as the tests' unprivileged user. A server that is not installed is a failure, not a skip.

    with PostgreSQL() as server: server.dsn -> "postgresql://amavis@127.0.0.1:PORT/mail"
    with MariaDB() as server:    server.dsn -> "mysql://amavis:secret@127.0.0.1:PORT/mail"
    with Redis() as server:      server.dsn -> "redis://127.0.0.1:PORT/0"
    with OpenLDAP() as server:   server.uri -> "ldap://127.0.0.1:PORT"; the base is dc=example,dc=org
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.running import USER, free_port, private_directory, wait_until

_PATH = "/usr/lib/postgresql/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LDAP_BASE = "dc=example,dc=org"
LDAP_ADMIN = f"cn=admin,{LDAP_BASE}"
LDAP_PASSWORD = "secret"


class Server:
    """One server process; `directory` is its own and goes with it. A subclass has `prepare` and `command`."""

    def __init__(self, name: str) -> None:
        self.directory = private_directory(name)
        self.port = free_port()
        self._output = open(self.directory / "output", "w+b")  # noqa: SIM115 - lives as long as the server
        self._process: subprocess.Popen[bytes] | None = None
        user = pwd.getpwnam(USER) if os.geteuid() == 0 else None
        self._uid = user.pw_uid if user else None
        self._gid = user.pw_gid if user else None
        if user:
            shutil.chown(self.directory, USER)
        try:
            self.prepare()
            self.start()
            self.populate()
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Make the data directory and the configuration."""

    def command(self) -> list[str]:
        raise AssertionError("a server has a command")

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def populate(self) -> None:
        """Make users and an empty database, once."""

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command(), cwd=self.directory, env=self._environment(), stdin=subprocess.DEVNULL,
            stdout=self._output, stderr=self._output, user=self._uid, group=self._gid,
        )  # fmt: skip
        wait_until(lambda: self.has_ended() or self.is_ready(), f"{self.command()[0]} answers:\n{self.log()}", 60)
        assert not self.has_ended(), f"{self.command()[0]} ended:\n{self.log()}"

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def run(self, *command: str | Path, given: str = "") -> str:
        """Run a program of the server's as its user; its output. A failure tells why."""
        done = subprocess.run(
            command, cwd=self.directory, env=self._environment(), input=given.encode(), capture_output=True,
            timeout=60, user=self._uid, group=self._gid,
        )  # fmt: skip
        assert done.returncode == 0, f"{command[0]}: {done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.directory), "PATH": _PATH, "LC_ALL": "C", "TMPDIR": str(self.directory)}

    def log(self) -> str:
        return (self.directory / "output").read_text(errors="replace")

    def freeze(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the server and its children: PostgreSQL has a process for each connection."""
        assert self._process
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            os.kill(each, number)

    def stop(self) -> None:
        """End the process; the directory stays, so that it can be started again."""
        if self._process and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT if isinstance(self, PostgreSQL) else signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """The end a power failure makes."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._output.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PostgreSQL(Server):
    """postgres with the role `amavis` (no password) and its database `mail`. Statements: `sql(text)`."""

    def __init__(self) -> None:
        self.binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/missing"))
        super().__init__("postgresql")

    @property
    def dsn(self) -> str:
        return f"postgresql://amavis@127.0.0.1:{self.port}/mail"

    def prepare(self) -> None:
        # The environment is C for messages; the databases are UTF-8, as everybody's are.
        self.run(
            self.binaries / "initdb", "-D", "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-A", "trust"
        )

    def command(self) -> list[str]:
        options = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.directory),
            "fsync": "off", "max_connections": "60", "shared_buffers": "16MB", "logging_collector": "off",
        }  # fmt: skip
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", "data", *settings]

    def is_ready(self) -> bool:
        command = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def populate(self) -> None:
        self.sql("CREATE ROLE amavis LOGIN", user="postgres", database="postgres")
        self.sql("CREATE DATABASE mail OWNER amavis", user="postgres", database="postgres")

    def sql(self, text: str, *, user: str = "amavis", database: str = "mail") -> str:
        """Run statements; what they select comes back as lines with `|` between the columns."""
        client = ("-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database)
        return self.run(self.binaries / "psql", "-q", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", *client, given=text)


class MariaDB(Server):
    """mariadbd with the user `amavis`, password `secret`, and the database `mail`. Statements: `sql(text)`."""

    def __init__(self) -> None:
        super().__init__("mariadb")

    @property
    def dsn(self) -> str:
        return f"mysql://amavis:secret@127.0.0.1:{self.port}/mail"

    def _options(self) -> list[str]:
        return ["--no-defaults", f"--datadir={self.directory}/data", f"--tmpdir={self.directory}"]

    def prepare(self) -> None:
        self.run(
            "mariadb-install-db", *self._options(), "--auth-root-authentication-method=normal", "--skip-test-db",
            "--innodb-log-file-size=8M",
        )  # fmt: skip

    def command(self) -> list[str]:
        return [
            "mariadbd", *self._options(), f"--socket={self.directory}/mysqld.sock", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--pid-file={self.directory}/pid", "--skip-name-resolve",
            "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M", "--performance-schema=off",
            "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip

    def populate(self) -> None:
        self.sql(
            "CREATE DATABASE mail CHARACTER SET utf8mb4; CREATE USER amavis@'127.0.0.1' IDENTIFIED BY 'secret';"
            "GRANT ALL ON mail.* TO amavis@'127.0.0.1';",
            database="mysql",
        )

    def sql(self, text: str, *, database: str = "mail") -> str:
        """Run statements; what they select comes back as lines with tabs between the columns."""
        socket_option = f"--socket={self.directory}/mysqld.sock"
        return self.run("mariadb", "--no-defaults", socket_option, "-u", "root", "-N", "-B", database, given=text)


class Redis(Server):
    """redis-server with nothing in it, or the same with a password."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        super().__init__("redis")

    @property
    def dsn(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        protection = ["--requirepass", self.password] if self.password else []
        return [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self.directory), "--daemonize", "no", *protection,
        ]  # fmt: skip

    def cli(self, *command: str) -> str:
        """One command of Redis; what redis-cli prints."""
        login = ("-a", self.password, "--no-auth-warning") if self.password else ()
        return self.run("redis-cli", "-p", str(self.port), *login, *command).strip()


class OpenLDAP(Server):
    """slapd with amavis' schema and an empty tree dc=example,dc=org; StartTLS with a certificate of its own.

    `add(ldif)` puts entries in. The administrator is LDAP_ADMIN with LDAP_PASSWORD; anybody may read, unless `private`.
    """

    def __init__(self, *, private: bool = False) -> None:
        self._access = "access to * by users read by anonymous auth" if private else "access to * by * read"
        super().__init__("slapd")

    @property
    def uri(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.directory / "server.pem"

    def prepare(self) -> None:
        (self.directory / "data").mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.directory / "data", USER)
        self.run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
            self.directory / "server.key", "-out", self.certificate,
        )  # fmt: skip
        schemas = ("core", "cosine", "inetorgperson", "amavis")
        (self.directory / "slapd.conf").write_text(
            "".join(f"include /etc/ldap/schema/{schema}.schema\n" for schema in schemas)
            + f"modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {self.directory}/pid\n"
            + f"TLSCertificateFile {self.certificate}\nTLSCertificateKeyFile {self.directory}/server.key\n"
            + f'database mdb\nmaxsize 67108864\nsuffix "{LDAP_BASE}"\nrootdn "{LDAP_ADMIN}"\nrootpw {LDAP_PASSWORD}\n'
            + f"directory {self.directory}/data\nindex objectClass,mail eq\n{self._access}\n"
        )

    def command(self) -> list[str]:
        return ["slapd", "-h", f"{self.uri}/", "-f", str(self.directory / "slapd.conf"), "-d", "0"]

    def populate(self) -> None:
        self.add(f"dn: {LDAP_BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n")

    def add(self, ldif: str) -> None:
        """Entries in LDIF, with an empty line between them."""
        login = ("-x", "-D", LDAP_ADMIN, "-w", LDAP_PASSWORD)
        self.run("ldapadd", "-H", self.uri, *login, given=ldif)

    def modify(self, ldif: str) -> None:
        """Changes in LDIF."""
        login = ("-x", "-D", LDAP_ADMIN, "-w", LDAP_PASSWORD)
        self.run("ldapmodify", "-H", self.uri, *login, given=ldif)
