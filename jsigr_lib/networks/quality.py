"""A no-reference quality model: a small network that scores a crop of a photograph, and its training as artefacts.

A plain network learns first; every objective then goes on from it for a few epochs, the plain one too, so that all have
had as many steps. Which strength an objective has is chosen on the validation pictures, by one rule (`Choice`)."""

from typing import ClassVar, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.data.photographs import Crops, Photographs, load
from jsigr_lib.measure.statistics import rank_correlation
from jsigr_lib.method import norm_regularisation
from jsigr_lib.method.attack_loop import Settings, ascend
from jsigr_lib.method.shapes import Float, Images
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec

WIDTHS = (32, 48, 64)
BATCH = 256  # crops of a pass without training
FLOPS = 5e7  # of one crop, forwards and backwards
LOSS = 0.03  # of clean rank correlation on validation pictures, that a choice may have at most


class QualityNet(nn.Module):
    """Crops [n, 3, 64, 64] in [0, 1] -> scores [n]. Local means are taken away first, as quality is in the detail; what
    is left passes three 3 x 3 convolutions on a half, a quarter and an eighth of the resolution, whose mean and maximum
    over places make the score."""

    def __init__(self):
        super().__init__()
        first, second, third = WIDTHS
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(12, first, 3, padding=1),
                nn.Conv2d(first, second, 3, stride=2, padding=1),
                nn.Conv2d(second, third, 3, stride=2, padding=1),
            ]
        )
        self.hidden, self.score = nn.Linear(2 * third, 32), nn.Linear(32, 1)

    def forward(self, x: Images) -> Float[Tensor, " batch"]:
        detail = x - F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
        h = F.pixel_unshuffle(4 * detail, 2)
        for convolution in self.convolutions:
            h = F.relu(convolution(h))
        h = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return self.score(F.relu(self.hidden(h)))[:, 0]


def untrained(seed: int) -> QualityNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QualityNet()


class Quality(Spec):
    """One network and one seed. `start` is the network that it goes on from."""

    kind: ClassVar[str] = "quality"
    finite: ClassVar[bool] = True
    data: Photographs
    objective: str
    strength: float = 0.0
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    start: Optional["Quality"] = None

    def needs(self) -> list[Spec]:
        return [self.data] if self.start is None else [self.data, self.start]

    def uses(self) -> list:
        return [norm_regularisation.OBJECTIVES[self.objective]]

    def work(self) -> float:
        passes = 1 if self.objective == "plain" else 3
        return FLOPS * passes * self.epochs * self.data.pictures("train") * self.data.crops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = untrained(self.seed).to(device)
        if self.start is not None:
            model.load_state_dict(store.get(self.start).tensors)
        crops = load(self.data, store, "train")
        settings = self.model_dump(include={"strength", "epochs", "batch_size", "learning_rate", "seed"})
        losses = fit(model, norm_regularisation.OBJECTIVES[self.objective], crops, **settings)
        return dict(model.state_dict()), {"losses": losses}


def fit(
    model: nn.Module,
    objective: norm_regularisation.Objective,
    crops: Crops,
    *,
    strength: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Train `model` in place with AdamW and one cycle of the learning rate, each crop `turned` at random. Returns the
    mean loss of each epoch."""
    device = next(model.parameters()).device
    images, labels = crops.images.flatten(0, 2), crops.labels.flatten()
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(labels) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1, pct_start=0.1)
    model.train()
    losses = []
    for _ in range(epochs):
        total = 0.0
        for index in torch.randperm(len(labels), generator=generator).split(batch_size):
            x = turned(images[index].to(device).float() / 255, generator)
            loss = objective(model, x, labels[index].to(device), strength)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item() * len(index)
        losses.append(total / len(labels))
    return losses


def turned(x: Images, generator: torch.Generator) -> Images:
    """Each crop in one of the eight ways to lay a square, at random: HaarPSI knows no left, top or diagonal."""
    for other in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.transpose(2, 3)):
        coins = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)[:, None, None, None]
        x = torch.where(coins, other(x), x)
    return x


class Choice(Spec):
    """Which of several networks, that differ in strength alone, the validation pictures choose: of those that lose at
    most LOSS of the plain one's clean rank correlation, the one whose scores move least under FGSM at `level`; if all
    lose more, the one that loses least."""

    kind: ClassVar[str] = "quality_choice"
    plain: Quality
    candidates: tuple[Quality, ...]
    level: float

    def needs(self) -> list[Spec]:
        return [self.plain.data, self.plain, *self.candidates]

    def work(self) -> float:
        return 2 * FLOPS * (1 + len(self.candidates)) * self.plain.data.pictures("validation") * self.plain.data.crops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        found = [_judge(one, store, self.level) for one in (self.plain, *self.candidates)]
        clean, moved = (torch.tensor(values, dtype=torch.float64) for values in zip(*found, strict=True))
        fits = clean[1:] >= clean[0] - LOSS
        chosen = torch.where(fits, moved[1:], torch.inf).argmin() if fits.any() else clean[1:].argmax()
        return {"correlation": clean, "moved": moved, "chosen": chosen}, {}


def _judge(spec: Quality, store: Store, level: float) -> tuple[float, float]:
    """The rank correlation of validation pictures' clean scores with their labels, and how far FGSM moves a score."""
    model, crops = network_of(spec, store), load(spec.data, store, "validation")
    x = crops.pixels(store.device)
    clean = scores(model, x)
    moved = scores(model, attack(model, x, level, steps=1, middle=middle(spec.data, store))) - clean
    labels = crops.labels.mean(2).flatten()
    return rank_correlation(clean.numpy()[None], labels.numpy()[None]).item(), moved.abs().mean().item()


class Chosen(Spec):
    """The network of a seed, with the strength that the choice names."""

    kind: ClassVar[str] = "quality_chosen"
    finite: ClassVar[bool] = True
    choice: Choice
    seed: int
    start: Quality

    def needs(self) -> list[Spec]:
        return [self.choice, self.choice.plain.data, self.start, *self.choice.candidates]

    def work(self) -> float:
        return self.choice.candidates[0].work()

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        picked = self.choice.candidates[int(store.get(self.choice).tensors["chosen"])]
        own = picked.model_copy(update={"seed": self.seed, "start": self.start})
        if own == picked:
            return store.get(picked).tensors, {"strength": picked.strength}
        tensors, facts = own.compute(store, device)
        return tensors, {**facts, "strength": picked.strength}


def network_of(spec: Quality | Chosen, store: Store) -> QualityNet:
    """The trained network, on the store's device, its parameters frozen."""
    model = QualityNet()
    model.load_state_dict(store.get(spec).tensors)
    return model.to(store.device).eval().requires_grad_(False)


def scores(model: nn.Module, x: Tensor) -> Float[Tensor, " pictures"]:
    """The score of each picture, the mean of its crops' [pictures, crops, 3, H, W]; on the CPU."""
    with torch.no_grad():
        flat = torch.cat([model(part) for part in x.flatten(0, 1).split(BATCH)])
    return flat.view(x.shape[:2]).mean(1).cpu()


def slopes(model: nn.Module, x: Tensor) -> Float[Tensor, " pictures"]:
    """||g||_1 of each picture's score per level of change, the mean over its crops: eps times it is how far the score
    moves in the ball, to first order; on the CPU."""
    found = []
    for part in x.flatten(0, 1).split(BATCH):
        part = part.detach().requires_grad_()
        (g,) = torch.autograd.grad(model(part).sum(), part)
        found.append(g.abs().sum((1, 2, 3)))
    return torch.cat(found).view(x.shape[:2]).mean(1).cpu()


def middle(data: Photographs, store: Store) -> float:
    """The middle of the scale, away from which no attack pushes: the mean label of the training pictures."""
    return load(data, store, "train").labels.mean().item()


def attack(model: nn.Module, x: Tensor, level: float, *, steps: int, middle: float) -> Tensor:
    """The pictures' crops [pictures, crops, 3, H, W], each changed by at most `level` of 255: the scores of pictures
    above the middle are pushed down, those of the others up, as in the authors' demo. One step reaches the edge of the
    ball (FGSM); several are PGD's, of 2.5 eps / steps, from the image itself."""
    eps, crops = level / 255, x.shape[1]
    sign = torch.where(scores(model, x) > middle, -1.0, 1.0).to(x.device).repeat_interleave(crops)
    settings = Settings(eps=eps, steps=steps, step_size=eps if steps == 1 else 2.5 * eps / steps)
    made = []
    for part, way in zip(x.flatten(0, 1).split(BATCH), sign.split(BATCH), strict=True):

        def pushed(z: Tensor, _: Tensor, way: Tensor = way) -> Tensor:
            return way * z[:, 0]

        unlabelled = torch.zeros(len(part), dtype=torch.int64, device=x.device)
        made.append(ascend(lambda seen: model(seen)[:, None], part, unlabelled, settings, loss=pushed))
    return torch.cat(made).view_as(x)
