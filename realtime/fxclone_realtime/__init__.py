"""Playing live: devices, the engine, the stability monitor."""
