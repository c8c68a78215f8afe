"""The command `check` and the options that every command with a configuration has."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from amavispy.cli.check import check
from amavispy.cli.options import config_options
from amavispy.config.sources import DEFAULT_FILE, Option, Sources
from tests.config.loading import SOUND


def run_check(directory: Path, text: str, *arguments: str) -> Result:
    (directory / "main.toml").write_text(text)
    options = ["-c", str(directory / "main.toml"), "-X", "no_conf_file_writable_check", *arguments]
    return CliRunner().invoke(check, options)


def sources_of(*arguments: str) -> Sources:
    found: list[Sources] = []

    @click.command()
    @config_options
    @click.argument("word", default="")
    def command(sources: Sources, word: str) -> None:
        assert word in ("", "word")
        found.append(sources)

    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output
    return found[0]


def test_a_sound_configuration_is_counted(tmp_path: Path) -> None:
    result = run_check(tmp_path, SOUND + "[policy_bank.MYUSERS]\n")
    assert (result.exit_code, result.output) == (
        0,
        "configuration ok: 1 file, 1 policy bank, 2 listen sockets, 0 warnings\n",
    )


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    result = run_check(tmp_path, SOUND.replace("mail.example.com", "localhost"))
    assert result.exit_code == 0
    assert f"{tmp_path}/main.toml:2: warning: myhostname: replies" in result.output


def test_faults_fail(tmp_path: Path) -> None:
    result = run_check(tmp_path, "max_servers = 0\n")
    assert result.exit_code == 1
    assert result.output.endswith("1 fault in the configuration, nothing was started\n")


def test_json_has_every_part_of_a_fault(tmp_path: Path) -> None:
    result = run_check(tmp_path, SOUND + "on = 1\n", "--json")
    answer = json.loads(result.output)
    assert (result.exit_code, answer["ok"]) == (1, False)
    assert answer["faults"] == [
        {
            "source": f"{tmp_path}/main.toml",
            "line": 14,
            "key": "spam_scanners[1].on",
            "problem": "unknown key in this table",
            "allowed": "known: name, type, address, timeout, on_failure, command, score_factor, "
            "mail_body_size_limit, user, compress, password, mta_name, statuses",
        }
    ]


def test_json_of_a_sound_configuration_counts(tmp_path: Path) -> None:
    answer = json.loads(run_check(tmp_path, SOUND, "--json").output)
    assert answer == {
        "ok": True,
        "files": 1,
        "policy_banks": 0,
        "listen_sockets": 2,
        "faults": [],
        "warnings": [],
    }


def test_without_options_the_usual_file_is_read_and_guarded() -> None:
    assert sources_of() == Sources((DEFAULT_FILE,))
    assert Sources().checks_ownership


def test_every_letter_becomes_its_setting() -> None:
    sources = sources_of(
        *("-c", "/a", "-c", "/b", "--set", "x=1", "--set", "y=2", "-u", "mail", "-g", "mail", "-H", "/h", "-T", "/t"),
        *("-Q", "/q", "-P", "", "-p", "10024", "-p", "/s", "-m", "3", "-d", "2", "-X", "no_conf_file_writable_check"),
        "word",
    )
    assert (sources.files, sources.overrides, sources.checks_ownership) == (("/a", "/b"), ("x=1", "y=2"), False)
    assert sources.options == (
        Option("-u", "daemon_user", "mail"),
        Option("-g", "daemon_group", "mail"),
        Option("-H", "myhome", "/h"),
        Option("-T", "tempbase", "/t"),
        Option("-Q", "quarantinedir", "/q"),
        Option("-P", "pid_file", ""),
        Option("-p", "listen_sockets", ["10024", "/s"]),
        Option("-m", "max_servers", 3),
        Option("-d", "log_level", 2),
    )


def test_options_decide_what_the_configuration_is(tmp_path: Path) -> None:
    result = run_check(tmp_path, SOUND, "-p", "[::1]:25", "-m", "0")
    assert result.output.splitlines()[0] == "-m: max_servers: 0 is out of range; expected 1 to 10000"


@pytest.mark.parametrize("argument", ["-X=everything", "--max-servers=many"])
def test_a_wrong_command_line_is_a_usage_error(argument: str) -> None:
    assert CliRunner().invoke(check, [argument]).exit_code == 2
