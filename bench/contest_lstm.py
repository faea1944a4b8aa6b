"""A contestant: the plain LSTM-32 of the literature, in torch (Wright et al. 2019 and 2020, and their public code).

One input sample, LSTM of 32 units, linear output, the input added. Their configuration of that size: segments of
22,050 samples, shuffled, 50 to a batch; after 200 samples without a step, a step of Adam every 1,000 samples, the state
carried on and cut off there; rate 0.005, halved when 5 validations brought nothing, weight decay 1e-4; loss 0.75 ESR +
0.25 DC without pre-emphasis; validation every second epoch. Their stop after 25 bad validations is left out.
"""

from __future__ import annotations

import json
import time

BEGAN = time.perf_counter()

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from contest_child import Job, Training, read_job  # noqa: E402

UNITS, SEGMENT, BATCH = 32, 22_050, 50
INIT_SAMPLES, STEP_SAMPLES = 200, 1000
RATE, DECAY = 0.005, 1e-4
CHUNK = 65_536
State = tuple[torch.Tensor, torch.Tensor]


class Lstm(torch.nn.Module):
    """(samples, batch, 1) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.rec = torch.nn.LSTM(1, UNITS)
        self.lin = torch.nn.Linear(UNITS, 1)

    def forward(self, x: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Output and state."""
        hidden, state = self.rec(x, state)
        return self.lin(hidden) + x, state


def loss_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """0.75 ESR + 0.25 DC, both over the energy of the batch."""
    energy = (target**2).mean() + 1e-5
    dc = ((target.mean(0) - output.mean(0)) ** 2).mean()
    return 0.75 * ((target - output) ** 2).mean() / energy + 0.25 * dc / energy


class Contender:
    """What `contest_child.Training` looks at."""

    def __init__(self, job: Job, model: Lstm) -> None:
        self.job, self.model = job, model

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        self.model.load_state_dict(weights)

    def held_error(self) -> float:
        with torch.no_grad():
            found = torch.from_numpy(self._run(self.job.held_dry)).reshape(-1, 1, 1)
            return float(loss_of(found, torch.from_numpy(self.job.held_wet).reshape(-1, 1, 1)))

    def predict(self) -> np.ndarray:
        return self._run(self.job.test_dry)

    def export(self, folder: Path) -> None:
        arrays = {name: value.numpy() for name, value in self.model.state_dict().items()}
        np.savez(folder / "weights.npz", **arrays)

    def _run(self, dry: np.ndarray) -> np.ndarray:
        """The whole sound in one run, its state carried from chunk to chunk."""
        state: State | None = None
        parts = []
        with torch.no_grad():
            for part in torch.from_numpy(dry).split(CHUNK):
                out, state = self.model(part.reshape(-1, 1, 1), state)
                parts.append(out.reshape(-1).numpy())
        return np.concatenate(parts)


def main() -> None:
    job = read_job()
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(job.seed)
    segments = len(job.train_dry) // SEGMENT
    dry, wet = (
        torch.from_numpy(sound[: segments * SEGMENT]).reshape(segments, SEGMENT, 1).transpose(0, 1).contiguous()
        for sound in (job.train_dry, job.train_wet)
    )  # (samples, segments, 1)
    model = Lstm()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=DECAY)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, "min", factor=0.5, patience=5)
    about = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "settings": {"batch": BATCH, "segment": SEGMENT, "init": INIT_SAMPLES, "every": STEP_SAMPLES, "lr": RATE},
        "versions": {"torch": torch.__version__},
    }
    contender = Contender(job, model)
    training = Training(job, contender, about, BEGAN)
    training.begin()
    epoch = 0
    while not training.done:
        epoch += 1
        for chosen in torch.randperm(segments).split(BATCH):
            if run_batch(model, optimiser, training, dry[:, chosen], wet[:, chosen]):
                break
        if epoch % 2 == 0 and not training.done:
            error = contender.held_error()
            scheduler.step(error)
            training.judged(error)
    print(json.dumps({"epochs": epoch, "steps": training.steps}))


def run_batch(
    model: Lstm, optimiser: torch.optim.Optimizer, training: Training, dry: torch.Tensor, wet: torch.Tensor
) -> bool:
    """One pass over a batch of segments, with a step every 1,000 samples; True when the last budget is spent."""
    _, state = model(dry[:INIT_SAMPLES])
    for start in range(INIT_SAMPLES, SEGMENT, STEP_SAMPLES):
        place = slice(start, start + STEP_SAMPLES)
        output, state = model(dry[place], state)
        optimiser.zero_grad()
        loss_of(output, wet[place]).backward()
        optimiser.step()
        state = (state[0].detach(), state[1].detach())
        if training.stepped():
            return True
    return False


if __name__ == "__main__":
    main()
