"""The dialogues of the gateway, without sockets: what is said, and when a worker is needed."""

import pytest

from amavispy.config.model import ServerSettings
from amavispy.mail.envelope import Connection
from amavispy.mail.reply import Reply
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings
from amavispy.server.front import AmpdpFront, ProxyFront, SmtpFront, Step
from amavispy.server.profiles import smtp_profile

HERE = Connection("127.0.0.1:10024", "127.0.0.1", 4711, "127.0.0.1", 10024)
TLS = ServerSettings(smtpd_tls_cert_file="c", smtpd_tls_key_file="k")
PROFILE = smtp_profile(PolicyBank(Settings(tls_security_level_in="may")), HERE, TLS)


def greeted(*octets: bytes) -> tuple[SmtpFront, Step, bytes]:
    front = SmtpFront(PROFILE)
    step = front.greet()
    for some in octets:
        step = front.receive(some)
    return front, step, front.take_output()


def test_a_transaction_needs_a_worker_and_is_left_unread():
    front, step, _ = greeted(b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT")
    assert step is Step.LEND
    assert SmtpFront(PROFILE, front.state()).advance() is Step.LEND


def test_an_idle_session_continues_in_another_process():
    front, step, _ = greeted(b"EHLO a\r\nNO")
    assert step is Step.WAIT
    other = SmtpFront(PROFILE, front.state())
    assert other.advance() is Step.WAIT
    other.receive(b"OP\r\n")
    assert other.take_output().startswith(b"250")


def test_starttls_needs_a_worker_for_good():
    assert greeted(b"EHLO a\r\n", b"STARTTLS\r\n")[1] is Step.LEND_FOR_GOOD


def test_tls_is_refused_for_now_only():
    front, _, _ = greeted(b"EHLO a\r\nSTARTTLS\r\n")
    assert front.refuse_tls() is Step.WAIT
    assert front.take_output() == b"454 4.7.0 TLS not available due to temporary reason\r\n"
    assert front.receive(b"STARTTLS\r\n") is Step.LEND_FOR_GOOD


def test_what_was_sent_behind_a_refused_starttls_is_answered_too():
    front, _, _ = greeted(b"EHLO a\r\nSTARTTLS\r\nNOOP\r\nQUIT\r\n")
    assert front.refuse_tls() is Step.CLOSE
    replies = front.take_output().split(b"\r\n")
    assert [reply[:3] for reply in replies[:3]] == [b"454", b"250", b"221"]


def test_the_end_of_the_connection_ends_the_session():
    assert greeted(b"EHLO a\r\n", b"")[1] is Step.CLOSE
    assert greeted(b"QUIT\r\n")[1] is Step.CLOSE


def test_dismissing_says_the_reply_last():
    front, _, _ = greeted(b"EHLO a\r\n")
    front.dismiss(Reply(421, "4.3.2", "later"))
    assert front.take_output() == b"421 4.3.2 later\r\n"


@pytest.mark.parametrize(
    ("unread", "can"),
    [(b"", False), (b"DATA\r\nhalf a mail", False), (b"DATA\r\nx\r\n.\r\n", True), (b"bdat 3 LAST\r\nabc", True)],
)
def test_only_a_whole_mail_is_owed_an_answer(unread, can):
    front, _, _ = greeted(b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
    assert front.can_complete(unread) is can


def test_an_ampdp_request_needs_a_worker_from_its_first_octet():
    front = AmpdpFront()
    assert front.advance() is Step.WAIT
    assert front.receive(b"r") is Step.LEND
    assert front.state() == b"r"
    assert AmpdpFront().receive(b"") is Step.CLOSE


def test_an_ampdp_session_given_back_waits_for_more():
    assert AmpdpFront(b"half a req").advance() is Step.WAIT
    assert AmpdpFront(b"half a req", has_begun=True).advance() is Step.LEND


def test_an_idle_ampdp_client_is_dismissed_without_words():
    front = AmpdpFront()
    front.dismiss(Reply(421, "4.3.2", "later"))
    assert front.take_output() == b""


def test_an_ampdp_client_that_asked_is_told_to_keep_the_mail():
    front = AmpdpFront()
    front.receive(b"request=AM.PDP\n")
    front.dismiss(Reply(421, "4.3.2", "later"))
    said = front.take_output().replace(b"\r\n", b"\n")
    assert said == b"setreply=421 4.3.2 later\nreturn_value=tempfail\nexit_code=75\n\n"


@pytest.mark.parametrize(("unread", "can"), [(b"", False), (b"\n", True), (b"\r\n", True), (b"sender=x\n", False)])
def test_only_a_whole_ampdp_request_is_owed_an_answer(unread, can):
    front = AmpdpFront()
    front.receive(b"request=AM.PDP\r\n")
    assert front.can_complete(unread) is can


def test_a_proxy_header_admits_and_leaves_the_rest():
    front = ProxyFront()
    assert front.receive(b"PROXY TCP4 192.0.2.1 ") is Step.WAIT
    assert front.receive(b"192.0.2.2 1 25\r\nEHLO") is Step.ADMIT
    assert front.header.peer == "192.0.2.1"
    assert front.state() == b"EHLO"


@pytest.mark.parametrize("octets", [b"EHLO a\r\n", b"PROXY UNKNOWN\r\n", b""])
def test_anything_but_a_header_is_closed_without_a_word(octets):
    front = ProxyFront()
    assert front.receive(octets) is Step.CLOSE
    front.dismiss(Reply(421, "4.3.2", "later"))
    assert front.take_output() == b""
