"""Images attacked by torchattacks in an environment of its own; see `torchattacks_worker`.

    python -m benchmarks.torchattacks_images '{"given": "given.npz", "found": "found.npz", ...}'

reads weights, images and labels from `given` and writes each attack's images to `found`.
"""

import json
import sys

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.threats import Threat, repeats
from benchmarks.torchattacks_worker import build
from jsigr_lib.networks import models


def main(
    *, given: str, found: str, network: dict, threats: list[dict], batch: int, seed: int, device: str, threads: int
) -> int:
    torch.set_num_threads(threads)
    held = {name: torch.from_numpy(array).to(device) for name, array in np.load(given, allow_pickle=False).items()}
    x, y = (held.pop(name) for name in ("x", "y"))
    model = models.build(**network).to(device)
    model.load_state_dict(held)
    model.eval().requires_grad_(False)
    images = {}
    for threat in (Threat(**settings) for settings in threats):
        torch.manual_seed(seed)
        parts = [*zip(x.split(batch), y.split(batch), strict=True)] * repeats(threat)
        images[threat.name] = torch.cat([attacked(threat, model, *part).cpu() for part in parts]).numpy()
    np.savez(found, **images)
    return len(images)


class FirstChannel(nn.Module):
    """A network of grey images that is given three channels."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x[:, :1])


def attacked(threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if threat.translation and x.shape[1] == 1:  # its smoothing takes three channels only
        return build(threat, FirstChannel(model))(x.expand(-1, 3, -1, -1), y)[:, :1]
    return build(threat, model)(x, y)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
