"""A training loop of one's own, in plain PyTorch: as a job, or with no platform at all.

    python train.py                              # alone; checkpoints go to ./steelyard-run
    steelyard submit job.yaml                    # as a job

It may be killed at any line. The next start goes on from the newest checkpoint to the same weights.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from steelyard import runtime


def main() -> None:
    """Learn to tell which of two spirals a point lies on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    options = parser.parse_args()

    context = runtime.init()
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    done = resume(context.checkpoint.latest(), model, optimizer)
    if done:
        print(f"going on after step {done}")

    def write_checkpoint(folder: Path) -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": context.step}
        torch.save(state, folder / "state.pt")

    for step in range(done + 1, options.steps + 1):
        points, labels = batch(step)
        loss = nn.functional.binary_cross_entropy_with_logits(model(points)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        context.report(step=step, total_steps=options.steps, loss=loss.item())
        if context.leave_after(step, write_checkpoint):
            print(f"asked to leave: saved step {step}")
            return

    folder = context.save_model(lambda into: save_file(model.state_dict(), into / "model.safetensors"))
    print(f"done: the model is in {folder}")


def resume(folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint; return the step it was made after, 0 where there is none."""
    if folder is None:
        return 0
    state = torch.load(folder / "state.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def batch(step: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points of both spirals. The step is the seed, so resuming needs no state of a generator."""
    draw = torch.Generator().manual_seed(step)
    labels = torch.randint(0, 2, (size,), generator=draw).float()
    turn = torch.rand(size, generator=draw) * 6.0
    angle = turn + labels * torch.pi
    points = torch.stack([turn * angle.cos(), turn * angle.sin()], dim=1) / 6.0
    return points, labels


if __name__ == "__main__":
    main()
