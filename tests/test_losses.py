"""What each term of a loss sees, by how much, and with which gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fxclone.errors import UsageError
from fxclone.metrics import a_weighted_esr, esr
from fxclone_training.losses import Loss, Past
from fxclone_training.losses_text import FILTERS, MEASURES, SAMPLE_BY_SAMPLE

RATE = 48_000
SINGLE = [*MEASURES, *(f"{measure}:{name}" for measure in SAMPLE_BY_SAMPLE for name in FILTERS)]
BY_SAMPLE = [name for name in SINGLE if name.split(":")[0] in SAMPLE_BY_SAMPLE]
MIXED = "esr+0.5*mse+0.1*esr:a+0.2*l1:pre+0.3*dc+0.01*mrstft"


def music(seconds=1.0, seed=0):
    """Decaying low notes with overtones and a little hiss: most of the power is low, as on a guitar."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    sound = 1e-4 * rng.standard_normal(len(t))
    for start in np.arange(0.0, seconds, 0.2):
        since, f0 = (t - start).clip(0), rng.uniform(82, 330)
        sound += 0.2 * np.exp(-6 * since) * sum(np.sin(2 * np.pi * k * f0 * since) / k**1.5 for k in range(1, 20))
    return sound[None].astype(np.float32)


WET = music()
LEVEL = float(np.sqrt(np.mean(np.square(WET, dtype=np.float64))))


def make(text, wet=WET, rate=RATE):
    """A loss; terms that may not stand alone get ``esr`` beside them."""
    alone = any(measure in text for measure in SAMPLE_BY_SAMPLE)
    return Loss.parse(text if alone else f"esr+{text}", rate, wet)


def value(text, predicted, target, weight=None, past=None):
    """One term, measured against the level of the whole sound unless told otherwise."""
    weight = torch.full((len(target), 1), 1 / LEVEL) if weight is None else weight
    terms = make(text).terms(predicted, target, weight.to(target), past)
    return terms[text].item()


def whole():
    return torch.from_numpy(WET.copy())


def streams(samples=8192, count=4, dtype=torch.float32):
    starts = np.linspace(0, WET.shape[1] - samples, count).astype(int)
    return torch.from_numpy(np.stack([WET[0, start : start + samples] for start in starts])).to(dtype)


def blocks(text, predicted, target, block):
    """Values of a term, block after block with what came before."""
    loss = make(text)
    past = Past(torch.zeros(len(target), loss.context_samples, dtype=target.dtype))
    weight = torch.full((len(target), 1), 1 / LEVEL, dtype=target.dtype)
    out = []
    for first in range(0, target.shape[1], block):
        now = slice(first, first + block)
        out.append(loss.terms(predicted[:, now], target[:, now], weight, past)[text].item())
        past.push(predicted[:, now], target[:, now])
    return np.array(out)


def test_every_term_is_tested():
    assert len(SINGLE) == 11
    assert len(BY_SAMPLE) == 9


@pytest.mark.parametrize("name", SINGLE)
def test_nothing_for_the_same_sound(name):
    assert value(name, streams(), streams()) < 2e-6


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "dc"])
def test_about_one_for_silence(name):
    # l1 is 1 for a Gaussian sound; notes that decay have fewer large values and more small ones.
    least = 0.4 if name.startswith("l1") else 0.8
    assert least < value(name, 0 * whole(), whole()) < 1.2


@pytest.mark.parametrize("name", BY_SAMPLE)
def test_ten_percent_too_loud_is_a_hundredth_of_the_power(name):
    share = 0.1 if name.startswith("l1") else 0.01
    assert value(name, 1.1 * whole(), whole()) == pytest.approx(share * value(name, 0 * whole(), whole()), rel=1e-3)


def test_half_as_loud_is_half_the_convergence_and_ln_2():
    """White noise lies 60 dB above the floor in every bin, less 2.5 dB for the mean of its logarithm."""
    y = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    loss = Loss.parse("esr+mrstft", RATE, y.numpy())
    of_silence = math.log(1e6) / 2 - np.euler_gamma / 2
    got = loss.terms(0.5 * y, y, torch.ones(1, 1))["mrstft"].item()
    assert got == pytest.approx((0.5 + math.log(2) / of_silence) / 2, rel=0.01)


@pytest.mark.parametrize("name", BY_SAMPLE)
def test_inverted_sound_is_worse_than_silence(name):
    times = 2 if name.startswith("l1") else 4
    assert value(name, -whole(), whole()) == pytest.approx(times * value(name, 0 * whole(), whole()), rel=1e-4)


def test_magnitudes_do_not_see_an_inverted_sound():
    assert value("mrstft", -streams(), streams()) < 2e-6


@pytest.mark.parametrize("text", ["esr", "mse", "l1:pre", MIXED])
def test_a_mixture_sees_an_inverted_sound(text):
    y = streams()
    weight = torch.full((4, 1), 1 / LEVEL)
    assert make(text)(-y, y, weight) > 1.2 * make(text)(0 * y, y, weight)


@pytest.mark.parametrize(
    ("name", "expected"), [("esr", esr), ("mse", esr), ("esr:a", lambda wet, out: a_weighted_esr(wet, out, RATE))]
)
def test_over_a_whole_sound_a_term_is_the_reported_figure(name, expected):
    out = torch.tanh(4 * whole()) / 4
    assert value(name, out, whole()) == pytest.approx(expected(WET, out.numpy()), rel=0.02 if "a" in name else 1e-4)


@pytest.mark.parametrize("frequency_hz", [82, 110, 1000])
def test_dc_sees_no_wave(frequency_hz):
    t = torch.arange(9600, dtype=torch.float64)[None] / RATE
    wave = LEVEL * math.sqrt(2) * torch.cos(2 * math.pi * frequency_hz * t + 0.4)
    seen = blocks("dc", wave, 0 * wave, 240)
    assert len(seen) == 40
    assert seen[10:].max() < 0.04


def test_dc_sees_an_offset_under_the_sound():
    y = streams(9600)
    seen = blocks("dc", y + 0.1 * LEVEL, y, 240)
    assert len(seen) == 40
    assert seen[10:] == pytest.approx(np.full(30, 0.01), rel=1e-3)


def test_dc_has_the_gradient_of_an_offset_that_stays():
    """A sample is in the mean for 20 ms: the gradient in one block stands for all of these blocks."""
    y, one = torch.zeros(2, 128, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    past = Past(torch.zeros(2, 960, dtype=torch.float64))
    past.push(y.new_full((2, 960), 0.1), y.new_zeros(2, 960))
    judged = make("esr+dc").value_and_grad(y + 0.1, y, one, past)
    assert judged.terms == pytest.approx({"esr": 0.01, "dc": 0.01})
    # Of a constant error both terms are the square.
    assert judged.gradient.numpy() == pytest.approx(np.full((2, 128), 2 * 2 * 0.1 / 256))


@pytest.mark.parametrize("name", ["mse:pre", "mse:a"])
@pytest.mark.parametrize("block", [64, 300, 1200])
def test_blocks_with_their_past_are_the_whole(name, block):
    rng = np.random.default_rng(1)
    y = streams(9600, 2, torch.float64)
    out = y + torch.from_numpy(0.01 * rng.standard_normal(y.shape))
    parts = blocks(name, out, y, block)
    assert len(parts) == 9600 // block
    assert parts.mean() == pytest.approx(value(name, out, y), rel=1e-12)


def test_frames_reach_into_the_past():
    """The same block sounds different after a different past, and its frames see that."""
    y = streams(1024, 2)
    past = Past(torch.zeros(2, make("esr+mrstft").context_samples))
    same = value("mrstft", y, y, past=past)
    past.predicted = past.predicted + 0.05
    assert same < 2e-6
    assert value("mrstft", y, y, past=past) > 0.05


def test_hiss_in_a_pause_counts_no_more_after_a_filter_that_favours_it():
    rng = np.random.default_rng(2)
    hiss = torch.from_numpy((1e-4 * rng.standard_normal((4, 4096))).astype(np.float32))
    weight = 1 / hiss.square().mean(1, keepdim=True).sqrt()
    for name in ("esr:pre", "esr:a"):
        assert value(name, 0 * hiss, hiss, weight) < 1.1


@pytest.mark.parametrize("name", [*SINGLE, MIXED])
def test_gradients_are_exact(name):
    loss = make(name)
    y = streams(320, 2, torch.float64)
    rng = np.random.default_rng(3)
    out = (y + torch.from_numpy(0.3 * LEVEL * rng.standard_normal(y.shape))).requires_grad_()
    weight = torch.tensor([[1 / LEVEL], [3.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda predicted: loss(predicted, y, weight), (out,), eps=1e-7, fast_mode=True)


@pytest.mark.parametrize("name", ["esr", "mse", "esr+0.5*mse", "l1", MIXED])
def test_value_and_gradient_together_are_those_of_autograd(name):
    loss, y = make(name), streams(512)
    rng = np.random.default_rng(4)
    out = (y + torch.from_numpy(0.01 * rng.standard_normal(y.shape).astype(np.float32))).requires_grad_()
    weight = torch.linspace(1, 9, 4)[:, None]
    past = Past(torch.zeros(4, loss.context_samples))
    past.push(0.01 * torch.ones(4, 512), y)
    judged = loss.value_and_grad(out, y, weight, past)
    total = loss(out, y, weight, past)
    (gradient,) = torch.autograd.grad(total, out)
    assert judged.value == pytest.approx(total.item(), rel=1e-5)
    assert judged.gradient.shape == (4, 512)
    assert not judged.gradient.requires_grad
    assert torch.allclose(judged.gradient, gradient, rtol=1e-4, atol=1e-7)
    assert list(judged.terms) == [term.name for term in loss.text.terms]
    assert judged.value == pytest.approx(sum(term.weight * judged.terms[term.name] for term in loss.text.terms))


@pytest.mark.parametrize("name", [*SINGLE, MIXED])
def test_silence_is_no_trouble(name):
    """A stream in a pause: finite, and so is the gradient."""
    y = torch.zeros(2, 1024)
    judged = make(name).value_and_grad(y, y, torch.full((2, 1), 1e4))
    assert math.isfinite(judged.value)
    assert torch.isfinite(judged.gradient).all()


@pytest.mark.parametrize(
    ("text", "context", "block"), [("esr+mse", 0, 1), ("esr+pre", 1, 1), ("a", 959, 1), ("esr+mrstft", 1200, 1024)]
)
def test_what_a_loss_wants_to_see(text, context, block):
    loss = make(text)
    assert (loss.context_samples, loss.least_block_samples) == (context, block)


def test_streams_that_begin_anew_have_a_true_past():
    past = Past(torch.zeros(3, 4))
    past.push(torch.ones(3, 2), torch.full((3, 2), 2.0))
    past.restart(torch.tensor([False, True, False]), torch.full((3, 4), 5.0))
    assert past.predicted.tolist() == [[0, 0, 1, 1], [5, 5, 5, 5], [0, 0, 1, 1]]
    assert past.target.tolist() == [[0, 0, 2, 2], [5, 5, 5, 5], [0, 0, 2, 2]]


def test_a_silent_wet_sound_is_refused():
    with pytest.raises(UsageError, match="silent"):
        make("esr", wet=np.zeros((1, 4800), np.float32))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"\(batch, 1\)"):
        make("esr")(torch.zeros(2, 8), torch.zeros(2, 8), torch.ones(2))
