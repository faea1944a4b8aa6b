"""Fixtures that every test shares."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("COLUMNS", "120")

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def rng() -> np.random.Generator:
    """The one source of randomness in tests."""
    return np.random.default_rng(20260101)


@pytest.fixture
def shared_data() -> Path:
    """Real recordings that lie beside the repository on some machines; never part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real recordings (../shared/data) are not on this machine")
    return SHARED_DATA
