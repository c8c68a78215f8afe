"""The two libraries agree on this machine, and either of them will do."""

from amavispy.server import interfaces


def test_the_loopback_interface_has_its_address():
    assert "127.0.0.1" in interfaces.addresses()["lo"]


def test_without_netifaces_the_answer_is_the_same(monkeypatch):
    expected = interfaces.addresses()
    monkeypatch.setattr(interfaces, "netifaces", None)
    found = interfaces.addresses()
    assert {name: set(texts) for name, texts in found.items() if texts} == {
        name: set(texts) for name, texts in expected.items() if texts
    }


def test_a_link_local_address_keeps_its_interface_as_scope():
    assert interfaces._normal(["fe80::1", "fe80::2%eth0", "junk"], "eth0") == ("fe80::1%eth0", "fe80::2%eth0")


def test_an_address_leads_to_its_interface():
    known = {"lo": ("127.0.0.1", "::1"), "eth0": ("192.0.2.1", "fe80::1%eth0")}
    assert interfaces.by_address(known)["fe80::1"] == "eth0"
    assert interfaces.by_address(known)["::1"] == "lo"


def test_a_machine_without_ipv6_is_recognised():
    assert not interfaces.has_ipv6({"lo": ("127.0.0.1",)})
    assert interfaces.has_ipv6({"lo": ("127.0.0.1", "::1")})


def test_unreadable_interfaces_are_none(monkeypatch, caplog):
    def failing():
        raise OSError("no netlink")

    monkeypatch.setattr(interfaces, "_from_netifaces", failing)
    assert interfaces.addresses() == {}
    assert "no netlink" in caplog.text
