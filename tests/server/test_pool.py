"""How many workers there should be, decided from numbers alone."""

import pytest

from amavispy.config.model import ServerSettings
from amavispy.server.pool import Backoff, Crowd, wanted_workers

ELASTIC = ServerSettings(max_servers=10, min_servers=3, min_spare_servers=2, max_spare_servers=4)


def crowd(alive, idle, waiting=0, growth=100.0, shrinking=100.0, request=1.0):
    return Crowd(alive, idle, waiting, growth, shrinking, request)


def test_a_fixed_pool_has_max_servers_whatever_happens():
    assert wanted_workers(ServerSettings(max_servers=5), crowd(1, 0, 100)) == 5


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (crowd(0, 0), 3),  # at least min_servers
        (crowd(3, 3), 3),
        (crowd(3, 1), 4),  # one spare is missing
        (crowd(3, 0), 5),
        (crowd(9, 0), 10),  # never more than max_servers
        (crowd(10, 0, 50), 10),
        (crowd(3, 0, 4), 7),  # a worker for each who waits
        (crowd(8, 6), 6),  # beyond max_spare_servers they go
        (crowd(8, 6, growth=5.0), 8),  # but not so soon after growing
        (crowd(8, 6, shrinking=5.0), 8),
        (crowd(8, 8, request=31.0), 3),  # nobody has asked for long
        (crowd(8, 3, request=31.0), 7),  # busy ones stay, and so do the spares
        (crowd(4, 4, request=31.0), 3),  # never fewer than min_servers
    ],
)
def test_an_elastic_pool_follows_the_load(now, wanted):
    assert wanted_workers(ELASTIC, now) == wanted


def test_the_first_death_is_made_good_at_once():
    backoff = Backoff()
    backoff.died(100.0, age=0.1)
    assert backoff.allows(100.0)


def test_deaths_in_a_row_make_the_pause_grow_to_a_limit():
    backoff, pauses = Backoff(), []
    for _ in range(12):
        backoff.died(0.0, age=0.1)
        pauses.append(next(tick / 100 for tick in range(10_000) if backoff.allows(tick / 100)))
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.0
    assert pauses[-1] == 5.0


def test_a_long_life_ends_the_row():
    backoff = Backoff()
    for _ in range(5):
        backoff.died(0.0, age=0.1)
    backoff.died(0.0, age=60.0)
    assert backoff.allows(0.0)
