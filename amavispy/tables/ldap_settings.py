"""Ldap settings - what %default_ldap of amavis says, as a value: servers, login, what to search (chapter 5.5)."""

from __future__ import annotations

from dataclasses import dataclass, field

QUERY_FILTER = "(&(objectClass=amavisAccount)(mail=%m))"


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """`hostname`: hosts, host:port or URIs (ldap, ldaps, ldapi), tried in order. `port` 0 is the usual one.

    `base` may hold %d, the domain of the address; `query_filter` holds `(attribute=%m)` at least once. `timeout` in
    seconds, 0 for lookup_timeout. `verify`: "none", "optional" or "require" a certificate that can be trusted.
    """

    hostname: tuple[str, ...] = ("localhost",)
    port: int = 0
    base: str = ""
    scope: str = "sub"
    query_filter: str = QUERY_FILTER
    deref: str = "find"
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    timeout: float = 0.0
    tls: bool = False
    verify: str = "require"
    cafile: str = ""
    capath: str = ""
    clientcert: str = ""
    clientkey: str = ""


NO_LDAP = LdapSettings()
