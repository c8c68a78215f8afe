"""`amavispy explain`: the banks of a client in order, why each was loaded, what it set, and what holds in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from amavispy.cli.explain import explain, print_tables
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Connection
from amavispy.mail.next_hop import NextHop
from amavispy.mail.verdict import OnFailure
from amavispy.policy.bank import Banks, NamedBank
from amavispy.policy.explain import Question, connection_for, written
from amavispy.policy.explain import explain as explanation_of
from amavispy.policy.lookup import AccessList, Constant, Hash, IpTable, LookupList, RegexpList
from amavispy.policy.settings import BannedRule, ClientRule, ScannerSpec, Settings

# The deployment that fixed the configuration's format, as far as its banks go.
_REFERENCE = """
myhostname = "mail.example.com"
mydomain = "example.com"
myhome = "/var/lib/amavispy"
mynetworks = ["127.0.0.0/8", "::1", "10.0.0.0/8"]
local_domains_maps = [[".example.com"]]
listen_sockets = ["[::1]:9998", "[::1]:10026", "$MYHOME/amavisd.sock"]
final_virus_destiny = "D_DISCARD"
child_timeout = "8m"

[interface_policy]
9998 = "RELEASE"
10026 = "SUBMISSION-IN"
SOCK = "AM.PDP-SOCK"

[[client_ipaddr_policy]]
networks = ["0.0.0.0/8", "127.0.0.1/32", "::", "::1"]
banks = ["LOCALHOST"]

[[client_ipaddr_policy]]
networks = ["!172.16.1.0/24", "172.16.0.0/12", "192.168.0.0/16"]
banks = ["PRIVATENETS"]

[[client_ipaddr_policy]]
networks = ["192.0.2.0/25", "192.0.2.129", "192.0.2.130"]
banks = ["PARTNER"]

[[client_ipaddr_policy]]
networks = ["203.0.113.0/24"]
banks = ["SUBMISSION"]

[[client_ipaddr_policy]]
networks = "$mynetworks"
banks = ["MYNETS"]

[policy_bank.RELEASE]
protocol = "AM.PDP"
auth_required_release = true

[policy_bank.SUBMISSION-IN]
originating = true

["policy_bank"."AM.PDP-SOCK"]
protocol = "AM.PDP"
auth_required_release = false
final_virus_destiny = "D_REJECT"

[policy_bank.MYNETS]
[policy_bank.LOCALHOST]
originating = true

[policy_bank.PRIVATENETS]
bypass_spam_checks_maps = true

[policy_bank.PARTNER]
bypass_spam_checks_maps = true
bypass_banned_checks_maps = true

[policy_bank.SUBMISSION]
originating = true
bypass_spam_checks_maps = [{ "newsletter@example.com" = true, ".example.com" = false }, ["!spammer@example.com"]]

[policy_bank.MYUSERS]
spam_kill_level_maps = 20.0
"""

_Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path) -> _Command:
    """`amavispy explain` on the reference configuration."""
    path = tmp_path / "amavispy.toml"
    path.write_text(_REFERENCE)
    return lambda *arguments: CliRunner().invoke(explain, ["-c", str(path), *arguments])


def _answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def _names(result: Result) -> list[str]:
    return [bank["name"] for bank in _answer(result)["banks"]]


# -- the command


def test_the_banks_stand_in_order_with_their_reasons_and_changes(command: _Command) -> None:
    answer = _answer(command("--socket", "10026", "--client", "192.0.2.129", "--json"))
    assert list(answer) == ["banks", "settings"]
    assert answer["banks"] == [
        {
            "name": "SUBMISSION-IN",
            "why": 'interface_policy "10026": listen socket [::1]:10026',
            "sets": {"originating": True},
        },
        {
            "name": "PARTNER",
            "why": 'client_ipaddr_policy 3rd rule: 192.0.2.129 matches "192.0.2.129"',
            "sets": {"bypass_spam_checks_maps": True, "bypass_banned_checks_maps": True},
        },
    ]


def test_every_setting_tells_its_value_and_where_it_is_from(command: _Command, tmp_path: Path) -> None:
    settings = _answer(command("--socket", "10026", "--client", "192.0.2.129", "--json"))["settings"]
    assert settings["originating"] == {"value": True, "from": "SUBMISSION-IN"}
    assert settings["bypass_banned_checks_maps"] == {"value": True, "from": "PARTNER"}
    assert settings["bypass_header_checks_maps"] == {"value": [], "from": "default"}
    assert settings["final_virus_destiny"] == {"value": "D_DISCARD", "from": f"{tmp_path}/amavispy.toml:8"}
    assert settings["child_timeout"]["value"] == "8m"


@pytest.mark.parametrize(
    ("client", "banks"),
    [
        ("127.0.0.1", ["SUBMISSION-IN", "LOCALHOST"]),
        ("::1", ["SUBMISSION-IN", "LOCALHOST"]),
        ("127.0.0.2", ["SUBMISSION-IN", "MYNETS"]),
        ("10.1.2.3", ["SUBMISSION-IN", "MYNETS"]),
        ("172.16.2.1", ["SUBMISSION-IN", "PRIVATENETS"]),
        ("172.16.1.1", ["SUBMISSION-IN"]),
        ("192.0.2.127", ["SUBMISSION-IN", "PARTNER"]),
        ("192.0.2.128", ["SUBMISSION-IN"]),
        ("192.0.2.130", ["SUBMISSION-IN", "PARTNER"]),
        ("203.0.113.77", ["SUBMISSION-IN", "SUBMISSION"]),
        ("198.51.100.1", ["SUBMISSION-IN"]),
        ("2001:db8::1", ["SUBMISSION-IN"]),
        ("::ffff:192.0.2.1", ["SUBMISSION-IN", "PARTNER"]),
        ("[192.0.2.1]", ["SUBMISSION-IN", "PARTNER"]),
    ],
)
def test_the_reference_deployment_serves_its_clients(command: _Command, client: str, banks: list[str]) -> None:
    assert _names(command("--socket", "10026", "--client", client, "--json")) == banks


def test_an_unknown_client_is_not_the_local_host(command: _Command) -> None:
    assert _names(command("--socket", "SOCK", "--json")) == ["AM.PDP-SOCK"]


@pytest.mark.parametrize("socket", ["SOCK", "/var/lib/amavispy/amavisd.sock"])
def test_a_unix_socket_is_named_by_its_path_or_as_sock(command: _Command, socket: str) -> None:
    assert _names(command("--socket", socket, "--client", "10.0.0.1", "--json")) == ["AM.PDP-SOCK", "MYNETS"]


@pytest.mark.parametrize("socket", ["9998", "[::1]:9998", "::1:9998", "[0:0::1]:9998", "lo:9998"])
def test_a_tcp_socket_is_named_by_its_port_with_or_without_an_address(command: _Command, socket: str) -> None:
    assert _names(command("--socket", socket, "--json")) == ["RELEASE"]


def test_mynets_shows_that_it_makes_mail_originate(command: _Command) -> None:
    answer = _answer(command("--socket", "SOCK", "--client", "10.1.2.3", "--json"))
    assert answer["banks"][1]["sets"] == {"originating": True}
    assert answer["settings"]["originating"] == {"value": True, "from": "MYNETS"}


def test_a_local_sender_gets_myusers(command: _Command) -> None:
    arguments = ("--socket", "10026", "--client", "203.0.113.1", "--sender")
    banks = _answer(command(*arguments, "me@example.com", "--json"))["banks"]
    assert banks[-1] == {
        "name": "MYUSERS",
        "why": "MYUSERS: the mail originates here and its sender me@example.com is local",
        "sets": {"spam_kill_level_maps": 20.0},
    }
    assert _names(command(*arguments, "me@example.org", "--json"))[-1] == "SUBMISSION"


@pytest.mark.parametrize(
    ("recipient", "bypassed"),
    [("newsletter@example.com", True), ("user@example.com", False), ("user@example.org", None)],
)
def test_with_a_recipient_lookup_lists_show_their_answer(
    command: _Command, recipient: str, bypassed: bool | None
) -> None:
    arguments = ("--socket", "10026", "--client", "203.0.113.1", "--recipient", recipient, "--json")
    settings = _answer(command(*arguments))["settings"]
    assert settings["bypass_spam_checks_maps"] == {"value": bypassed, "from": "SUBMISSION"}


def test_banks_that_an_am_pdp_request_asks_for_come_after_the_clients(command: _Command) -> None:
    arguments = ("--socket", "SOCK", "--client", "10.1.2.3", "--policy-bank", "PARTNER,NONE", "--json")
    banks = _answer(command(*arguments))["banks"]
    assert [bank["name"] for bank in banks] == ["AM.PDP-SOCK", "MYNETS", "PARTNER"]
    assert banks[-1]["why"] == "policy_bank: the AM.PDP client asks for it"


def test_the_text_says_the_same_for_people(command: _Command) -> None:
    result = command("--socket", "10026", "--client", "192.0.2.129")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "192.0.2.129 on [::1]:10026\n\n"
        '1. SUBMISSION-IN\n   interface_policy "10026": listen socket [::1]:10026\n     originating = true\n\n'
        '2. PARTNER\n   client_ipaddr_policy 3rd rule: 192.0.2.129 matches "192.0.2.129"\n'
        "     bypass_spam_checks_maps = true\n     bypass_banned_checks_maps = true\n\n"
        "Settings of SUBMISSION-IN/PARTNER\n"
    )
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["originating", "=", "true", "SUBMISSION-IN"] in rows
    assert ["final_spam_destiny", "=", '"D_PASS"', "default"] in rows


def test_a_terminal_gets_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    banks = Banks(Settings(), {"A": NamedBank("A", {"log_level": 3})}, {"SOCK": ("A",)})
    question = Question(Connection("/run/a.sock"), "192.0.2.1")
    print_tables(explanation_of(banks, question), question)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["192.0.2.1 on /run/a.sock"]
    assert ["A", 'interface_policy "SOCK": listen socket /run/a.sock', "log_level = 3"] in rows
    assert ["log_level", "3", "A"] in rows
    assert ["originating", "false", "default"] in rows


def test_a_socket_nobody_listens_on_is_refused_with_those_that_there_are(command: _Command) -> None:
    result = command("--socket", "10027", "--client", "192.0.2.129")
    assert result.exit_code == 2
    assert "10027 is not one of listen_sockets; there are: [::1]:9998, [::1]:10026, /var/lib" in result.stderr


@pytest.mark.parametrize("client", ["localhost", "192.0.2", "192.0.2.0/24"])
def test_a_client_that_is_no_address_is_refused_with_a_hint(command: _Command, client: str) -> None:
    result = command("--socket", "10026", "--client", client)
    assert result.exit_code == 2
    assert f"{client} is no IP address; expected an IP address such as 192.0.2.1" in result.stderr


def test_without_a_socket_there_is_nothing_to_explain(command: _Command) -> None:
    assert command("--client", "192.0.2.1").exit_code == 2


def test_a_faulty_configuration_is_not_explained(tmp_path: Path) -> None:
    path = tmp_path / "amavispy.toml"
    path.write_text('log_level = "loud"\n')
    result = CliRunner().invoke(explain, ["-c", str(path), "--socket", "10024"])
    assert result.exit_code == 1
    assert f"{path}:1: log_level" in result.stderr
    assert result.stdout == ""


# -- which connection is meant

_WILD = Connection("*:25", local="*", local_port=25)
_NAMED = Connection("eth0:26", local_port=26, interface="eth0")
_FOUR = Connection("127.0.0.1:27", local="127.0.0.1", local_port=27)
_SIX = Connection("[::1]:27", local="::1", local_port=27)
_PATH = Connection("/run/a.sock")
_LISTENERS = (_WILD, _NAMED, _FOUR, _SIX, _PATH)


@pytest.mark.parametrize(
    ("socket", "connection"),
    [
        ("25", _WILD),
        ("*:25", _WILD),
        ("192.0.2.1:25", Connection("*:25", local="192.0.2.1", local_port=25)),
        ("[2001:DB8::1]:25", Connection("*:25", local="2001:db8::1", local_port=25)),
        ("eth1:25", Connection("*:25", local="*", local_port=25, interface="eth1")),
        ("eth0:26", _NAMED),
        ("27", _FOUR),
        ("[::1]:27", _SIX),
        ("SOCK", _PATH),
        ("/run/a.sock", _PATH),
    ],
)
def test_a_socket_means_the_connection_its_listener_would_make(socket: str, connection: Connection) -> None:
    assert connection_for(socket, _LISTENERS) == connection


@pytest.mark.parametrize("socket", ["28", "192.0.2.1:27", "/run/b.sock", "eth0", "", "25x", "٢٥"])
def test_other_sockets_mean_nothing(socket: str) -> None:
    with pytest.raises(ValueError, match="is not one of listen_sockets"):
        connection_for(socket, _LISTENERS)


# -- the account agrees with what a session gets


def test_the_account_ends_with_the_bank_that_a_session_gets() -> None:
    rules = (
        ClientRule(IpTable.of(["192.0.2.0/24"]), ("B", "B", "GONE")),
        ClientRule(IpTable.of(["::/0"]), ("C",), True),
    )
    base = Settings(client_ipaddr_policy=rules, local_domains_maps=LookupList.of([AccessList((".",))]))
    overrides = {"A": {"originating": True}, "B": {"log_level": 2}, "C": {"log_level": 3}, "D": {}, "MYUSERS": {}}
    banks = Banks(base, {name: NamedBank(name, o) for name, o in overrides.items()}, {"SOCK": ("A",)})
    connection = Connection("/run/a.sock")
    for client in ("192.0.2.1", "198.51.100.1", None):
        question = Question(connection, client, "me@example.com", names=("D",))
        explanation = explanation_of(banks, question)
        bank = banks.for_names(banks.for_client(banks.for_interface(connection), client), ("D",))
        assert explanation.bank == banks.for_sender(bank, "me@example.com")
        assert tuple(step.name for step in explanation.steps) == explanation.bank.path


def test_rules_count_from_the_first_and_tell_of_also_and_of_unknown_clients() -> None:
    rules = [ClientRule(IpTable.of(["192.0.2.1"]), ()) for _ in range(20)]
    rules += [ClientRule(IpTable.of(["::/0"]), ("A",)), ClientRule(IpTable.of(["0/0"]), ("B",), True)]
    banks = Banks(Settings(client_ipaddr_policy=tuple(rules)), {name: NamedBank(name, {}) for name in "AB"})
    assert [step.why for step in explanation_of(banks, Question(Connection("/run/a.sock"))).steps] == [
        'client_ipaddr_policy 21st rule: the unknown client matches "::/0"',
        'client_ipaddr_policy 22nd rule: the unknown client matches "0/0", also after an earlier match',
    ]


def test_the_rules_of_a_recipient_are_all_told() -> None:
    maps = LookupList.of([Hash({"a@b.c": ("X", (BannedRule("d"),)), "b.c": "Y"}), Constant("DEFAULT")])
    banks = Banks(Settings(banned_filename_maps=maps, banned_rules={"X": (BannedRule("e", False),)}), {})
    settings = explanation_of(banks, Question(Connection("/run/a.sock"), recipient="a@b.c")).settings
    assert settings["banned_filename_maps"]["value"] == [["X", ["d"]], "Y", "DEFAULT"]
    assert settings["banned_rules"]["value"] == {"X": [["e", False]]}


# -- values as a configuration file writes them


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (Destiny.TEMPFAIL, "", "D_TEMPFAIL"),
        (OnFailure.UNCHECKED, "", "unchecked"),
        (480.0, "child_timeout", "8m"),
        (7200.0, "smtpd_timeout", "2h"),
        (90.5, "child_timeout", "90.5s"),
        (6.31, "", 6.31),
        (0, "smtpd_message_size_limit", 0),
        ((NextHop("smtp", "::1", 25),), "", "smtp:[::1]:25"),
        ((NextHop("lmtp", path="/l"), NextHop("smtp", "a", 25)), "", ["lmtp:/l", "smtp:[a]:25"]),
        (("STARTTLS",), "", ["STARTTLS"]),
        (frozenset({"b", "a"}), "", ["a", "b"]),
        (IpTable.of(["::1"]), "", ["::1"]),
        ((BannedRule("a"), BannedRule("b", False)), "", ["a", ["b", False]]),
        (
            ClientRule(IpTable.of(["::1"]), ("A",), True),
            "",
            {"networks": ["::1"], "banks": ["A"], "also": True},
        ),
        (
            ScannerSpec("c", "clamd", "/s", on_failure=OnFailure.PASS),
            "",
            {"name": "c", "type": "clamd", "address": "/s", "timeout": "30s", "on_failure": "pass"},
        ),
        (
            ScannerSpec("r", "rspamd", "h:11333", password="secret", statuses=((0, 5.0),)),
            "",
            {
                "name": "r",
                "type": "rspamd",
                "address": "h:11333",
                "timeout": "30s",
                "on_failure": "tempfail",
                "password": "...",
                "statuses": {"0": 5.0},
            },
        ),
        (
            LookupList.of([Hash({"a@b": 1}), AccessList(("!.c",)), RegexpList((("d", 2),)), Constant(3)]),
            "",
            [{"a@b": 1}, ["!.c"], {"regexp": [["d", 2]]}, 3],
        ),
    ],
)
def test_values_are_written_as_in_the_configuration(value: Any, name: str, text: Any) -> None:
    assert written(value, name) == text
