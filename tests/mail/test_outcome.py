"""How several recipients' replies become one, and how LMTP's stay many."""

from __future__ import annotations

import pytest

from amavispy.mail.disposition import Destiny
from amavispy.mail.outcome import ExitCode, Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from tests.making import MTA, QUEUED, fate, outcome, passed

REFUSED = Reply(554, "5.7.0", "Reject, id=x - spam")
DISCARDED = Reply(250, "2.7.0", "Ok, discarded, id=x - spam")
BOUNCED = Reply(554, "5.7.0", "Bounce, id=x - spam")
LATER = Reply(451, "4.3.0", "id=x - Temporary MTA failure on relaying")


def blocked(destiny: Destiny, reply: Reply, bounce: str = "") -> RecipientOutcome:
    return RecipientOutcome(fate("c@example.net", destiny=destiny, reply=reply), reply, bounce=bounce)


REJECT = blocked(Destiny.REJECT, REFUSED)
DISCARD = blocked(Destiny.DISCARD, DISCARDED)
BOUNCE = blocked(Destiny.BOUNCE, BOUNCED, "sent")
SUPPRESSED = blocked(Destiny.BOUNCE, BOUNCED, "suppressed")
TEMPFAIL = blocked(Destiny.TEMPFAIL, LATER)
HANDED_BACK = RecipientOutcome(fate(), Reply(250, "2.0.0", "Ok"))


@pytest.mark.parametrize(
    ("recipients", "reply", "code"),
    [
        ((), "250 2.5.0 Ok, id=x", ExitCode.CONTINUE),
        ((passed(),), str(QUEUED), ExitCode.CONTINUE),
        ((passed(), REJECT), f"{QUEUED}, but 1 REJECT", ExitCode.CONTINUE),
        ((passed(), BOUNCE, SUPPRESSED, REJECT, DISCARD, DISCARD),
         f"{QUEUED}, but 1 REJECT, and 1 BOUNCE, and 1 DISCARD(bounce.suppressed), and 2 DISCARD", ExitCode.CONTINUE),
        ((passed(), TEMPFAIL), str(LATER), ExitCode.TEMPFAIL),
        ((REJECT, TEMPFAIL), str(LATER), ExitCode.TEMPFAIL),
        ((DISCARD, DISCARD), str(DISCARDED), ExitCode.DISCARD),
        ((REJECT,), str(REFUSED), ExitCode.REJECT),
        ((DISCARD, REJECT), str(REFUSED), ExitCode.REJECT),
        ((BOUNCE,), "250 2.5.0 Ok, id=x, BOUNCE", ExitCode.DISCARD),
        ((SUPPRESSED,), "250 2.5.0 Ok, id=x, DISCARD(bounce.suppressed)", ExitCode.DISCARD),
        ((BOUNCE, REJECT), "250 2.5.0 Ok, id=x, 1 REJECT, and 1 BOUNCE", ExitCode.DISCARD),
        ((HANDED_BACK,), "250 2.5.0 Ok, id=x, continue delivery", ExitCode.CONTINUE),
        ((HANDED_BACK, DISCARD), "250 2.5.0 Ok, id=x, continue delivery, but 1 DISCARD", ExitCode.CONTINUE),
    ],
)  # fmt: skip
def test_one_reply_stands_for_all(recipients: tuple[RecipientOutcome, ...], reply: str, code: ExitCode) -> None:
    answer, exit_code = Outcome(recipients).single_reply("x")
    assert (str(answer), exit_code) == (reply, code)


def test_lmtp_answers_each_and_never_both_bounces_and_refuses() -> None:
    failed = blocked(Destiny.BOUNCE, Reply(451, "4.5.0", "notify FAILED"), "failed")
    replies = outcome(passed(), REJECT, BOUNCE, SUPPRESSED, DISCARD, TEMPFAIL, failed).replies_each()
    assert [str(reply) for reply in replies] == [
        str(QUEUED),
        str(REFUSED),
        f"250 2.5.0 Ok <c@example.net>, DSN was sent ({BOUNCED})",
        f"250 2.5.0 Ok <c@example.net>, DSN suppressed ({BOUNCED})",
        str(DISCARDED),
        str(LATER),
        "451 4.5.0 notify FAILED",
    ]


def test_a_recipient_of_whom_the_next_hop_has_not_accepted_the_mail_has_not_passed() -> None:
    assert passed().is_passed
    assert not RecipientOutcome(fate(), Reply(554, "5.7.1", f"from MTA({MTA}): 554 5.7.1 no"), MTA).is_passed
    assert not DISCARD.is_passed
