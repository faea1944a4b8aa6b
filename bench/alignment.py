"""How well `align_pair` finds the lag of pairs whose lag is known, and whether it knows when it does not.

Cases are independent and take about a second each. With --results each outcome is kept as a line of JSON in a file, and
a later run goes on where the last one ended; families are mixed, so that a part of the cases stands for all.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np
from alignment_cases import FAMILIES, Case, case
from alignment_plot import draw

from fxclone.alignment import CONFIDENT_SAMPLES, HIGH_CONFIDENCE, align_pair

RIGHT_SAMPLES = 0.1
SURE_OF_POLARITY = 0.9
PICTURE = "bench_alignment.png"


@dataclass(frozen=True)
class Outcome:
    """What was found for a case, and the truth."""

    index: int
    family: str
    text: str
    lag: float
    lag_found: float
    uncertainty: float
    confidence: float
    polarity: int
    polarity_found: int
    polarity_confidence: float
    drift_ppm: float
    drift_found_ppm: float
    gain_db: float
    gain_found_db: float

    @property
    def error(self) -> float:
        return abs(self.lag_found - self.lag)

    @property
    def confident(self) -> bool:
        return self.confidence >= HIGH_CONFIDENCE

    @property
    def confidently_wrong(self) -> bool:
        return self.confident and not self.error <= RIGHT_SAMPLES


def main() -> None:
    parser = common.parser(__doc__, document="bench_alignment.md")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--family", choices=list(FAMILIES), help="only this one")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--results", type=Path, help="keep outcomes here and go on from those that are there")
    parser.add_argument("--verbose", action="store_true", help="a line for each case that is wrong or not confident")
    arguments = parser.parse_args()
    outcomes: dict[int, Outcome] = {}
    if arguments.results and arguments.results.exists():
        kept = [Outcome(**json.loads(line)) for line in arguments.results.read_text().splitlines()]
        outcomes = {one.index: one for one in kept}
    began = time.perf_counter()
    for index in np.random.default_rng(0).permutation(arguments.cases):
        if int(index) in outcomes or time.perf_counter() - began > 60.0 * arguments.minutes:
            continue
        one = case(int(index), arguments.cases, arguments.seed)
        if arguments.family and one.family != arguments.family:
            continue
        outcome = _measured(int(index), one)
        outcomes[int(index)] = outcome
        if arguments.results:
            with arguments.results.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        if arguments.verbose and (not outcome.confident or outcome.confidently_wrong):
            print(_line(outcome), flush=True)
    if arguments.write:
        draw(list(outcomes.values()), common.DOCS / PICTURE, right=RIGHT_SAMPLES, sure_below=CONFIDENT_SAMPLES)
    common.publish(
        _page(list(outcomes.values()), arguments.cases, arguments.seed), "bench_alignment.md", write=arguments.write
    )


def _measured(index: int, one: Case) -> Outcome:
    found = align_pair(one.dry, one.wet, one.sample_rate)
    return Outcome(
        index=index,
        family=one.family,
        text=one.text,
        lag=one.lag,
        lag_found=found.lag_samples,
        uncertainty=found.uncertainty_samples,
        confidence=found.confidence,
        polarity=one.polarity,
        polarity_found=found.polarity,
        polarity_confidence=found.polarity_confidence,
        drift_ppm=one.drift_ppm,
        drift_found_ppm=found.drift_ppm,
        gain_db=one.gain_db,
        gain_found_db=found.gain_db,
    )


def _line(one: Outcome) -> str:
    mark = "WRONG" if one.confidently_wrong else "right" if one.error <= RIGHT_SAMPLES else "     "
    return (
        f"{mark} #{one.index} {one.family}: {one.text}; lag {one.lag:.2f}, error {one.lag_found - one.lag:+.3f} "
        f"± {one.uncertainty:.3f}, confidence {one.confidence:.2f}, polarity {one.polarity_found * one.polarity:+d} "
        f"({one.polarity_confidence:.2f}), drift {one.drift_found_ppm - one.drift_ppm:+.2f} ppm off"
    )


def _page(outcomes: list[Outcome], cases: int, seed: int) -> str:
    wrong = [one for one in outcomes if one.confidently_wrong]
    families = [f"- {name}: {text}." for name, (_, text) in FAMILIES.items()]
    return "\n".join(
        [
            "# Alignment: is the lag right, and is the confidence honest?",
            "",
            f"`.venv/bin/python bench/alignment.py --cases {cases} --seed {seed} --write` on {common.machine('scipy')}",
            "",
            f"{len(outcomes)} of {cases} made pairs: lag -200 to +20,000 samples, seven in ten with a fraction, "
            "inverted or not, -40 to +20 dB, 2.5 to 5 s of made sound or of real recordings (those are not "
            "part of the project; without them all sound is made). Delays are exact: a phase ramp on the spectrum of "
            "the whole sound.",
            "",
            f'"Confident" is a confidence of {HIGH_CONFIDENCE} or more, right is within {RIGHT_SAMPLES} sample of the '
            f"pure delay. **Confidently wrong: {len(wrong)} of {len(outcomes)}.**",
            "",
            _table(outcomes),
            "",
            f"Polarity mistakes are counted where polarity has a confidence of {SURE_OF_POLARITY} or more. Drift and "
            "level are the largest errors among the confident; level only for families without "
            "distortion, filter or reverb.",
            "",
            f"![error against stated uncertainty]({PICTURE})",
            "",
            "The families:",
            "",
            *families,
            "",
            "Where it is not sure, it is so for a reason: what a low-pass does beyond the last frequency that stands "
            "out of the noise, or that the dry sound contains, shifts everything below it like a delay, and a filter "
            "before a distortion can be seen only roughly. `apply_alignment` then leaves some samples of the lag in: "
            "a clone can learn a delay, but cannot look ahead.",
            *(["", "Confidently wrong:", "", *(f"- {_line(one)}" for one in wrong)] if wrong else []),
        ]
    )


def _table(outcomes: list[Outcome]) -> str:
    rows = []
    for family in [*FAMILIES, "all"]:
        mine = [one for one in outcomes if family in (one.family, "all")]
        if mine:
            rows.append([family, *_row(mine, level=family in ("delay", "noise"))])
    return common.table(
        [
            "family",
            "cases",
            "confident",
            "median error",
            "worst error",
            "wrong",
            "all: median",
            "all: 90 %",
            "polarity mistakes",
            "drift, ppm",
            "level, dB",
        ],
        rows,
    )


def _row(mine: list[Outcome], *, level: bool) -> list[object]:
    sure = [one for one in mine if one.confident]
    errors = np.array([one.error for one in sure])
    every = np.array([one.error for one in mine if np.isfinite(one.error)])
    said = [one for one in mine if one.polarity and one.polarity_confidence >= SURE_OF_POLARITY]
    return [
        len(mine),
        f"{len(sure) / len(mine):.0%}",
        f"{np.median(errors):.4f}" if sure else "",
        f"{errors.max():.3f}" if sure else "",
        sum(one.confidently_wrong for one in sure),
        f"{np.median(every):.3f}" if len(every) else "",
        f"{np.percentile(every, 90):.2f}" if len(every) else "",
        f"{sum(one.polarity_found != one.polarity for one in said)} of {len(said)}",
        f"{max(abs(one.drift_found_ppm - one.drift_ppm) for one in sure):.2f}" if sure else "",
        f"{max(abs(one.gain_found_db - one.gain_db) for one in sure):.2f}" if sure and level else "",
    ]


if __name__ == "__main__":
    main()
