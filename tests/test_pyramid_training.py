"""A pyramid from a pair to a clone: by the recipe, exported, resumed, stopped anywhere."""

import numpy as np
import pytest
import torch
from scipy import signal

from fxclone.clone import load_clone
from fxclone.errors import UsageError
from fxclone.metrics import compare
from fxclone.pairs import Pair
from fxclone.signals import training_sound
from fxclone_export.battery import check_stream, require
from fxclone_export.verify import fresh_streams
from fxclone_training import pyramid_stages
from fxclone_training.finish import finish
from fxclone_training.pyramid_stages import SIZES
from fxclone_training.recipe import Recipe
from fxclone_training.runs import RunFolder
from fxclone_training.session import Finished, Session
from fxclone_training.tail_drive import Start
from fxclone_training.trainer import train

RATE = 16_000
torch.set_num_threads(1)


def pedal(dry):
    """A clean path beside a clipped one, with a filter before the clipping and one behind it."""
    heard = signal.lfilter(*signal.butter(1, 700, "highpass", fs=RATE), dry)
    b, a = signal.butter(1, 2500, fs=RATE)
    return (0.5 * dry - 0.6 * signal.lfilter(b, a, np.tanh(6 * heard + 0.3) - np.tanh(0.3))).astype(np.float32)


def pair_of(seconds, seed):
    dry = training_sound(seconds, RATE, seed=seed, kinds=("plucked", "chords", "bass"))
    return Pair(dry, pedal(dry), RATE)


@pytest.fixture(scope="module")
def pairs():
    return pair_of(5, 1), pair_of(2, 2)


@pytest.fixture(scope="module")
def trained(pairs):
    recipe = Recipe(family="ar", memory="pyramid", size="nano", seconds=1e5, max_steps=24)
    return train(*pairs, recipe)


def test_a_pedal(trained):
    """Trained by the recipe, judged on sound of its own."""
    assert trained.model.config == SIZES["nano"].config("tanh")
    assert trained.steps == 24
    fresh = pair_of(3, 77)
    out = trained.model.run_freely(fresh.dry)
    assert out.shape == fresh.wet.shape
    figures = compare(fresh.wet, out, RATE, dry=fresh.dry)
    assert figures.esr_db < -20
    assert figures.polarity == 1
    assert abs(figures.lag_samples) < 0.2


def test_free_running_steps_are_worth_something(trained):
    started = [moment.esr_db for moment in trained.log if moment.stage == "start"]
    assert len(started) == 2
    assert trained.esr_db < min(started) - 2


def test_the_clone_file_passes_the_battery(trained, pairs, tmp_path):
    clone, figures = finish(trained.model, *pairs, tmp_path / "clone.onnx", name="pedal", provenance={}, force=False)
    assert figures.esr_db == pytest.approx(trained.esr_db, abs=0.05)
    assert clone.meta.receptive_field_samples == 256
    assert clone.meta.certificate["lyapunov_per_sample"] < 0
    loaded = load_clone(tmp_path / "clone.onnx")
    require(check_stream(fresh_streams(loaded), channels_in=1, sample_rate=RATE, samples=2401), name="pedal")


def test_a_run_is_gone_on_with(trained, pairs, tmp_path):
    run = RunFolder.create(tmp_path, "pedal", {})
    run.save_weights(trained.model, trained.esr_db)
    start = run.load_weights()
    assert start.config == trained.model.config
    again = train(*pairs, Recipe(family="ar", seconds=1e5, max_steps=3), start=start)
    assert [again.log[0].stage, again.log[-1].stage] == ["resumed", "free-running"]
    assert again.log[0].esr_db == pytest.approx(trained.esr_db, abs=1e-3)
    assert again.model.config == trained.model.config


@pytest.mark.parametrize("start", [Start(720.0, 6.0, -10.0), None], ids=["filter", "unknown"])
@pytest.mark.parametrize("steps", [0, 3, 7])
def test_nothing_is_lost_whenever_it_is_stopped(pairs, steps, start):
    session = Session(Recipe(seconds=1e5), *pairs, torch.Generator().manual_seed(0))
    session.should_stop = lambda: session.steps >= steps
    with pytest.raises(Finished, match="stopped by the user"):
        pyramid_stages.train(session, SIZES["nano"].config("relu"), start)
    assert session.steps == steps
    assert session.best_esr_db < 0.1  # a plain gain at least
    assert np.isfinite(session.kept[0][1].run_freely(session.validation.dry)).all()


def test_units_hear_what_the_filter_lets_through(pairs):
    """Behind the filter of the race the units' weights are that filter, at many drives."""
    session = Session(Recipe(seconds=1e5), *pairs, torch.Generator().manual_seed(0))
    session.should_stop = lambda: True
    with pytest.raises(Finished):
        pyramid_stages.train(session, SIZES["nano"].config("tanh"), Start(720.0, 6.0, -10.0))
    weights = session.kept[0][1].w_x.detach()
    assert weights.shape[1] == SIZES["nano"].config("tanh").seen_x
    shapes = weights / weights.norm(dim=1, keepdim=True)
    torch.testing.assert_close(shapes, shapes[:1].expand_as(shapes), rtol=0, atol=1e-5)
    assert float(weights[:, 0].min()) > 0 > float(weights[:, 2].max())  # the newest sample less those before


def test_sizes_grow():
    configs = [SIZES[name].config("tanh") for name in ("nano", "small", "standard", "large")]
    for seen in ([c.width * (c.seen_x + c.seen_y) for c in configs], [c.reach for c in configs]):
        assert seen == sorted(seen)
    assert configs[-1].seen_x + configs[-1].seen_y == 100
    assert (configs[-1].reach, configs[-1].past_reach) == (4096, 64)


def test_it_has_a_shape_of_its_own():
    with pytest.raises(UsageError, match="memory pyramid has a shape of its own; leave m out"):
        Recipe(memory="pyramid", m=8)
    assert Recipe(memory="pyramid", width=5, activation="relu").width == 5
