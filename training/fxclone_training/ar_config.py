"""The shape of an ``ar`` model: what it sees of its past, and how long it remembers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fxclone.errors import UsageError
from fxclone_training import kernels

LONGEST_WINDOW = 4_096
"""Samples that taps and blocks may reach back."""
ATTACK = 0.1
"""Envelopes rise in this share of the time in which they fall: what follows the level turns down sooner than up."""
FASTEST_ATTACK = 2.0
"""In samples."""


@dataclass(frozen=True)
class ArConfig:
    """Shape of an ``ar`` model.

    Attributes
    ----------
    m : int
        Inputs seen, the newest included; m-1 past outputs unless `past_outputs` says otherwise. 1 to 4096.
    past_outputs : int or None
        Past outputs seen; None for m-1.
    layers, width : int
        Hidden layers and units in each.
    activation : str
        ``tanh``, ``relu`` or ``gelu``.
    skip : bool
        A linear path from both windows to the output.
    averages, envelopes : tuple of float
        Time constants, in samples, of leaky averages of x and y; and of |x| and |y| while these fall.
    past_averages : tuple of float or None
        Those of averages of y, if they are not those of x.
    hears_taps : bool
        If False, past outputs are carried for envelopes and averages alone: the weights of their taps stay zero.
    attack : float
        Envelopes rise in this share of the time in which they fall, but not faster than in `FASTEST_ATTACK` samples. 1
        and less; 1 for leaky averages.
    blocks, past_blocks : tuple of int
        Lengths of the blocks behind the taps of x, and of y, that are seen as averages (`fxclone_training.pyramid`);
        in place of averages and envelopes.
    """

    m: int = 64
    past_outputs: int | None = None
    layers: int = 1
    width: int = 24
    activation: str = "tanh"
    skip: bool = True
    averages: tuple[float, ...] = ()
    envelopes: tuple[float, ...] = ()
    attack: float = ATTACK
    blocks: tuple[int, ...] = ()
    past_blocks: tuple[int, ...] = ()
    past_averages: tuple[float, ...] | None = None
    hears_taps: bool = True

    def __post_init__(self) -> None:
        for name, constants in (
            ("averages", self.averages), ("past_averages", self.averages_y), ("envelopes", self.envelopes)
        ):  # fmt: skip
            if not all(1 < constant <= 1e7 for constant in constants) or len(constants) > 64:
                raise UsageError(f"ar model: {name} are {constants}; expected at most 64 of 1 to 1e7 samples")
        if (self.slow or self.slow_y) and self.taps_y == 0:
            raise UsageError("ar model: averages and envelopes need at least one past output")
        if not self.hears_taps and not self.slow_y:
            raise UsageError("ar model: hears_taps is false, and it hears no averages or envelopes of y; expected some")
        if self.envelopes and self.taps_y < kernels.ENVELOPES_LATE:
            raise UsageError(f"ar model: envelopes need at least {kernels.ENVELOPES_LATE} past outputs")
        if not 0 < self.attack <= 1:
            raise UsageError(f"ar model: attack is {self.attack}; expected a share of the release, up to 1")
        for name, value, low, high in (
            ("m", self.m, 1, LONGEST_WINDOW),
            ("past_outputs", self.taps_y, 0, LONGEST_WINDOW),
            ("layers", self.layers, 1, 16),
            ("width", self.width, 1, 1024),
        ):
            if not low <= value <= high:
                raise UsageError(f"ar model: {name} is {value}; expected {low} to {high}")
        if (self.blocks or self.past_blocks) and (self.slow or self.slow_y or self.taps_y == 0):
            raise UsageError("ar model: blocks need at least one past output, and no averages or envelopes beside them")
        if min((1, *self.blocks, *self.past_blocks)) < 1 or max(self.reach, self.past_reach) > LONGEST_WINDOW:
            raise UsageError(
                f"ar model: blocks are {self.blocks} and {self.past_blocks}; expected lengths of 1 and more, "
                f"{LONGEST_WINDOW} samples in all"
            )
        if self.activation not in kernels.ACTIVATIONS:
            raise UsageError(
                f"ar model: activation is {self.activation!r}; expected one of {', '.join(kernels.ACTIVATIONS)}"
            )

    @property
    def taps_y(self) -> int:
        """Past outputs seen."""
        return self.m - 1 if self.past_outputs is None else self.past_outputs

    @property
    def averages_y(self) -> tuple[float, ...]:
        """Time constants of averages of y."""
        return self.averages if self.past_averages is None else self.past_averages

    @property
    def slow(self) -> int:
        """Averages and envelopes of x."""
        return len(self.averages) + len(self.envelopes)

    @property
    def slow_y(self) -> int:
        """Averages and envelopes of y."""
        return len(self.averages_y) + len(self.envelopes)

    @property
    def reach(self) -> int:
        """Inputs that it sees, one by one or in blocks."""
        return self.m + sum(self.blocks)

    @property
    def past_reach(self) -> int:
        """Past outputs that it sees, one by one or in blocks."""
        return self.taps_y + sum(self.past_blocks)

    @property
    def seen_x(self) -> int:
        """Numbers that the model sees of the input: taps, then averages, then envelopes; or taps, then blocks."""
        return self.m + self.slow + len(self.blocks)

    @property
    def seen_y(self) -> int:
        """Numbers that it sees of its past outputs."""
        return self.taps_y + self.slow_y + len(self.past_blocks)

    def rates(self) -> npt.NDArray[np.float32]:
        """How far each average and envelope of x moves towards it in one sample: (slow, 2), rising and falling."""
        return self._rates(self.averages)

    def rates_y(self) -> npt.NDArray[np.float32]:
        """Those of y: (slow_y, 2)."""
        return self._rates(self.averages_y)

    def _rates(self, averages: tuple[float, ...]) -> npt.NDArray[np.float32]:
        falling = np.array([*averages, *self.envelopes], dtype=np.float64)
        attacks = [min(constant, max(self.attack * constant, FASTEST_ATTACK)) for constant in self.envelopes]
        constants = np.stack([[*averages, *attacks], falling], axis=1)
        # One minus a float32, so that keep + rate is 1 in float32 too: else a slow average has a gain of its own.
        rates: npt.NDArray[np.float32] = np.float32(1) - np.exp(-1 / constants).astype(np.float32)
        return rates
