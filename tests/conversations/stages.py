"""Where conversations are played: how many workers, and which store.

Every test plays on the second, and on the first as a slow one; those that say the most play on all (`on_every_stage`).
"""

from __future__ import annotations

from typing import NamedTuple

import pytest


class Stage(NamedTuple):
    workers: int
    mysql: bool = False


STAGES = {"1-worker": Stage(1), "2-workers": Stage(2), "2-workers-mysql": Stage(2, mysql=True)}
USUAL = (pytest.param("1-worker", marks=pytest.mark.slow), "2-workers")
on_every_stage = pytest.mark.parametrize("town", STAGES, indirect=True, scope="session")
