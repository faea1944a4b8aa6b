"""The stability monitor of the live engine; it lives in `fxclone.stability`, where rendering can reach it too."""

from fxclone.stability.monitor import StabilityMonitor

__all__ = ["StabilityMonitor"]
