"""How good clones are that the default recipe trains: free-running, on real guitars and basses that it never heard."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.audio import Audio
from fxclone.clone import Clone
from fxclone.effects import effect
from fxclone.errors import FxcloneError
from fxclone.evaluate import evaluate_pair, total_of
from fxclone.files import read_sound
from fxclone.metrics import Comparison
from fxclone.pairs import training_and_validation
from fxclone.signals import training_sound
from fxclone_training.finish import finish_best
from fxclone_training.recipe import Recipe
from fxclone_training.trainer import Trained, train, use_threads

SAMPLE_RATE = 48_000
CHAIN = "highpass(cutoff_hz=200) > distortion(drive_db=20) > lowpass(cutoff_hz=3000)"
EFFECTS = {
    "passthrough": "passthrough",
    "tanh": "tanh",
    "lowpass": "lowpass",
    "highpass": "highpass",
    "hardclip": "hardclip",
    "distortion": "distortion",
    "chain": CHAIN,
    "ladder": "ladder",
    "bitcrush": "bitcrush",
    "compressor": "compressor",
    "ringmod": "ringmod",
}
ORIGINAL = {
    "passthrough": "-29.1",
    "tanh": "-21.3",
    "lowpass": "-29.5 (-47.5 shifted)",
    "ringmod": "loses the carrier",
}
"""ESR in dB from the notebook's own audio (FIELD.md 1): other music, other sound than ours."""
BANDS = ("-50..-40", "-40..-30", "-30..-20", "-20..-10", "-10..0")


@dataclass(frozen=True)
class Result:
    """One clone, trained and judged."""

    trained: Trained
    clone: Clone
    total: Comparison
    us_per_sample: float

    @property
    def worst_band(self) -> tuple[str, float]:
        """The level band, of those from -50 to 0 dBFS, with the highest ESR."""
        bands = {name: db for name, db in self.total.esr_db_by_level.items() if name in BANDS}
        name = max(bands, key=lambda band: bands[band])
        return name, bands[name]


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_accuracy.md")
    ask.add_argument("--effects", default=",".join(EFFECTS), help="some of these names, with commas between")
    ask.add_argument("--seconds", type=float, default=None, help="of training, at most; the recipe's own if not given")
    ask.add_argument("--threads", type=int, default=1, help="for training")
    ask.add_argument("--log", type=Path, default=None, help="folder for the training logs, one JSON file each")
    options = ask.parse_args()
    names = [name.strip() for name in options.effects.split(",")]
    for name in names:
        if name not in EFFECTS:
            ask.error(f"no effect {name!r} here; expected some of {', '.join(EFFECTS)}")
    recipe = Recipe(seed=options.seed)
    if options.seconds is not None:
        recipe = recipe.with_settings({"seconds": options.seconds})
    here = common.machine("onnxruntime", "torch", "numba", "pedalboard")
    threads = use_threads(options.threads)
    sounds, what = test_sounds(options.seed)
    print(f"judged on {what}", flush=True)
    rows, failures = [], []
    for name in names:
        try:
            result = clone_and_judge(name, recipe, sounds, options.log)
        except FxcloneError as error:
            failures.append(f"- {name} failed: {error}")
            rows.append([name, "failed", *["-"] * 8, ORIGINAL.get(name, "-")])
            print(f"{name}: {error}", flush=True)
            continue
        rows.append(row(name, result))
        print(" ".join(rows[-1]), f"({result.trained.reason})", flush=True)
    head = ["effect", "ESR dB", "worst band dB", "worst 100 ms dB", "lag", "train s", "held-back ESR dB"]
    head += ["weights", "model", "live us/sample", "original ESR dB"]
    page = f"""# How good the clones are

{common.command()}

Machine: {here}. Training on {threads} thread{"s" if threads > 1 else ""}, seed {options.seed}.

The default recipe, at most {recipe.seconds:g} s of training on {recipe.sound_s:g} s of generated sound
at {SAMPLE_RATE} Hz. Every effect has its default settings; "chain" is
`{CHAIN}`.

All errors are free-running: the exported clone file, run in onnxruntime on its own outputs over whole files from a
fresh state. Judged on {what}.

- ESR: sum of squared error over sum of squares, all files end to end, in dB. Worst band: the highest ESR in bands of
  10 dB of the dry sound's peak (50 ms windows), from -50 to 0 dBFS. Lag in samples (? where hardly anything is right).
- Train s: until the target of {recipe.target_esr_db:g} dB on held-back generated sound, a standstill, or the end of the
  budget. Held-back: ESR on that sound, by which training chose the weights.
- Live: onnxruntime through `Clone.process` at 64-sample blocks, one thread, the median block of 6 s; real time at
  {SAMPLE_RATE} Hz is {1e6 / SAMPLE_RATE:.1f}. Other programs ran on this machine: bench_live_cost.md has ratios.
- Original: the notebook wyager/audiofx, ESR of the audio that it publishes: other sound, 44.1 kHz, 394,753 weights.

{common.table(head, rows)}

{chr(10).join(failures)}""".rstrip()
    common.publish(page, "bench_accuracy.md", write=options.write)


def test_sounds(seed: int) -> tuple[list[tuple[str, Audio]], str]:
    """The real guitars and basses; where they are absent, generated sound that no training here uses."""
    files = sorted([*common.DRY.glob("*_guitar.flac"), *common.DRY.glob("*_bass.flac")])
    if not files:
        print(f"no real guitars and basses in {common.DRY}: judging on generated sound of another seed instead")
        sound = training_sound(30.0, SAMPLE_RATE, seed=seed + 1001)
        return [
            ("generated", sound)
        ], f"30 s of generated sound (seed {seed + 1001}), because the real files are absent"
    sounds = [(path.stem, read_sound(path, sample_rate=SAMPLE_RATE)[0][:1]) for path in files]
    seconds = sum(sound.shape[1] for _, sound in sounds) / SAMPLE_RATE
    return sounds, f"{seconds:.0f} s of real direct guitar and bass ({', '.join(name for name, _ in sounds)})"


def clone_and_judge(name: str, recipe: Recipe, sounds: list[tuple[str, Audio]], log: Path | None) -> Result:
    """Train, export, and run the exported file over every sound."""
    reference = effect(EFFECTS[name])
    training, validation = training_and_validation(
        reference,
        seconds=recipe.sound_s,
        validation_seconds=recipe.validation_s,
        sample_rate=SAMPLE_RATE,
        seed=recipe.seed,
    )
    trained = train(training, validation, recipe)
    if log:
        log.mkdir(parents=True, exist_ok=True)
        (log / f"{name}.json").write_text(json.dumps([vars(moment) for moment in trained.log], indent=0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clone.onnx"
        candidates = trained.candidates
        clone = finish_best(candidates, training, validation, path, name=name, provenance={}, force=True).clone
    late = reference.latency_samples(SAMPLE_RATE)
    total = total_of(
        [
            evaluate_pair(
                clone, dry, reference.render(dry, SAMPLE_RATE), SAMPLE_RATE, name=file, effect_latency_samples=late
            )
            for file, dry in sounds
        ]
    )
    excerpt = np.ascontiguousarray(sounds[0][1][:, : 2 * SAMPLE_RATE])
    timing = common.time_blocks(clone, excerpt, 64, 3, common.Yardstick())
    return Result(trained, clone, total, timing.us_per_sample)


def row(name: str, result: Result) -> list[str]:
    """Figures to text."""
    total = result.total
    band, band_db = result.worst_band
    lag = f"{total.lag_samples:+.2f}" if math.isfinite(total.lag_samples) and total.esr_db < -1 else "?"
    return [
        name,
        f"{total.esr_db:.1f}",
        f"{band_db:.1f} ({band})",
        f"{total.worst_100ms_esr_db:.1f}",
        lag if total.polarity > 0 else f"{lag} inverted",
        f"{result.trained.seconds:.0f}",
        f"{result.trained.esr_db:.1f}",
        f"{result.trained.model.parameter_count:,}",
        result.trained.model.describe(),
        f"{result.us_per_sample:.2f}",
        ORIGINAL.get(name, "-"),
    ]


if __name__ == "__main__":
    main()
