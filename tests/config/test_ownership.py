"""Nobody but root may be able to alter the configuration."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from amavispy.config.faults import ConfigError
from amavispy.config.loader import load_config
from amavispy.config.ownership import FileFacts, directories_of, directory_complaints, file_complaints
from amavispy.config.sources import Sources

FILE = stat.S_IFREG
DIRECTORY = stat.S_IFDIR


def problems(mode: int, owner: int = 0, *, is_writable: bool = False) -> list[str]:
    return [problem for problem, _ in file_complaints(FileFacts("/etc/a.toml", mode, owner, is_writable))]


def test_a_file_that_only_root_can_write_is_fine() -> None:
    assert problems(FILE | 0o644) == []
    assert problems(stat.S_IFIFO | 0o600) == []


@pytest.mark.parametrize(
    ("mode", "sort"), [(stat.S_IFDIR, "a directory"), (stat.S_IFSOCK, "a socket"), (stat.S_IFCHR, "a device")]
)
def test_only_files_and_pipes_are_read(mode: int, sort: str) -> None:
    assert problems(mode | 0o600) == [f"/etc/a.toml is {sort}"]


def test_a_file_of_somebody_else_is_refused() -> None:
    assert problems(FILE | 0o644, owner=4242) == ["/etc/a.toml is owned by uid 4242, not by root"]


def test_everybody_who_could_write_is_named() -> None:
    assert problems(FILE | 0o666) == ["/etc/a.toml is writable for its group and everybody"]
    assert problems(FILE | 0o664) == ["/etc/a.toml is writable for its group"]


def test_access_lists_count_too() -> None:
    assert problems(FILE | 0o644, is_writable=True) == ["/etc/a.toml is writable for the user this runs as"]


def test_the_command_that_mends_it_is_told_and_how_to_do_without() -> None:
    ((_, remedy),) = file_complaints(FileFacts("/etc/my conf.toml", FILE | 0o646, 0))
    assert remedy == "run: chmod go-w '/etc/my conf.toml'; or give -X no_conf_file_writable_check"


def test_who_can_write_the_directory_can_replace_the_file() -> None:
    ((problem, _),) = directory_complaints(FileFacts("/etc", DIRECTORY | 0o777, 0))
    assert problem == "/etc is writable for its group and everybody"


def test_a_sticky_directory_of_root_keeps_its_files() -> None:
    assert directory_complaints(FileFacts("/tmp", DIRECTORY | stat.S_ISVTX | 0o777, 0)) == []


def test_a_link_has_two_directories(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.toml").write_text("")
    (tmp_path / "a.toml").symlink_to(tmp_path / "real" / "a.toml")
    assert list(directories_of(str(tmp_path / "a.toml"))) == [f"{tmp_path}/real", str(tmp_path)]
    assert list(directories_of(str(tmp_path / "real" / "a.toml"))) == [f"{tmp_path}/real"]


def test_every_file_with_its_faults_is_told_at_once(tmp_path: Path) -> None:
    main = tmp_path / "main.toml"
    main.write_text("max_servers = 0\n")
    main.chmod(0o666)
    with pytest.raises(ConfigError) as caught:
        load_config(Sources((str(main),)))
    said = str(caught.value)
    assert f"{main} is writable for its group and everybody; run: chmod go-w {main}" in said
    assert f"{main}:1: max_servers: 0 is out of range" in said


def test_the_check_can_be_turned_off(tmp_path: Path) -> None:
    main = tmp_path / "main.toml"
    main.write_text("max_servers = 3\n")
    main.chmod(0o666)
    assert load_config(Sources((str(main),), checks_ownership=False)).server.max_servers == 3


def test_a_table_that_others_can_write_is_worth_a_warning(tmp_path: Path) -> None:
    (tmp_path / "table").write_text(".example.com\n")
    (tmp_path / "table").chmod(0o666)
    (tmp_path / "main.toml").write_text(f"local_domains_maps = [{{ file = '{tmp_path}/table' }}]\n")
    (tmp_path / "main.toml").chmod(0o644)
    if os.geteuid() == 0:
        texts = [str(warning) for warning in load_config(Sources((str(tmp_path / "main.toml"),))).warnings]
    else:
        with pytest.raises(ConfigError) as caught:
            load_config(Sources((str(tmp_path / "main.toml"),)))
        texts = [str(warning) for warning in caught.value.warnings]
    assert any("table is writable for its group and everybody" in text and "warning" in text for text in texts)
