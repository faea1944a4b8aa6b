"""The bench of the forms of memory: what is left to do, what is changed for a run, and its page."""

import json
import os
import sys
from dataclasses import asdict, replace

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
BEFORE = dict(os.environ)
import memory_forms  # noqa: E402
import memory_forms_page  # noqa: E402

os.environ.clear()  # a bench sets thread counts, which are no business of other tests
os.environ.update(BEFORE)

from fxclone_training import ar_stages, memory_stages, memory_start, pyramid_stages  # noqa: E402

RESULT = memory_forms.Result(
    pair="ts9",
    form="leaky",
    budget_s=90.0,
    seed=0,
    digest="d",
    test={"esr_db": -31.0},
    held_db=-30.0,
    model="a model",
    weights=611,
    steps=100,
    us_per_sample=1.0,
    lstm32_us=0.5,
    curve=[(1.0, -1.0), (20.0, -12.0), (80.0, -30.0)],
    cpu_share=0.99,
    machine="a machine, 1 cores, load 0.1 at the start; code abc, Python",
    when="2026-01-01T00:00",
)


@pytest.fixture(autouse=True)
def settings_as_they_were(monkeypatch):
    """Whatever a form changes is put back."""
    for module, names in (
        (memory_stages, ("PEDAL", "DYNAMICS", "NOISE", "LEVEL_NOISE", "ONE_STEPS", "TRUST", "started", "fit_last")),
        (memory_stages, ("of_past_outputs",)),
        (memory_start, ("_pairs",)),
        (pyramid_stages, ("SIZES",)),
        (ar_stages, ("choose", "without_taps")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))


def test_what_is_done_is_not_repeated_unless_the_material_changed(tmp_path):
    cells = memory_forms.wanted(["ts9", "akai_tape"], ["leaky", "no-noise", "window"], 90.0, 1)
    names = [str(cell) for cell in cells]
    assert names == [
        "ts9, window, 90 s, seed 0",
        "ts9, leaky, 90 s, seed 0",
        "ts9, no-noise, 90 s, seed 0",  # what stages are worth is asked of two pairs only
        "akai_tape, window, 90 s, seed 0",
        "akai_tape, leaky, 90 s, seed 0",
    ]
    (tmp_path / cells[1].file_name).write_text(json.dumps(asdict(RESULT)))
    left = list(memory_forms.left(cells, {"ts9": "d", "akai_tape": "d"}, tmp_path))
    assert left == [cells[0], *cells[2:]]
    assert list(memory_forms.left(cells, {"ts9": "other", "akai_tape": "d"}, tmp_path)) == cells


@pytest.mark.parametrize("name", memory_forms.ALL)
def test_every_form_can_be_set_up(name):
    """Each setting that a form changes is still there; and the window sees as much as the leaky averages."""
    before = memory_stages.PEDAL["standard"].config(44_100, "tanh")
    memory_forms.ALL[name].change()
    if name == "window":
        window = memory_stages.PEDAL["standard"].config(44_100, "tanh")
        assert window.slow == 0
        assert window.taps_y == before.taps_y + 2 * before.slow
    if name == "pyramid-far":
        assert pyramid_stages.SIZES["standard"].config("tanh").past_reach == 256


def test_a_setting_that_is_gone_is_told():
    with pytest.raises(SystemExit, match="has no NOISES"):
        memory_forms._set(memory_stages, "NOISES", 0)


def test_the_page_says_what_is_there_and_what_had_no_core(tmp_path):
    slow = replace(RESULT, form="pyramid", test={"esr_db": -18.0}, cpu_share=0.5)
    again = replace(RESULT, seed=1, test={"esr_db": -32.0})
    variant = replace(RESULT, form="no-noise", test={"esr_db": None})
    page = memory_forms_page.page([RESULT, again, slow, variant], tmp_path / "none.json")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "-31.5 (-32.0, -31.0)" in rows["leaky averages"]
    assert "-18.0*" in rows["pyramid, 512 and 16"]
    assert "-31.5 (-32.0, -31.0) [-12.0]" in rows["leaky averages, as they are"]
    assert "99.0 [-12.0]" in rows["no noise on the free run"]
    assert "Not measured yet." in page
    memory_forms_page.draw([RESULT, again, slow], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_the_page_of_nothing(tmp_path):
    assert "Nothing has been run yet." in memory_forms_page.page([], tmp_path / "none.json")
