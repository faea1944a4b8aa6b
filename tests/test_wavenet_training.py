"""Family ``wavenet`` from a pair to a model: it learns curves and filters, keeps the best, and repeats itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from wavenet_models import random_model

from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone.metrics import compare
from fxclone.pairs import Pair, effect_pair, training_and_validation
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Session
from fxclone_training.wavenet import WaveNet, WaveNetConfig
from fxclone_training.wavenet_stages import Average, Descent, Streams, start_from_least_squares, train

RATE = 16_000
CONFIG = WaveNetConfig(channels=4, dilations=(1, 3, 9, 27), gated=True, skip=4)
CPU = torch.device("cpu")


def session_on(expression, *, seed=0, **recipe):
    pairs = training_and_validation(effect(expression), seconds=4.0, validation_seconds=1, sample_rate=RATE, seed=3)
    return Session(Recipe(**{"seconds": 1e5, "seed": seed, **recipe}), *pairs, torch.Generator().manual_seed(seed))


def trained(session, start=None, **options):
    try:
        train(session, start, CPU, **{"config": CONFIG, **options})
    except Finished as end:
        session.last_look()
        return str(end)
    raise AssertionError("training ended without a reason")


def noise_pair(samples=20_000, channels=1):
    dry = (0.3 * np.random.default_rng(1).standard_normal((channels, samples))).astype(np.float32)
    return Pair(dry, (0.5 * dry).astype(np.float32), RATE)


@pytest.mark.parametrize(
    ("expression", "limit_db"),
    [("passthrough", -60), ("tanh(drive=5)", -28), ("lowpass(cutoff_hz=3000, order=2) > tanh(drive=3)", -18)],
)
def test_it_learns(expression, limit_db):
    session = session_on(expression, max_steps=200)
    assert trained(session) == "200 steps are done"
    best_db, model = session.kept[0]
    assert best_db == session.best_esr_db <= limit_db
    fresh = effect_pair(effect(expression), 2, RATE, seed=77)
    out = model.run_freely(fresh.dry)
    assert out.shape == fresh.wet.shape == (1, 2 * RATE)
    figures = compare(fresh.wet, out, RATE, dry=fresh.dry)
    assert figures.esr_db <= limit_db + 3
    assert figures.polarity == 1
    assert abs(figures.lag_samples) < 0.2


def test_the_same_seed_gives_the_same_weights():
    def run(seed):
        session = session_on("tanh(drive=5)", seed=seed, max_steps=40)
        trained(session)
        return session.kept[0][1]

    one, two, other = run(5), run(5), run(6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.conv, other.conv)


def test_what_is_kept_is_the_best_that_was_judged():
    session = session_on("tanh(drive=5)", max_steps=120)
    trained(session)
    judged = [moment.esr_db for moment in session.log]
    assert len(judged) >= 5
    assert session.best_esr_db == min(judged) < judged[0]


def test_it_goes_on_from_a_model():
    session = session_on("tanh(drive=5)", max_steps=150)
    trained(session)
    again = session_on("tanh(drive=5)", max_steps=1)
    trained(again, session.kept[0][1])
    assert again.log[0].esr_db == session.best_esr_db
    assert again.kept[0][1].config == CONFIG


def test_a_stop_is_heard_at_once():
    session = session_on("tanh(drive=5)")
    session.should_stop = lambda: session.steps >= 3
    assert trained(session) == "stopped by the user"
    assert session.steps == 3
    assert session.kept


def test_steps_see_more_later():
    descent = Descent(batch=2, block=64, longer_from=(10, 20))
    streams = Streams(noise_pair(200), descent, generator=torch.Generator().manual_seed(0), device=CPU)
    model = random_model(3, channels=3, dilations=(1, 40), skip=6)
    seen = []
    for step in (1, 9, 10, 19, 20):
        streams.lengthen(step)
        seen.append(streams.next_block(model, model.fresh_state(2))[0].shape[-1])
    assert seen == [64, 64, 128, 128, 200]  # not more than there is


def test_streams_carry_what_was_heard(rng):
    """Block after block, what the model is shown and remembers is what it would have heard from the beginning."""
    model, pair = random_model(3, channels=3, dilations=(1, 40), skip=6), noise_pair(6_000)
    streams = Streams(pair, Descent(batch=5, block=64), generator=torch.Generator().manual_seed(0), device=CPU)
    state, begun = model.fresh_state(5), 0
    whole = model.run_freely(pair.dry)[0]
    for _ in range(120):
        before = streams.position.clone()
        x, y, power, state = streams.next_block(model, state)
        starts = streams.position - 64
        begun += int((starts != before).sum())
        for row in range(5):
            at = slice(int(starts[row]), int(starts[row]) + 64)
            np.testing.assert_array_equal(x[row, 0], pair.dry[0, at])
            np.testing.assert_array_equal(y[row, 0], pair.wet[0, at])
        with torch.no_grad():
            out, state = model(x, state)
        expected = np.stack([whole[start : start + 64] for start in starts.tolist()])
        np.testing.assert_allclose(out[:, 0], expected, atol=1e-5)
        assert power.shape == (5, 1)
        assert float(power.min()) > 0
    assert begun > 5


def test_the_average_goes_back_over_a_share_of_the_steps():
    model, other = random_model(1), random_model(2)
    average = Average(other)
    for _ in range(100):
        average.add(model)
    assert torch.allclose(average.model.conv, model.conv)
    for _ in range(3):
        average.add(other)
    with torch.no_grad():
        share = (average.model.conv - model.conv) / (other.conv - model.conv)
    assert float(share.median()) == pytest.approx(1 - 0.8**3, abs=0.05)


@pytest.mark.parametrize("shape", [{}, {"gated": False, "skip": 0}, {"head": 2}], ids=["all", "no skip", "head"])
def test_the_first_fit_is_least_squares(shape):
    """It leaves less than any other output weights would: moving them in any direction makes it worse."""
    config = replace(CONFIG, **shape)
    pair = session_on("tanh(drive=5)").training
    model = WaveNet(config, generator=torch.Generator().manual_seed(0), level_in=0.1, level_out=0.3)
    start_from_least_squares(model, pair)

    def left(m):
        return float(np.square(m.run_freely(pair.dry) - pair.wet).mean() / np.square(pair.wet).mean())

    found = left(model)
    assert found < 0.5
    for weights in (model.skip, model.read)[: 1 if config.head else 2]:
        for sign in (-1, 1) if weights.numel() else ():
            with torch.no_grad():
                weights.mul_(1 + 0.1 * sign)
            assert left(model) > found
            with torch.no_grad():
                weights.div_(1 + 0.1 * sign)


def test_stereo_is_refused():
    pair = noise_pair(channels=2)
    session = Session(Recipe(), pair, pair, torch.Generator())
    with pytest.raises(UsageError, match="wavenet is mono"):
        train(session, None, CPU)


def test_a_pair_shorter_than_a_block_is_refused():
    with pytest.raises(UsageError, match="100 samples; expected at least 1024"):
        Streams(noise_pair(100), Descent(), generator=torch.Generator(), device=CPU)
