"""Family ``tail``: long impulse responses, alone, after a nonlinear front, or beside it.

    y = direct * x  +  after * front(x)  +  delay lines

``*`` is convolution, from every input channel to every output channel; ``front`` is an `Ar` model or a `Curve` that
each channel goes through by itself. Reverbs and cabinets need ``direct`` alone; an amp into a cabinet needs ``after``;
a pedal with a clean path beside the driven one needs both. Echoes that feed back are delay lines, where responses would
be far too long. All are found by least squares and second-order steps (`tail_identify`, `tail_front`, `tail_drive`,
`tail_delay`), not by gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from scipy.signal import oaconvolve
from torch import Tensor

from fxclone.audio import Audio
from fxclone.errors import UsageError
from fxclone_export.delay_line import DelayLines, feedback_delay
from fxclone_export.graph import StreamingGraph
from fxclone_export.partitioned import convolve
from fxclone_training.ar import Ar
from fxclone_training.certificate import NO_FEEDBACK, tail_samples
from fxclone_training.curve import Curve
from fxclone_training.tail_delay import DelayLine, largest_gain, run_line

Responses = npt.NDArray[np.float32]
"""Impulse responses [shape=(channels out, channels in, taps)]."""


Front = Ar | Curve
"""What a channel may go through before its responses."""
_FRONTS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], Front]] = {"ar": Ar.restored, "curve": Curve.restored}


class Tail:
    """Long impulse responses, with a nonlinear front or without.

    Parameters
    ----------
    direct : ndarray [shape=(channels out, channels in, taps)] or None
        Responses to the dry sound.
    front : Front or None
        What each input channel goes through before ``after``.
    after : ndarray [shape=(channels out, channels in, taps)] or None
        Responses to what ``front`` makes of the dry sound.
    lines : sequence of DelayLine
        Echoes of the dry sound; each line's channels are heard in the output channels of the same number.
    """

    family = "tail"

    def __init__(
        self,
        direct: Responses | None = None,
        front: Front | None = None,
        after: Responses | None = None,
        lines: Sequence[DelayLine] = (),
    ) -> None:
        if (front is None) != (after is None) or (direct is None and after is None):
            raise UsageError("a tail model needs responses to the dry sound, or a front and responses to that, or both")
        self.direct, self.front, self.after, self.lines = direct, front, after, tuple(lines)

    @property
    def _parts(self) -> list[Responses]:
        return [part for part in (self.direct, self.after) if part is not None]

    @property
    def channels_in(self) -> int:
        """Channels of the dry sound."""
        return int(self._parts[0].shape[1])

    @property
    def channels_out(self) -> int:
        """Channels of the wet sound."""
        return int(self._parts[0].shape[0])

    @property
    def taps(self) -> int:
        """Length of the longest response."""
        return max(int(part.shape[2]) for part in self._parts)

    @property
    def parameter_count(self) -> int:
        """Every tap, and the weights of the front."""
        filters = [*self._parts, *(part for line in self.lines for part in (line.feed, line.loop))]
        return sum(part.size for part in filters) + (self.front.parameter_count if self.front else 0)

    @property
    def work_per_sample(self) -> int:
        """Convolution by FFT is cheap; the front costs what it costs, once for each channel."""
        return 500 + (self.front.work_per_sample * self.channels_in if self.front else 0)

    @property
    def receptive_field_samples(self) -> int:
        """The responses, after the window of the front."""
        return self.taps + (self.front.receptive_field_samples - 1 if self.front else 0)

    def run_freely(self, dry: Audio) -> Audio:
        """Run from a fresh state: ``(channels_in, n)`` to ``(channels_out, n)``."""
        out = np.zeros((self.channels_out, dry.shape[1]), np.float64)
        if self.direct is not None:
            out += convolved(dry, self.direct)
        if self.front is not None and self.after is not None:
            out += convolved(self.driven(dry), self.after)
        for line in self.lines:
            out += run_line(line, dry)
        return out.astype(np.float32)

    def driven(self, dry: Audio) -> Audio:
        """What the front makes of each channel."""
        if self.front is None:
            return dry
        return np.concatenate([self.front.run_freely(channel[None]) for channel in dry])

    def is_sturdy(self, dry: Audio) -> bool:
        """Responses cannot add up rounding, and lines have gains below 1; a front with feedback can."""
        return self.front is None or all(self.front.is_sturdy(channel[None]) for channel in dry)

    def copy(self) -> Tail:
        """An independent copy."""
        return Tail(
            None if self.direct is None else self.direct.copy(),
            None if self.front is None else self.front.copy(),
            None if self.after is None else self.after.copy(),
            self.lines,
        )

    def graphs(self, loudest: float) -> Iterator[onnx.ModelProto]:
        """The front folded if it folds, then in its general form; the responses as partitioned convolutions."""
        for fold in (True, False) if self.front is not None and self.front.folds else (False,):
            graph = StreamingGraph(self.channels_in)
            parts = []
            if self.direct is not None:
                parts.append(convolve(graph, "audio", self.direct, name="direct"))
            if self.front is not None and self.after is not None:
                lanes = []
                for channel in range(self.channels_in):
                    lane = "audio" if self.channels_in == 1 else graph.slice("audio", channel, channel + 1, 0)
                    prefix = "" if self.channels_in == 1 else f"{channel}."
                    lanes.append(self.front.add_to(graph, lane, loudest=loudest, fold=fold, prefix=prefix))
                driven = lanes[0] if len(lanes) == 1 else graph.op("Concat", *lanes, axis=0)
                parts.append(convolve(graph, driven, self.after, name="after"))
            if self.lines:
                ears = np.eye(self.channels_out)
                delays = [DelayLines(line.delay_samples, line.feed, line.loop, ears) for line in self.lines]
                parts.append(feedback_delay(graph, "audio", delays))
            graph.output(parts[0] if len(parts) == 1 else graph.op("Sum", *parts), self.channels_out)
            yield graph.model()

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """Figures of the front, and of the lines' loops; the tail is that of the whole."""
        longest_s = 5.0 + self.receptive_field_samples / sample_rate
        longest_s += 60.0 if self.lines else 0.0
        figures = {"tail_samples": tail_samples(self, sample_rate, longest_s=longest_s)}
        if self.front is None:
            return NO_FEEDBACK | figures
        return self.front.certify(dry[:1], sample_rate) | figures

    def facts(self) -> dict[str, Any]:
        """Its shape, JSON-safe."""
        return {
            "channels_in": self.channels_in,
            "channels_out": self.channels_out,
            "direct_taps": 0 if self.direct is None else self.direct.shape[2],
            "after_taps": 0 if self.after is None else self.after.shape[2],
            "lines": [
                {"delay_samples": line.delay_samples, "loop_gain": largest_gain(line.loop)} for line in self.lines
            ],
            "front": None if self.front is None else self.front.facts(),
        }

    def describe(self) -> str:
        """Its shape in a few words."""
        words = {(1, 1): "mono", (1, 2): "mono to stereo", (2, 2): "stereo"}
        shape = words.get((self.channels_in, self.channels_out), f"{self.channels_in} to {self.channels_out} channels")
        text = f"{shape}, responses of {self.taps} samples"
        if self.lines:
            text += f", echoes every {', '.join(str(line.delay_samples) for line in self.lines)} samples"
        return f"{text}, front: {self.front.describe()}" if self.front else text

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and weights, for the run folder."""
        tensors = {
            name: torch.from_numpy(part.copy())
            for name, part in (("direct", self.direct), ("after", self.after))
            if part is not None
        }
        for place, line in enumerate(self.lines):
            tensors[f"line.{place}.feed"] = torch.from_numpy(line.feed.copy())
            tensors[f"line.{place}.loop"] = torch.from_numpy(line.loop.copy())
        about: dict[str, Any] = {"front": None, "delays_samples": [line.delay_samples for line in self.lines]}
        if self.front is not None:
            about["front"], weights = self.front.stored()
            about["front_family"] = self.front.family
            tensors |= {f"front.{name}": value for name, value in weights.items()}
        return about, tensors

    @staticmethod
    def restored(shape: dict[str, Any], weights: dict[str, Tensor]) -> Tail:
        """The model that `stored` wrote.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If shape and weights do not fit each other.
        """
        own = {name: weights[name].numpy() for name in ("direct", "after") if name in weights}
        front: Front | None = None
        if shape["front"] is not None:
            inner = {name.removeprefix("front."): value for name, value in weights.items() if name.startswith("front.")}
            front = _FRONTS[shape["front_family"]](shape["front"], inner)
        lines = [
            DelayLine(int(delay), weights[f"line.{place}.feed"].numpy(), weights[f"line.{place}.loop"].numpy())
            for place, delay in enumerate(shape["delays_samples"])
        ]
        if any(part.ndim != 3 for part in [*own.values(), *(line.feed for line in lines)]):
            raise ValueError("responses are not of shape (channels out, channels in, taps)")
        return Tail(own.get("direct"), front, own.get("after"), lines)


def convolved(sound: Audio, responses: Responses) -> npt.NDArray[np.float64]:
    """Each output channel: the sum over input channels of channel * response, as long as ``sound``."""
    out = np.zeros((responses.shape[0], sound.shape[1]))
    for to in range(responses.shape[0]):
        for source in range(responses.shape[1]):
            x, h = sound[source].astype(np.float64), responses[to, source].astype(np.float64)
            out[to] += oaconvolve(x, h)[: sound.shape[1]]
    return out
