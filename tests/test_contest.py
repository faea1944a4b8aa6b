"""The contest in bench/: its clock and checkpoints, its player for LSTMs, and a page that says what is missing."""

import json
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
BEFORE = dict(os.environ)
import contest_child  # noqa: E402
import contest_cost  # noqa: E402
import contest_page  # noqa: E402
import contest_result  # noqa: E402

os.environ.clear()  # a bench sets thread counts, which are no business of other tests
os.environ.update(BEFORE)

RATE = 44_100


class Counter:
    """Its weight is how often it was trained; its held-back error follows a script."""

    def __init__(self, errors):
        self.value, self.errors, self.exported = 0, errors, []

    def weights(self):
        return self.value

    def load(self, weights):
        self.value = weights

    def held_error(self):
        return self.errors[min(self.value, len(self.errors) - 1)]

    def predict(self):
        return np.full(3, self.value, np.float32)

    def export(self, folder):
        self.exported.append(self.value)


def job(folder, budgets):
    sound = np.zeros(3, np.float32)
    return contest_child.Job(sound, sound, sound, sound, sound, RATE, budgets, 0, 1, folder)


def test_a_look_gives_the_best_checkpoint_and_training_goes_on_from_where_it_was(tmp_path):
    model = Counter([9.0, 2.0, 5.0, 7.0])
    training = contest_child.Training(job(tmp_path, (0.0, 1e-9)), model, {"parameters": 1}, time.perf_counter())
    training.begin()
    model.value = 1
    training.judged(2.0)
    model.value = 3
    assert training.stepped()
    assert model.value == 3
    assert model.exported == [1, 1]
    assert np.array_equal(np.load(tmp_path / "test-0.npy"), [1, 1, 1])
    facts = json.loads((tmp_path / "look-0.json").read_text())
    assert (facts["held_error"], facts["steps"], facts["parameters"]) == (2.0, 1, 1)
    assert [error for _, error in facts["log"]] == [2.0, 7.0]


def test_weights_that_were_not_validated_yet_are_validated_when_looked_at(tmp_path):
    model = Counter([9.0, 4.0])
    training = contest_child.Training(job(tmp_path, (0.0,)), model, {}, time.perf_counter())
    training.begin()
    training.judged(9.0)
    model.value = 1
    assert training.stepped()
    assert np.array_equal(np.load(tmp_path / "test-0.npy"), [1, 1, 1])


def test_looking_costs_no_training_time(tmp_path):
    now = [100.0]

    class Slow(Counter):
        def predict(self):
            now[0] += 1000.0
            return super().predict()

    training = contest_child.Training(job(tmp_path, (5.0, 90.0)), Slow([1.0]), {}, 70.0, clock=lambda: now[0])
    training.begin()
    now[0] += 6.0
    assert not training.stepped()
    now[0] += 83.0
    assert training.seconds == 89.0
    assert not training.stepped()
    now[0] += 1.0
    assert training.stepped()
    facts = [json.loads((tmp_path / f"look-{budget}.json").read_text()) for budget in (5, 90)]
    assert [(one["seconds"], one["prepared_s"], one["steps"]) for one in facts] == [(6.0, 30.0, 1), (90.0, 30.0, 3)]


def test_weights_that_are_not_finite_are_never_chosen(tmp_path):
    model = Counter([3.0, float("nan")])
    training = contest_child.Training(job(tmp_path, (0.0,)), model, {}, time.perf_counter())
    training.begin()
    training.judged(3.0)
    model.value = 1
    training.stepped()
    assert np.array_equal(np.load(tmp_path / "test-0.npy"), [0, 0, 0])
    assert json.loads((tmp_path / "look-0.json").read_text())["held_error"] == 3.0


def weights_of(core, head):
    layers = []
    for k in range(core.num_layers):
        w, r, b, c = (
            getattr(core, f"{name}_l{k}").numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        layers.append((w, r, b + c))
    return contest_cost.LstmWeights(layers, head.weight[0].numpy(), float(head.bias[0]))


@pytest.mark.parametrize(("layers", "skip"), [(1, True), (2, False)])
def test_an_lstm_plays_as_torch_does(layers, skip):
    torch.manual_seed(3)
    core, head = torch.nn.LSTM(1, 5, layers), torch.nn.Linear(5, 1)
    dry = np.random.default_rng(0).standard_normal((1, 700)).astype(np.float32)
    with torch.no_grad():
        x = torch.from_numpy(dry).reshape(-1, 1, 1)
        silence = torch.zeros(50, 1, 1)
        _, state = core(silence)
        expected = head(core(x, state)[0]).reshape(-1).numpy() + skip * dry[0]
        weights = replace(weights_of(core, head), skip=skip, silence_samples=50)
        clone = contest_cost.lstm_clone(weights, RATE, "test")
        assert contest_cost.proven(clone, dry, expected) < 1e-5
    assert weights.count == sum(p.numel() for p in (*core.parameters(), *head.parameters())) - 20 * layers


def test_an_lstm_is_read_in_the_order_of_a_nam_file(tmp_path):
    torch.manual_seed(4)
    core, head = torch.nn.LSTM(1, 3, 2), torch.nn.Linear(3, 1)
    with torch.no_grad():
        expected = weights_of(core, head)
        flat = []
        for w, r, bias in expected.layers:
            flat += [*np.concatenate([w, r], axis=1).ravel(), *bias, *np.full(6, 99.0)]
        flat += [*expected.head, expected.head_bias]
    told = {"config": {"input_size": 1, "hidden_size": 3, "num_layers": 2}, "weights": [float(x) for x in flat]}
    file = tmp_path / "model.json"
    file.write_text(json.dumps(told))
    found = contest_cost.nam_lstm_weights(file, silence_samples=7)
    assert len(found.layers) == 2
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert np.array_equal(found.head, expected.head)
    told["weights"].append(0.0)
    file.write_text(json.dumps(told))
    with pytest.raises(SystemExit, match="expected 4"):
        contest_cost.nam_lstm_weights(file, silence_samples=7)


def result(contestant, budget, esr_db, seed=0, share=0.99):
    training = {"cpu_share": share, "parameters": 10, "prepared_s": 1.0, "steps": 5, "peak_mb": 300.0,
                "settings": {"family": "ar"}, "versions": {"torch": "2"}}  # fmt: skip
    test = {"esr_db": esr_db, "a_weighted_esr_db": esr_db, "lag_samples": 0.0}
    yardstick = {"matmul_ms": 0.3, "lstm32_us": 0.35}
    machine = "A CPU, 1 cores, Linux, load 0.5 at the start; code abc"
    return contest_result.Result(
        "ts9", contestant, budget, seed, "d", training, test, {}, yardstick, machine, "2026-01-01T10:00", [1]
    )


def test_results_come_back_and_are_known_by_their_material(tmp_path):
    one = result("fxclone", 90.0, -33.0)
    one.save(tmp_path)
    assert list(contest_result.results(tmp_path)) == [one]
    assert contest_result.is_there(tmp_path, "ts9", "fxclone", 90.0, 0, "d")
    assert not contest_result.is_there(tmp_path, "ts9", "fxclone", 90.0, 0, "other material")
    assert not contest_result.is_there(tmp_path, "ts9", "fxclone", 300.0, 0, "d")


def test_the_page_says_who_leads_what_is_shared_and_what_is_missing(tmp_path):
    found = [result("fxclone", 90.0, -33.0), result("fxclone", 90.0, -35.0, seed=1), result("fxclone", 90.0, -31.0, 2),
             result("nam-wavenet", 90.0, -12.0, share=0.5)]  # fmt: skip
    page = contest_page.page(found, tmp_path)
    assert "-33.0 (-35.0, -31.0)" in page
    assert "-12.0*" in page
    lead = next(line for line in page.splitlines() if line.startswith("| ts9"))
    assert [cell.strip() for cell in lead.split("|")[2:4]] == ["21.0", ""]
    assert "≈ 0.77" in page
    assert "Not run: ts9, Neural Amp Modeler, standard LSTM, 90 s" in page
    contest_page.draw(found, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 5_000


def test_a_page_of_nothing_says_so(tmp_path):
    assert "Nothing has been run yet" in contest_page.page([], tmp_path)
