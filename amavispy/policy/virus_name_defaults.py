"""Virus name defaults - which names of clamd and its third-party signatures mean unwanted mail rather than malware.

The default of `virus_name_to_spam_score_maps`: phishing, spam and data-loss heuristics are known to hit honest mail,
so they count as a little spam; what the same sources call malware stays malware (False).
"""

from __future__ import annotations

from amavispy.policy.lookup import LookupList, RegexpList

VIRUS_NAME_SCORES: tuple[tuple[str, float | bool], ...] = (
    (r"^(?:Heuristics\.)?(?:Phishing|Structured)\.", 0.1),
    (r"^(?:Email|HTML)\.(?:Phishing|Spam)", 0.1),
    (r"^Sanesecurity\.(?:Malware|Rogue|Trojan|Badmacro|Foxhole)\.", False),
    (r"^(?:Sanesecurity|Safebrowsing|winnow\.(?:phish|spam)|ScamNailer|PhishTank)\.", 0.1),
    (r"^(?:MSRBL-(?:Images|SPAM)|INetMsg\.SpamDomain)", 0.1),
)

DEFAULT_VIRUS_NAME_TO_SPAM_SCORE = LookupList((RegexpList(VIRUS_NAME_SCORES),))
