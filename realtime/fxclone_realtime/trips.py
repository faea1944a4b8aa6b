"""What the stability monitor has to tell; it lives in `fxclone.stability`, where rendering can reach it too."""

from fxclone.stability.trips import MOST_TRIPS, MonitorStatus, Trip

__all__ = ["MOST_TRIPS", "MonitorStatus", "Trip"]
