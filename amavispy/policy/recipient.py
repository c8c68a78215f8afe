"""Recipient - what the lookup lists say for each recipient, asked once a message.

In goes the envelope and the settings of its policy bank, out comes one RecipientPolicy a recipient; inspection and
`decide` read those and never ask a list themselves. Lists that answer everybody the same are asked once a message. A
directory, where there is one, is asked for all of the message's people before any list.

**Failures:** none here. A table with I/O raises TemporaryFailure, which passes through: the client keeps the mail.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Any

from amavispy.mail.address import Address
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.next_hop import NextHop
from amavispy.mail.verdict import Category
from amavispy.policy.directory import Directory
from amavispy.policy.lookup import LookupList, is_true
from amavispy.policy.sender_lists import NEUTRAL, SenderLists, SenderOpinion, has_lists, senders_of
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.policy")
_NOBODY = Address.of("")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_@.+=~#&%!*'-]{0,254}")
_NO_LOVES: frozenset[Category] = frozenset()


@dataclass(frozen=True, slots=True)
class Checks:
    """Which checks are bypassed for a recipient."""

    virus: bool = False
    spam: bool = False
    banned: bool = False
    header: bool = False


@dataclass(frozen=True, slots=True)
class RecipientPolicy:
    """One recipient and all that the lists say of it.

    `loves`: categories checked but passed (spam lovers love SPAM and SPAMMY). Levels are spam scores, None when no list
    has an opinion. `size_limit` in octets, 0 for none. `next_hops` are tried in order. `spam_user`: whose preferences
    spamd shall apply, "" for its own. `sender`: what the recipient's white-, black- and score lists say.
    `sender_address`: the envelope sender with what a directory knows of it, None when there is no directory.
    """

    recipient: Recipient
    address: Address
    is_local: bool
    bypass: Checks
    loves: frozenset[Category]
    tag: float | None
    tag2: float | None
    kill: float | None
    dsn_cutoff: float | None
    quarantine_cutoff: float | None
    size_limit: int
    tag3: float | None
    spam_user: str
    next_hops: tuple[NextHop, ...]
    sender: SenderOpinion = NEUTRAL
    sender_address: Address | None = None


_Level = float | None
_Answers = tuple[Checks, frozenset[Category], _Level, _Level, _Level, _Level, _Level, int, _Level, str]


def recipient_policies(
    envelope: Envelope, settings: Settings, content: Content | None = None, directory: Directory | None = None
) -> tuple[RecipientPolicy, ...]:
    """One policy a recipient, in the envelope's order. Without the content nobody knows what its From field says."""
    addresses = tuple([address_for(recipient.address, settings) for recipient in envelope.recipients])
    senders: tuple[Address, ...] = ()
    sender_address = None
    if directory is not None:
        people = [address_for(path, settings) for path in senders_of(envelope.sender, content)]
        addresses, senders = directory.know(addresses, people, settings)
        sender_address = senders[0]
    shared = _answers(settings, _NOBODY) if _is_same_for_all(settings) else None
    policies = [
        _policy(recipient, address, settings, shared, sender_address)
        for recipient, address in zip(envelope.recipients, addresses, strict=True)
    ]
    if content is not None and (has_lists(settings) or any(address.records for address in addresses)):
        senders = senders or tuple([address_for(path, settings) for path in senders_of(envelope.sender, content)])
        lists = SenderLists(senders, settings)
        return tuple([_with_opinion(policy, lists.opinion(policy.address)) for policy in policies])
    return tuple(policies)


def address_for(path: str, settings: Settings) -> Address:
    """The address as the settings want it split: delimiter, case."""
    return Address.of(path, delimiter=settings.recipient_delimiter, case_sensitive=settings.localpart_is_case_sensitive)


def is_local(address: Address, settings: Settings) -> bool:
    """Whether local_domains_maps has the address; one without a domain is this host's own, hence local."""
    return not address.domain or is_true(settings.local_domains_maps.find(address))


def _policy(
    recipient: Recipient, address: Address, settings: Settings, shared: _Answers | None, sender: Address | None
) -> RecipientPolicy:
    answers = shared or _answers(settings, address)
    local = is_local(address, settings)
    return RecipientPolicy(recipient, address, local, *answers, settings.forward_method, sender_address=sender)


def _with_opinion(policy: RecipientPolicy, opinion: SenderOpinion) -> RecipientPolicy:
    return policy if opinion is NEUTRAL else replace(policy, sender=opinion)


def _lists(settings: Settings) -> tuple[LookupList, ...]:
    return (
        settings.bypass_virus_checks_maps,
        settings.bypass_spam_checks_maps,
        settings.bypass_banned_checks_maps,
        settings.bypass_header_checks_maps,
        settings.virus_lovers_maps,
        settings.banned_files_lovers_maps,
        settings.unchecked_lovers_maps,
        settings.spam_lovers_maps,
        settings.bad_header_lovers_maps,
        settings.spam_tag_level_maps,
        settings.spam_tag2_level_maps,
        settings.spam_kill_level_maps,
        settings.spam_dsn_cutoff_level_maps,
        settings.spam_quarantine_cutoff_level_maps,
        settings.message_size_limit_maps,
        settings.spam_tag3_level_maps,
        settings.sa_username_maps,
    )


def _is_same_for_all(settings: Settings) -> bool:
    return all(lookup.is_fixed for lookup in _lists(settings))


def _answers(settings: Settings, address: Address) -> _Answers:
    """What all lists but local_domains_maps say for the address."""
    found = [lookup.find(address) for lookup in _lists(settings)]
    bypass = Checks(*(is_true(answer) for answer in found[:4]))
    tag, tag2, kill, dsn, quarantine, size, tag3 = (_number(answer) for answer in found[9:16])
    limit = settings.smtpd_message_size_limit if size is None else int(size)
    return bypass, _loves(found[4:9]), tag, tag2, kill, dsn, quarantine, limit, tag3, _user(found[16])


def _loves(found: list[Any]) -> frozenset[Category]:
    """Answers of the lovers' lists, in the order of `_lists`."""
    if not any(found):
        return _NO_LOVES
    virus, banned, unchecked, spam, bad_header = (is_true(answer) for answer in found)
    wanted = {
        Category.VIRUS: virus,
        Category.BANNED: banned,
        Category.UNCHECKED: unchecked,
        Category.SPAM: spam,
        Category.SPAMMY: spam,
        Category.BADH: bad_header,
    }
    return frozenset(category for category, is_loved in wanted.items() if is_loved)


def _user(answer: Any) -> str:
    """A user's name, perhaps made of a stranger's address: what could be a path or a second line is none."""
    name = answer if isinstance(answer, str) else ""
    if name and (not _USER.fullmatch(name) or ".." in name):
        _log.debug("sa_username_maps answers %r, which is no name of a user; ignored", name)
        return ""
    return name


def _number(answer: Any) -> float | None:
    """A level or size; a text table may say it in text. What is no number counts as no opinion."""
    if answer is None or isinstance(answer, int | float):
        return answer
    try:
        return float(answer)
    except (TypeError, ValueError):
        _log.warning("a lookup list answers %r where a number is expected; ignored", answer)
        return None
