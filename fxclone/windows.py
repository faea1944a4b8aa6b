"""Which parts of a recording are read, and which of them are held back to judge the clone by.

Of several takes some are held back whole, as long as that costs no more than a quarter of the sound; otherwise the end
of the longest is, after a gap; or, where that is played far softer than the rest, the stretch whose levels are most
like the whole's: the soft end of a song says nothing of a compressor. Takes of the same dry sound are one performance:
they are held back together, or else a clone would be judged by sound that it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fxclone.errors import FxcloneError
from fxclone.pairs import GAP_S, HELD_BACK_SHARE
from fxclone.takes import Take

WINDOW_S = 300.0
"""A take is aligned in windows of at most this: clocks that differ by 50 ppm part by 15 ms meanwhile."""
SAMPLED_WINDOW_S = 60.0
"""Of takes that are longer than what is used, windows of about this are spread over them."""
SHORTEST_WINDOW_S = 12.0
"""No window is shorter than this, if the take is not: each has to be aligned."""
SHORTEST_TAKE_S = 4.0
"""Nor the take whose end is held back."""
SOFT_DB = 6.0
"""An end that is so much softer than the whole is not held back."""
HOP_S = 0.5
"""Places of other stretches are tried in these steps."""
SHARES = np.linspace(0.05, 0.95, 19)
"""Levels are compared at these quantiles of their distributions."""
ALL_S = math.inf
EVERYTHING, NOTHING = (0.0, math.inf), (math.inf, math.inf)
"""What may be held back of a take."""


@dataclass(frozen=True)
class Window:
    """A part of a take, to be read and aligned at once.

    Attributes
    ----------
    take : Take
    start_s, seconds : float
        Where it lies in the dry file.
    held_s : (float, float)
        From where to where in the dry file the sound judges the clone; what lies before and after, but for gaps, trains
        it.
    keep_s : float
        At most this much of it is used, from its middle.
    """

    take: Take
    start_s: float
    seconds: float
    held_s: tuple[float, float]
    keep_s: float = ALL_S

    @property
    def used_s(self) -> float:
        """How much of it is used, before a gap is left."""
        return min(self.seconds, self.keep_s)


def plan_windows(
    takes: Sequence[Take], *, seconds: float, validation_seconds: float, seed: int
) -> tuple[list[Window], list[str]]:
    """Choose what to train on and what to judge by.

    Parameters
    ----------
    takes : sequence of Take
        At least one.
    seconds, validation_seconds : float
        At most about so much of either; windows are spread evenly over takes that are longer in all.
    seed : int
        Chooses which takes are held back.

    Returns
    -------
    windows : list of Window
        In the order of the takes.
    notes : list of str
        For the user.

    Raises
    ------
    FxcloneError
        If nothing can be held back.
    """
    performances = _performances(takes)
    total = sum(take.seconds for group in performances for take in group)
    wanted = min(validation_seconds, HELD_BACK_SHARE * total)
    held = _held_whole(performances, wanted, HELD_BACK_SHARE * total, seed)
    held_s = {take: NOTHING for group in performances for take in group}
    notes = []
    if held:
        held_s |= dict.fromkeys(held, EVERYTHING)
    else:
        longest = max(performances, key=lambda group: min(take.seconds for take in group))
        end = min(take.seconds for take in longest)
        wanted = min(wanted, end / 2)
        if end < SHORTEST_TAKE_S:
            raise FxcloneError(
                f"{longest[0].name} is {end:.1f} s long and there is no longer take; expected at least "
                f"{SHORTEST_TAKE_S:g} s, of which the end is held back to judge the clone by: give more sound"
            )
        told = f"{wanted:.1f} s of {longest[0].name} are held back to judge the clone by"
        begin = None if total > seconds else _instead_of_a_soft_end(longest, end, wanted)
        if begin is None:
            held_s |= dict.fromkeys(longest, (end - wanted, ALL_S))
            notes.append(f"the last {told}")
        else:
            held_s |= dict.fromkeys(longest, (begin, begin + wanted))
            notes.append(f"from {begin:.1f} s on, {told}: its end is much softer than the rest")
    training = [take for take, stretch in held_s.items() if stretch != EVERYTHING]
    for_training, for_judging = _spread(training, seconds, held_s), _spread(held, wanted, held_s)
    there, used = sum(take.seconds for take in training), sum(window.used_s for window in for_training)
    if used < 0.99 * there:
        notes.append(f"of {there / 60:.1f} min of sound, {used / 60:.1f} min are used, spread evenly")
    order = {take: place for place, take in enumerate(held_s)}
    windows = for_training + for_judging
    return sorted(windows, key=lambda window: (order[window.take], window.start_s)), notes


def _performances(takes: Sequence[Take]) -> list[list[Take]]:
    """Takes by their dry sound; of takes whose wet files are byte-identical only the first."""
    if len(takes) == 1:  # no need to read it all
        return [list(takes)]
    groups: dict[str, dict[str, Take]] = {}
    for take in takes:
        groups.setdefault(take.dry_performance, {}).setdefault(take.digests[1], take)
    return [list(group.values()) for group in groups.values()]


def _held_whole(performances: list[list[Take]], wanted: float, most: float, seed: int) -> list[Take]:
    held: list[Take] = []
    for place in np.random.default_rng(seed).permutation(len(performances)):
        have = sum(take.seconds for take in held)
        more = sum(take.seconds for take in performances[place])
        if have < wanted and have + more <= most:
            held += performances[place]
    return held if sum(take.seconds for take in held) >= wanted / 2 else []


def _instead_of_a_soft_end(performance: Sequence[Take], end_s: float, wanted_s: float) -> float | None:
    """Where levels are most like the whole's if the end is soft; None for the end itself.

    A stretch in the middle costs one more gap, so short recordings give their end.
    """
    if end_s - wanted_s - 2 * GAP_S < SHORTEST_WINDOW_S:
        return None
    levels_db, frame_s = performance[0].dry_levels()
    levels_db = levels_db[: round(end_s / frame_s)]
    frames = round(wanted_s / frame_s)
    whole = np.quantile(levels_db, SHARES)
    starts = range(0, len(levels_db) - frames, round(HOP_S / frame_s))
    end_db, whole_db = (10 * math.log10(np.mean(10 ** (part / 10))) for part in (levels_db[-frames:], levels_db))
    if end_db > whole_db - SOFT_DB or not starts:
        return None
    far = [np.abs(np.quantile(levels_db[k : k + frames], SHARES) - whole).mean() for k in starts]
    return starts[int(np.argmin(far))] * frame_s


def _spread(takes: list[Take], seconds: float, held_s: dict[Take, tuple[float, float]]) -> list[Window]:
    """Spread about ``seconds`` evenly over the takes: all of them, whole, if they are not longer."""
    total = sum(take.seconds for take in takes)
    if total > 1.5 * seconds:
        most = max(1, int(seconds / SHORTEST_WINDOW_S))
        if len(takes) > most:
            cut = [take for take in takes if held_s[take] not in (EVERYTHING, NOTHING)]  # what gives a part stays
            spread = [takes[k * len(takes) // most] for k in range(most)]
            takes = list(dict.fromkeys([*cut, *spread]))[: max(most, len(cut))]
            total = sum(take.seconds for take in takes)
    share = min(1.0, seconds / total) if total > seconds else 1.0
    windows = []
    for take in takes:
        keep = take.seconds * share
        part = held_s[take] not in (EVERYTHING, NOTHING)
        least = SHORTEST_WINDOW_S + (take.seconds - held_s[take][0] + GAP_S if part else 0.0)
        read = min(take.seconds, max(keep, least))
        count = math.ceil(read / (WINDOW_S if read == take.seconds else SAMPLED_WINDOW_S))
        each = read / count
        if count == 1:
            starts = [take.seconds - each] if part else [(take.seconds - each) / 2]
        else:
            starts = [k * (take.seconds - each) / (count - 1) for k in range(count)]
        keep_each = ALL_S if part or keep >= read else keep / count
        windows += [Window(take, start, each, held_s[take], keep_each) for start in starts]
    return windows
