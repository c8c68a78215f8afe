"""small - a small deployment for fault tests: one SMTP and LMTP port, one AM.PDP socket, a sink behind them."""

from __future__ import annotations

from tests.running import free_port

CONFIG = """
myhostname = "mail.example.com"
mydomain = "example.com"
max_servers = {workers}
local_domains_maps = [[".example.com"]]
listen_sockets = ["127.0.0.1:{port}", "$MYHOME/amavisd.sock"]
forward_method = "smtp:[127.0.0.1]:{next_hop}"
notify_method = "smtp:[127.0.0.1]:{next_hop}"
{extra}
[interface_policy]
SOCK = "AM.PDP-SOCK"
["policy_bank"."AM.PDP-SOCK"]
protocol = "AM.PDP"
{tables}
"""
YARA = """
[[av_scanners]]
name = "YARA"
type = "yara"
rules = ["builtin"]
"""


def small_config(
    next_hop: int, *, port: int | None = None, workers: int = 2, extra: str = "", tables: str = YARA
) -> tuple[int, str]:
    """The SMTP port and the configuration."""
    port = port or free_port()
    return port, CONFIG.format(port=port, next_hop=next_hop, workers=workers, extra=extra, tables=tables)
