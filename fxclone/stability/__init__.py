"""Stability at run time: a processor around another one that notices when it misbehaves, and steps in.

Pure numpy, without devices and without any clock but counted samples, so that it guards playing and rendering alike.
"""

from fxclone.stability.monitor import StabilityMonitor
from fxclone.stability.trips import MonitorStatus, Trip

__all__ = ["MonitorStatus", "StabilityMonitor", "Trip"]
