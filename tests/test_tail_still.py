"""The best still of what moves: as long a response as other passages bear out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from fxclone.effects import effect
from fxclone.pairs import Pair
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_identify import identify
from fxclone_training.tail_still import error_elsewhere, train

RATE = 16_000


def pair(dry: np.ndarray, wet: np.ndarray) -> Pair:
    return Pair(dry[None].astype(np.float32), wet[None].astype(np.float32), RATE, "pair")


def noise(seed: int, samples: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal(samples)


def still_of(training: Pair, held: Pair) -> tuple[Session, list[str]]:
    told: list[str] = []
    session = Session(Recipe(seconds=1e5), training, held, torch.Generator(), tell=told.append)
    assert train(session) == "nothing improves any more"
    return session, told


def test_a_response_is_known_elsewhere_too_and_an_unrelated_sound_is_not() -> None:
    dry, response = noise(0, 30_000), [0.5, -0.3, 0.2, 0.1]
    assert error_elsewhere(pair(dry, lfilter(response, [1.0], dry)), 8) < 1e-5
    for taps in (1, 80, 800):
        assert error_elsewhere(pair(dry, noise(1, 30_000)), taps) == pytest.approx(1, abs=0.01)


def test_the_error_is_what_a_response_of_the_rest_leaves_of_each_piece() -> None:
    dry = noise(0, 4_000)
    wet = lfilter([0.0, 1.0], [1.0], dry) + noise(1, 4_000)
    wrong = 0.0
    for piece in np.array_split(np.arange(4_000), 5):
        rows = np.stack([dry, np.concatenate([[0.0], dry[:-1]])])
        rest = np.delete(np.arange(4_000), piece)
        found = np.linalg.lstsq(rows[:, rest].T, wet[rest], rcond=None)[0]
        wrong += np.square(found @ rows[:, piece] - wet[piece]).sum()
    assert error_elsewhere(pair(dry, wet), 2) == pytest.approx(wrong / np.square(wet).sum(), rel=1e-3)


def test_the_length_is_not_longer_than_it_is_worth() -> None:
    dry = noise(0, 2 * RATE)
    noisy = 0.5 * dry + noise(1, len(dry))
    gain, told = still_of(pair(dry, noisy), pair(dry, noisy))
    assert gain.kept[0][1].receptive_field_samples == 1
    assert "0.062 ms" in told[0]
    ringing = lfilter([1.0], [1.0, 0.0, 0.99], dry) + noise(1, len(dry))
    longer, _ = still_of(pair(dry, ringing), pair(dry, ringing))
    assert longer.kept[0][1].receptive_field_samples == 0.05 * RATE


def test_a_phaser_in_stereo_gets_its_mean() -> None:
    reference = effect("phaser(rate_hz=1, depth=1)")
    dry = np.stack([noise(seed, 4 * RATE) for seed in (0, 1)]).astype(np.float32)
    wet = reference.render(dry, RATE)
    training, held = (Pair(dry[:, part], wet[:, part], RATE, "phaser") for part in (slice(RATE, None), slice(RATE)))
    session, told = still_of(training, held)
    (esr_db, model), *_ = session.kept
    assert isinstance(model, Tail)
    assert session.best_esr_db == esr_db < -2
    assert len(told) == 1


def test_what_knows_the_held_back_sound_by_heart_does_not_stay() -> None:
    dry = noise(0, RATE)
    both = pair(dry, 0.5 * dry + noise(1, RATE))
    session = Session(Recipe(seconds=1e5), both, both, torch.Generator())
    longer = Tail(identify(both.dry, both.wet, 800).responses)
    session.prefer(longer, -30.0)
    train(session)
    assert session.kept[0][1].receptive_field_samples == 1
    assert session.best_esr_db > -30


def test_a_stop_leaves_a_clone_and_says_why() -> None:
    dry = noise(0, RATE)
    both = pair(dry, 0.5 * dry + noise(1, RATE))
    session = Session(Recipe(seconds=1e5), both, both, torch.Generator(), should_stop=lambda: True)
    with pytest.raises(Finished, match="stopped by the user"):
        train(session)
    assert session.kept[0][1].receptive_field_samples == 1
