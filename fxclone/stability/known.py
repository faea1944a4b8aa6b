"""What is known beforehand of a processor that is to be watched: what training saw, and what export measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fxclone.processor import Chain, Processor
from fxclone.resampled import Resampled

REWARM_S = 0.1
"""Past input that a fresh processor hears before it is heard again, if it is not known to forget sooner."""
SHORTEST_REWARM_S = 0.005
LARGEST_REST = 10 ** (-40 / 20)
"""A hum in silence louder than this is a fault, even one that the clone had when it was exported."""
EXCUSABLE = frozenset({"DC", "output goes on in silence", "oscillation near Nyquist", "limit cycle"})
"""What an effect may do all the time and mean it. Too loud, or not a number, is never meant."""


@dataclass(frozen=True)
class Known:
    """Linear levels, full scale = 1; times in seconds. None where nothing is known."""

    dry_peak: float | None = None
    wet_peak: float | None = None
    wet_dc: float = 0.0
    rest_peak: float = 0.0
    """What goes on sounding in silence although nothing is wrong: hum or hiss that the clone has learnt."""
    memory_s: float | None = None
    """After so long a disturbed state is as if nothing had been."""
    usual: frozenset[str] = frozenset()
    """Faults that the original has itself, such as a ring modulator whose carrier lies near Nyquist: no alarm then."""

    @property
    def rewarm_s(self) -> float:
        """How much past input to hear before being heard."""
        return REWARM_S if self.memory_s is None else min(REWARM_S, max(SHORTEST_REWARM_S, self.memory_s))

    @property
    def gain(self) -> float:
        """Largest output over largest input, at least 1."""
        if self.dry_peak is None or self.wet_peak is None:
            return 1.0
        return max(1.0, self.wet_peak / max(1e-3, self.dry_peak))


def known_of(processor: Processor, levels: Mapping[str, float] | None) -> Known:
    """Collect what can be known.

    Parameters
    ----------
    processor : Processor
        Certificates are believed only if it is made of clones and nothing else but plain gains (a part with
        ``plain_gain``); levels found in them too.
    levels : mapping or None
        ``dry_peak``, ``wet_peak``, ``wet_dc``: take the place of those found.
    """
    parts = [part for part in parts_of(processor) if not getattr(part, "plain_gain", False)]
    metas: list[Any] = [getattr(part, "meta", None) for part in parts]
    clones = [] if None in metas else metas
    found: dict[str, float] = {}
    if levels is None and clones:
        sides = (("dry_peak", clones[0]), ("wet_peak", clones[-1]), ("wet_dc", clones[-1]))
        found = {key: meta.levels[key] for key, meta in sides if key in meta.levels}
    numbers = {key: float(value) for key, value in dict(levels or found).items() if math.isfinite(value)}
    memories = [_memory_s(meta) for meta in clones]
    rests = [float(rest) for meta in clones if isinstance(rest := meta.certificate.get("rest_peak"), int | float)]
    usual = {what for meta in clones for what in _texts(meta.certificate.get("usual"))}
    return Known(
        dry_peak=numbers.get("dry_peak"),
        wet_peak=numbers.get("wet_peak"),
        wet_dc=abs(numbers.get("wet_dc", 0.0)),
        rest_peak=min(LARGEST_REST, max(rests, default=0.0)),
        memory_s=None if not memories or None in memories else sum(each for each in memories if each is not None),
        usual=frozenset(usual & EXCUSABLE),
    )


def parts_of(processor: Processor) -> Iterator[Processor]:
    """Everything in a chain that is neither a chain nor a resampler, in order."""
    if isinstance(processor, Chain):
        for link in processor.processors:
            yield from parts_of(link)
    elif isinstance(processor, Resampled):
        yield from parts_of(processor.inner)
    else:
        yield processor


def has_feedback(certificate: Mapping[str, Any]) -> bool:
    """Whether a certificate says that the clone hears its own output; one that says nothing says no."""
    return "small_gain" in certificate and certificate["small_gain"] != 0


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _memory_s(meta: Any) -> float | None:
    """How long a clone remembers: what it sees directly, and how long its feedback goes on."""
    certificate, direct_s = meta.certificate, meta.receptive_field_samples / meta.sample_rate
    if not certificate:
        return None
    if not has_feedback(certificate):
        return float(direct_s)
    returned = certificate.get("return_ms")
    return float(direct_s + 1e-3 * returned) if isinstance(returned, int | float) else None
