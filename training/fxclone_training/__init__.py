"""Training: model families, losses, feedback noise, stages, recipes."""

import os

# Threads that wait in a spin loop steal the cores that other programs need: on a busy machine training ran 3.5 times
# slower with them, on an idle one no faster. Read by OpenMP when torch is loaded, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
