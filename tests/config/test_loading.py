"""Sources become one configuration: files, fragments, --set and options, variables and table files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amavispy.config.faults import ConfigError
from amavispy.config.loader import load_config
from amavispy.config.model import Config, ListenSocket, ServerSettings
from amavispy.config.sources import FILE_LIMIT, Option, Sources
from amavispy.mail.address import Address
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Connection
from amavispy.mail.next_hop import NextHop
from amavispy.mail.verdict import OnFailure
from amavispy.policy.settings import Settings
from tests.config.loading import load

REFERENCE = Path(__file__).parent.parent.parent / "etc" / "reference" / "amavispy.toml"


def faults_of(directory: Path, text: str = "", *overrides: str, **more: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(directory, text, *overrides, **more)  # type: ignore[arg-type]
    return [str(fault).replace(f"{directory}/", "") for fault in caught.value.faults]


@pytest.fixture(scope="module")
def reference() -> Config:
    return load_config(Sources((str(REFERENCE),), checks_ownership=False))


def bank(config: Config, listener: str, client: str | None) -> str:
    port = 0 if listener.startswith("/") else int(listener.rpartition(":")[2])
    connection = Connection(listener, local="::1" if port else None, local_port=port)
    return config.banks.for_client(config.banks.for_interface(connection), client).name


def test_the_reference_deployment_loads_without_a_word(reference: Config) -> None:
    assert reference.warnings == ()
    assert reference.server.max_servers == 16
    assert reference.server.unix_socket_mode == 0o660
    assert reference.server.quarantinedir == "/var/lib/amavispy/quarantine"
    assert [s.text for s in reference.server.listen_sockets] == [
        "[::1]:9998",
        "[::1]:10026",
        "/var/lib/amavispy/amavisd.sock",
    ]


def test_the_reference_deployment_has_its_settings(reference: Config) -> None:
    settings = reference.banks.base.settings
    assert settings.child_timeout == 480.0
    assert settings.final_banned_destiny is Destiny.BOUNCE
    assert settings.forward_method == (NextHop("smtp", "127.0.0.1", 10025),)
    assert settings.x_header_line == "amavispy at example.com"
    assert [s.address for s in (*settings.av_scanners, *settings.spam_scanners)] == [
        "/run/clamav/clamd.ctl",
        "127.0.0.1:783",
    ]
    assert settings.av_scanners[0].on_failure is OnFailure.TEMPFAIL
    assert settings.local_domains_maps.find(Address.of("user@sub.example.com")) is True


@pytest.mark.parametrize(
    ("listener", "client", "name"),
    [
        ("[::1]:9998", "::1", "RELEASE/LOCALHOST"),
        ("[::1]:10026", "203.0.113.7", "SUBMISSION-IN/SUBMISSION"),
        ("/var/lib/amavispy/amavisd.sock", "10.1.2.3", "AM.PDP-SOCK/MYNETS"),
        ("/var/lib/amavispy/amavisd.sock", "172.16.1.5", "AM.PDP-SOCK"),
        ("/var/lib/amavispy/amavisd.sock", "172.16.2.5", "AM.PDP-SOCK/PRIVATENETS"),
        ("/var/lib/amavispy/amavisd.sock", "192.0.2.129", "AM.PDP-SOCK/PARTNER"),
        ("/var/lib/amavispy/amavisd.sock", None, "AM.PDP-SOCK"),
    ],
)
def test_the_reference_deployment_leads_everybody_to_their_bank(
    reference: Config, listener: str, client: str | None, name: str
) -> None:
    assert bank(reference, listener, client) == name


def test_an_empty_file_is_a_configuration_of_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.server == ServerSettings()
    assert config.banks.base.settings.forward_method == Settings().forward_method
    assert {w.key for w in config.warnings} == {"myhostname", "local_domains_maps", "av_scanners", "spam_scanners"}


def test_a_missing_file_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Sources((str(tmp_path / "none.toml"),), checks_ownership=False))
    assert str(caught.value).endswith("none.toml: cannot be read: No such file or directory")


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(Sources((str(tmp_path),), checks_ownership=False))


def test_a_file_of_more_than_ten_mebibytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#")
    os.truncate(tmp_path / "large.toml", FILE_LIMIT + 1)
    with pytest.raises(ConfigError, match="the file is too large; expected at most 10 MiB"):
        load_config(Sources((str(tmp_path / "large.toml"),), checks_ownership=False))


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    (tmp_path / "main.toml").write_bytes(b"max_servers = 7\r\nlog_level = 1\r\n")
    assert load_config(Sources((str(tmp_path / "main.toml"),), checks_ownership=False)).server.max_servers == 7


def test_syntax_faults_of_all_files_are_told_together(tmp_path: Path) -> None:
    said = faults_of(tmp_path, "a b\n", fragments={"10.toml": "\n[x\n", "20.toml": "max_server = 1\n"})
    assert [line.partition(": ")[0] for line in said] == ["main.toml:1", "conf.d/10.toml:2"]


class TestMerging:
    def test_later_fragments_win(self, tmp_path: Path) -> None:
        config = load(
            tmp_path,
            "max_servers = 1\nlog_level = 1",
            fragments={"20.toml": "max_servers = 3", "10.toml": "max_servers = 2"},
        )
        assert (config.server.max_servers, config.banks.base.settings.log_level) == (3, 1)

    def test_only_visible_toml_files_are_fragments(self, tmp_path: Path) -> None:
        others = {".hidden.toml": "max_servers = 8", "README": "no TOML", "50.toml.bak": "max_servers = 9"}
        assert load(tmp_path, "max_servers = 3", fragments=others).server.max_servers == 3

    def test_several_files_are_read_in_order_and_their_fragments_once(self, tmp_path: Path) -> None:
        (tmp_path / "conf.d").mkdir()
        for name, text in (("a.toml", "max_servers = 2"), ("b.toml", "max_servers = 3"), ("conf.d/c.toml", _SCANNER)):
            (tmp_path / name).write_text(text)
        files = (str(tmp_path / "a.toml"), str(tmp_path / "b.toml"))
        config = load_config(Sources(files, checks_ownership=False))
        assert (config.server.max_servers, len(config.banks.base.settings.av_scanners)) == (3, 1)
        assert config.files == (*files, str(tmp_path / "conf.d" / "c.toml"))

    def test_policy_banks_merge_setting_by_setting(self, tmp_path: Path) -> None:
        config = load(
            tmp_path,
            "[policy_bank.MYUSERS]\noriginating = true\nlog_level = 1\n",
            fragments={"10.toml": "[policy_bank.MYUSERS]\nlog_level = 3\n[policy_bank.B]\n"},
        )
        assert config.banks.named["MYUSERS"].overrides == {"originating": True, "log_level": 3}
        assert list(config.banks.named) == ["MYUSERS", "B"]

    def test_interface_policy_merges_key_by_key(self, tmp_path: Path) -> None:
        text = "listen_sockets = [1, 2]\n[interface_policy]\n1 = 'A'\n2 = 'A'\n[policy_bank.A]\n[policy_bank.B]\n"
        config = load(tmp_path, text, fragments={"10.toml": "[interface_policy]\n2 = 'B'\n"})
        assert config.server.interface_policy == {"1": ("A",), "2": ("B",)}

    def test_scanners_of_fragments_are_added(self, tmp_path: Path) -> None:
        config = load(tmp_path, _SCANNER, fragments={"10.toml": _SCANNER.replace("one", "two")})
        assert [s.name for s in config.banks.base.settings.av_scanners] == ["one", "two"]

    def test_an_empty_list_takes_scanners_away(self, tmp_path: Path) -> None:
        fragments = {"10.toml": "av_scanners = []", "20.toml": _SCANNER.replace("one", "two")}
        config = load(tmp_path, _SCANNER, fragments=fragments)
        assert [s.name for s in config.banks.base.settings.av_scanners] == ["two"]

    def test_other_lists_are_replaced(self, tmp_path: Path) -> None:
        config = load(tmp_path, "listen_sockets = [10024, 10026]", fragments={"10.toml": "listen_sockets = ['*:25']"})
        assert [s.text for s in config.server.listen_sockets] == ["*:25"]

    def test_a_fault_in_an_added_scanner_is_placed_in_its_own_file(self, tmp_path: Path) -> None:
        fragments = {"10.toml": "\n[[av_scanners]]\nname = 'x'\ntype = 'clamd'\naddress = 'x'\n"}
        (said,) = faults_of(tmp_path, _SCANNER, fragments=fragments)
        assert said.startswith('conf.d/10.toml:5: av_scanners[2].address: "x" is not an address')

    def test_a_bank_that_is_no_table_is_told_where_it_stands_last(self, tmp_path: Path) -> None:
        fragments = {"10.toml": "\npolicy_bank = 1\n"}
        (said,) = faults_of(tmp_path, "[policy_bank.A]\n", fragments=fragments)
        assert said == "conf.d/10.toml:2: policy_bank: 1 is not a table; expected [policy_bank.NAME]"


_SCANNER = "[[av_scanners]]\nname = 'one'\ntype = 'clamd'\naddress = '/run/clamd'\n"


class TestOverrides:
    def test_set_wins_over_files_and_options_over_set(self, tmp_path: Path) -> None:
        config = load(
            tmp_path,
            "max_servers = 1\nlog_level = 1\nsoft_bounce = true",
            "max_servers = 2",
            "log_level=2",
            options=(Option("-m", "max_servers", 3),),
        )
        assert (config.server.max_servers, config.banks.base.settings.log_level) == (3, 2)
        assert config.banks.base.settings.soft_bounce is True

    def test_set_reaches_into_banks(self, tmp_path: Path) -> None:
        config = load(tmp_path, "[policy_bank.MYUSERS]\nlog_level = 1\n", "policy_bank.MYUSERS.log_level = 5")
        assert config.banks.named["MYUSERS"].overrides["log_level"] == 5

    def test_set_replaces_lists_of_tables(self, tmp_path: Path) -> None:
        replaced = 'av_scanners=[{name="two", type="clamd", address="/run/two"}]'
        assert [s.name for s in load(tmp_path, _SCANNER, replaced).banks.base.settings.av_scanners] == ["two"]

    def test_a_text_without_quotes_is_explained(self, tmp_path: Path) -> None:
        (said,) = faults_of(tmp_path, "", "myhostname=mail.example.com")
        assert said == (
            "--set: myhostname: mail.example.com is not a value; "
            "expected KEY=VALUE with a value of TOML; a text has quotes: --set 'myhostname=\"text\"'"
        )

    @pytest.mark.parametrize("text", ["nothing", "=", "a=1\nb=2", "[x]=1", "a=" + "[" * 3000])
    def test_an_override_that_is_none_is_a_fault(self, tmp_path: Path, text: str) -> None:
        (said,) = faults_of(tmp_path, "", text)
        assert said.startswith("--set: ")

    def test_a_faulty_value_names_its_option(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, "", options=(Option("-m", "max_servers", 0),))
        assert str(caught.value) == "-m: max_servers: 0 is out of range; expected 1 to 10000"


class TestSockets:
    @pytest.mark.parametrize(
        ("written", "found"),
        [
            ("10024", [ListenSocket.inet("127.0.0.1", 10024), ListenSocket.inet("::1", 10024)]),
            ("'10024'", [ListenSocket.inet("127.0.0.1", 10024), ListenSocket.inet("::1", 10024)]),
            ("'127.0.0.1:10024'", [ListenSocket("127.0.0.1:10024", "inet", "127.0.0.1", 10024)]),
            ("'[0:0::1]:10024'", [ListenSocket("[::1]:10024", "inet", "::1", 10024)]),
            ("'inet6:[IPv6:::1]:10024'", [ListenSocket("[::1]:10024", "inet", "::1", 10024)]),
            ("'inet:127.0.0.1:10024/tcp'", [ListenSocket("127.0.0.1:10024", "inet", "127.0.0.1", 10024)]),
            ("'*:10024'", [ListenSocket("*:10024", "inet", "*", 10024)]),
            ("'eth0.100:10024'", [ListenSocket("eth0.100:10024", "inet", "eth0.100", 10024)]),
            ("'localhost:10024'", [ListenSocket("localhost:10024", "inet", "localhost", 10024)]),
            ("'[fe80::1%eth0]:10024'", [ListenSocket("[fe80::1%eth0]:10024", "inet", "fe80::1%eth0", 10024)]),
        ],
    )
    def test_every_form_is_understood(self, tmp_path: Path, written: str, found: list[ListenSocket]) -> None:
        assert list(load(tmp_path, f"listen_sockets = [{written}]").server.listen_sockets) == found

    @pytest.mark.parametrize("written", ["/run/a.sock", "unix:/run/a.sock", "/run/a.sock|unix", "$MYHOME/a.sock"])
    def test_unix_sockets_are_paths(self, tmp_path: Path, written: str) -> None:
        text = f"listen_sockets = ['{written}']\nmyhome = '/run'\nprotocol = 'LMTP'\n"
        assert load(tmp_path, text).server.listen_sockets == (ListenSocket("/run/a.sock", "unix", path="/run/a.sock"),)

    def test_ports_are_joined_with_every_address_to_bind(self, tmp_path: Path) -> None:
        text = "listen_sockets = [1, '[::1]:2', 3]\ninet_socket_bind = ['192.0.2.1', 'eth0']\n"
        sockets = load(tmp_path, text).server.listen_sockets
        assert [s.text for s in sockets] == ["192.0.2.1:1", "eth0:1", "[::1]:2", "192.0.2.1:3", "eth0:3"]

    def test_binding_nothing_in_particular_is_binding_everything(self, tmp_path: Path) -> None:
        assert [s.text for s in load(tmp_path, "inet_socket_bind = ''").server.listen_sockets] == ["*:10024"]

    def test_interface_policy_is_written_as_connections_are_looked_up(self, tmp_path: Path) -> None:
        text = (
            "[interface_policy]\n'[0:0::1]:10024' = 'A, B'\n'unix:/run/a' = ['A']\n[policy_bank.A]\n[policy_bank.B]\n"
        )
        assert load(tmp_path, text).server.interface_policy == {"[::1]:10024": ("A", "B"), "/run/a": ("A",)}


class TestVariables:
    def test_any_text_can_be_named_whatever_the_case(self, tmp_path: Path) -> None:
        text = "myhome = '/srv/$mydomain'\nmyhostname = 'a.example.org'\nlogfile = '$TempBase/log'\n"
        server = load(tmp_path, text).server
        assert (server.myhome, server.logfile) == ("/srv/example.org", "/srv/example.org/tmp/log")

    def test_defaults_follow_what_they_name(self, tmp_path: Path) -> None:
        server = load(tmp_path, "myhome = '/srv'").server
        assert (server.tempbase, server.quarantinedir, server.release_key_file) == (
            "/srv/tmp",
            "/srv/quarantine",
            "/srv/release.key",
        )

    def test_a_bank_expands_with_its_own_texts(self, tmp_path: Path) -> None:
        bank = "[policy_bank.MYUSERS]\nmyhostname = 'b.example.com'\nx_header_line = 'at $myhostname'\n"
        config = load(tmp_path, f"myhostname = 'a.example.com'\n{bank}")
        assert config.banks.named["MYUSERS"].overrides["x_header_line"] == "at b.example.com"

    def test_dollar_signs_that_name_nothing_stay(self, tmp_path: Path) -> None:
        text = "x_header_line = '${helo-name} $1 $$myhome 5$ $'\n"
        assert load(tmp_path, text).banks.base.settings.x_header_line == "${helo-name} $1 $myhome 5$ $"

    def test_patterns_hold_no_variables(self, tmp_path: Path) -> None:
        text = "banned_filename_re = ['(exe$myhome|bat$)']\n"
        assert load(tmp_path, text).banks.base.settings.banned_filename_re[0].pattern == "(exe$myhome|bat$)"


class TestLookups:
    def find(self, directory: Path, written: str, address: str = "user@sub.example.com") -> object:
        text = f"local_domains_maps = {written}\n"
        return load(directory, text).banks.base.settings.local_domains_maps.find(Address.of(address))

    @pytest.mark.parametrize(
        ("written", "answer"),
        [
            ("true", True),
            ("[]", None),
            ("[false]", False),
            ("[{ 'user@sub.example.com' = false, '.example.com' = true }]", False),
            ("[['!user@sub.example.com', '.example.com']]", False),
            ("[['other.org'], { regexp = ['^user@'] }]", True),
            ("[{ regexp = [['^other@', true], ['@sub\\.', false]] }]", False),
        ],
    )
    def test_every_table_answers(self, tmp_path: Path, written: str, answer: object) -> None:
        assert self.find(tmp_path, written) is answer

    @pytest.mark.parametrize(
        ("kind", "content", "answer"),
        [
            ("hash", "# a comment\n\nuser@sub.example.com 0\n.example.com\n", False),
            ("hash", "  .example.com   1\n", True),
            ("array", "!sub.example.com\n.example.com\n", False),
            ("regexp", "/^other/ 1\n/^user@/ 0\n", False),
            ("regexp", "/@sub\\./\n", True),
        ],
    )
    def test_every_kind_of_file_answers(self, tmp_path: Path, kind: str, content: str, answer: object) -> None:
        (tmp_path / "table").write_text(content)
        assert self.find(tmp_path, f"[{{ file = '{tmp_path}/table', kind = '{kind}' }}]") is answer

    def test_faults_in_a_table_file_have_its_lines(self, tmp_path: Path) -> None:
        (tmp_path / "table").write_text("a@example.com 1\nb@example.com maybe\n\n!c@example.com\n")
        said = faults_of(tmp_path, f"virus_lovers_maps = [{{ file = '{tmp_path}/table' }}]")
        assert said == [
            'main.toml:1: virus_lovers_maps[1]: table:2: "maybe" is not a truth value; expected true or false',
            'main.toml:1: virus_lovers_maps[1]: table:4: "!c@example.com" can never match; '
            'expected "user@domain", "user@", "domain", ".domain" or "."',
        ]

    def test_levels_and_texts_come_from_files_too(self, tmp_path: Path) -> None:
        (tmp_path / "levels").write_text("vip@example.com 20\n. 5.5\n")
        (tmp_path / "tags").write_text(". [spam for $1]\n")
        text = (
            f"spam_kill_level_maps = [{{ file = '{tmp_path}/levels' }}]\n"
            f"spam_subject_tag2_maps = [{{ file = '{tmp_path}/tags' }}]\n"
        )
        config = load(tmp_path, text)
        settings = config.banks.base.settings
        assert settings.spam_kill_level_maps.find(Address.of("vip@example.com")) == 20.0
        assert settings.spam_subject_tag2_maps.find(Address.of("a@b.org")) == "[spam for a@b.org]"
        assert config.files == (str(tmp_path / "main.toml"), str(tmp_path / "levels"), str(tmp_path / "tags"))


class TestNetworks:
    def test_a_reference_stands_for_the_other_list(self, tmp_path: Path) -> None:
        text = "mynetworks = ['10.0.0.0/8', '::1']\ninet_acl = ['192.0.2.1', '$mynetworks']\n"
        assert load(tmp_path, text).banks.base.settings.inet_acl.texts == ("192.0.2.1", "10.0.0.0/8", "::1")

    def test_a_bank_refers_to_its_own_list_first(self, tmp_path: Path) -> None:
        text = "[policy_bank.MYUSERS]\nmynetworks = ['10.0.0.0/8']\ninet_acl = '$mynetworks'\n"
        assert load(tmp_path, text).banks.named["MYUSERS"].overrides["inet_acl"].texts == ("10.0.0.0/8",)

    def test_a_file_holds_networks(self, tmp_path: Path) -> None:
        (tmp_path / "nets").write_text("# ours\n10.0.0.0/8 office\n\n!10.1.0.0/16\n")
        text = f"mynetworks = [{{ file = '{tmp_path}/nets', kind = 'cidr' }}, '::1']\n"
        assert load(tmp_path, text).banks.base.settings.mynetworks.texts == ("10.0.0.0/8", "!10.1.0.0/16", "::1")

    def test_a_bad_network_in_a_file_has_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "nets").write_text("10.0.0.0/8\n10.0.0.0/99\n")
        (said,) = faults_of(tmp_path, f"mynetworks = [{{ file = '{tmp_path}/nets' }}]\n")
        assert said.startswith('main.toml:1: mynetworks[1]: nets:2: "10.0.0.0/99" is no network')

    def test_a_hundred_thousand_networks_load(self, tmp_path: Path) -> None:
        numbers = range(100_000)
        (tmp_path / "nets").write_text("".join(f"{10 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24\n" for n in numbers))
        (tmp_path / "main.toml").write_text(f"mynetworks = [{{ file = '{tmp_path}/nets' }}]\n")
        sources = Sources((str(tmp_path / "main.toml"),), checks_ownership=False)
        assert len(load_config(sources).banks.base.settings.mynetworks.texts) == len(numbers)

    def test_a_hundred_thousand_dead_networks_lead_to_a_handful_of_warnings(self, tmp_path: Path) -> None:
        (tmp_path / "nets").write_text(
            "0.0.0.0/0\n" + "".join(f"10.{n // 256}.{n % 256}.0/24\n" for n in range(50_000))
        )
        config = load(tmp_path, f"mynetworks = [{{ file = '{tmp_path}/nets' }}]\n")
        about = [str(w) for w in config.warnings if w.key == "mynetworks"]
        assert len(about) == 21
        assert about[-1].endswith("49980 more entries of this list have host bits set or never match")


def test_banks_know_where_base_values_were_written(tmp_path: Path) -> None:
    config = load(tmp_path, "\nlog_level = 1\n", "soft_bounce = true")
    assert config.banks.base_origins == {"log_level": f"{tmp_path}/main.toml:2", "soft_bounce": "--set"}


class TestMynetsIsTheDefaultPolicy:
    BANK = 'mynetworks = ["10.0.0.0/8"]\n{}[policy_bank.MYNETS]\n'

    def test_mynetworks_lead_to_mynets_when_nobody_says_otherwise(self, tmp_path: Path) -> None:
        banks = load(tmp_path, self.BANK.format("")).banks
        assert banks.for_client(banks.base, "10.1.2.3").path == ("MYNETS",)
        assert banks.for_client(banks.base, "192.0.2.1").path == ()

    def test_an_empty_policy_is_an_answer(self, tmp_path: Path) -> None:
        banks = load(tmp_path, self.BANK.format("client_ipaddr_policy = []\n")).banks
        assert banks.for_client(banks.base, "10.1.2.3").path == ()
