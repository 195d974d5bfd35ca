"""One training loop for every defence: AdamW on mini-batches, whose state is saved after each epoch: killing it
loses at most the epoch in progress."""

import math
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.data.data import Split
from jsigr_lib.method import attacks
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import evaluation_mode, jacobian_norm
from jsigr_lib.store.tensor_files import read, write

MONITOR_IMAGES = 256  # validation images on which the Jacobian norm is followed, exactly
ATTACKED_IMAGES, ATTACK_STEPS = 100, 5  # of the white-box check after each epoch
ATTACK_EPS = {1: 0.1, 3: 8 / 255}  # its budget, for grey and for colour images


def fit(
    model: nn.Module,
    objective,
    train: Split,
    validation: Split,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    augment: bool = False,
    guide: Tensor | None = None,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place on `train`, on the device where it is. Returns one row per epoch: epoch, the means of the
    objective's terms, and what `monitor` tells of `validation`, which is never trained on.

    Args:
        objective: called as objective(model, x, y, guide, generator=...) -> loss, told its `progress` before each
            step; see `Objective`.
        learning_rate: the peak of one cosine cycle with a linear warm-up of a tenth.
        seed: decides order, augmentation and everything the objective draws.
        augment: random flips and 4-pixel shifts (colour images).
        guide: a teacher's selection [n, 1, H, W] or target gradient [n, C, H, W] for each training image, or None.
        checkpoint: file that keeps the state after each epoch; an existing one is continued.
    """
    device = next(model.parameters()).device
    train, guide = train.to(device), None if guide is None else guide.to(device)  # once, and not batch by batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    history = _resume(checkpoint, model, optimizer, generator) if checkpoint and checkpoint.exists() else []
    steps = math.ceil(len(train) / batch_size)
    for epoch in range(len(history), epochs):
        sums: dict[str, Tensor] = {}
        model.train()
        for step, index in enumerate(torch.randperm(len(train), generator=generator).split(batch_size)):
            objective.progress = (epoch * steps + step) / (epochs * steps)
            optimizer.param_groups[0]["lr"] = learning_rate * _cycle(objective.progress)
            x, y = train.batch(index, device)
            own = None if guide is None else guide[index.to(device)].to(x)
            if augment:
                x, own = _shift_and_flip(x, own, generator)
            optimizer.zero_grad(set_to_none=True)
            objective(model, x, y, own, generator=generator).backward()
            optimizer.step()
            for name, term in objective.terms.items():
                sums[name] = sums.get(name, 0) + term
        terms = {name: (total / steps).item() for name, total in sums.items()}
        history.append({"epoch": epoch + 1, **terms, **monitor(model, validation)})
        if checkpoint:
            _save(checkpoint, model, optimizer, generator, history)
    return history


def _cycle(progress: float) -> float:
    """Learning rate as a share of its peak: up in the first tenth, down along a cosine."""
    return progress / 0.1 if progress < 0.1 else (1 + math.cos(math.pi * (progress - 0.1) / 0.9)) / 2


def _shift_and_flip(x: Tensor, guide: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Shift each batch by up to 4 pixels and mirror each image with chance 1/2; a guide moves with its image."""
    joined = x if guide is None else torch.cat([x, guide], 1)
    height, width = x.shape[-2:]
    top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
    joined = F.pad(joined, (4, 4, 4, 4))[..., top : top + height, left : left + width]
    mirror = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)[:, None, None, None]
    joined, channels = torch.where(mirror, joined.flip(3), joined), x.shape[1]
    moved = joined[:, :channels].contiguous(memory_format=torch.channels_last)
    return moved, None if guide is None else joined[:, channels:]


def monitor(model: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy on the split; the exact Jacobian norm and the margin, mean z_y - max_{j != y} z_j, of its first images;
    and the accuracy that a short white-box attack leaves of the first few: an upper bound. Draws nothing at random."""
    device = next(model.parameters()).device
    with evaluation_mode(model), torch.no_grad():
        correct = (predict(model, split) == split.labels).double().mean().item()
        x, y = split.first(MONITOR_IMAGES).batch(slice(None), device)
        found = {
            "validation_accuracy": correct,
            "jacobian_norm": jacobian_norm(model, x, projections="exact").item(),
            "margin": -attacks.margin(model(x), y).mean().item(),
            "robust_accuracy": 0.0,  # of a network whose logits are no longer finite
        }
        x, y = x[:ATTACKED_IMAGES], y[:ATTACKED_IMAGES]
        with suppress(InputError):
            x_adv = attacks.bim(model, x, y, eps=ATTACK_EPS[x.shape[1]], steps=ATTACK_STEPS)
            found["robust_accuracy"] = (model(x_adv).argmax(1) == y).double().mean().item()
    return found


def predict(model: nn.Module, split: Split, batch_size: int = 1000) -> Tensor:
    """Predicted class of every image, int64 on the CPU."""
    device = next(model.parameters()).device
    with evaluation_mode(model), torch.no_grad():
        batches = (slice(i, i + batch_size) for i in range(0, len(split), batch_size))
        return torch.cat([model(split.batch(part, device)[0]).argmax(1).cpu() for part in batches])


def _save(checkpoint: Path, model, optimizer, generator, history) -> None:
    tensors = {f"model.{name}": value.cpu().contiguous() for name, value in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value.cpu().contiguous() for name, value in state.items()}
    tensors["generator"] = generator.get_state()
    write(checkpoint, tensors, {"history": history})


def _resume(checkpoint: Path, model, optimizer, generator) -> list[dict[str, float]]:
    """Continue from `checkpoint`. Returns the history so far."""
    artefact = read(checkpoint)
    tensors = artefact.tensors
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    state = optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            state["state"].setdefault(int(i), {})[key] = value
    optimizer.load_state_dict(state)
    generator.set_state(tensors["generator"])
    return artefact.facts["history"]
