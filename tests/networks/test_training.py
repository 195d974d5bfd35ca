from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.data.data import Split
from jsigr_lib.method.adversarial_training import OTJR, TRADES, AdversarialTraining
from jsigr_lib.method.defences import ScaleableInputGradient
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import jacobian_norm
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.networks import models, training
from jsigr_lib.networks.training import fit, monitor, predict

SIZE = 8
WATCHED = ("validation_accuracy", "jacobian_norm", "margin", "robust_accuracy")
SETTINGS = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "seed": 5}


def halves(count: int, seed: int) -> Split:
    """Noise, brighter on the left (class 0) or on the right (class 1)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 1, SIZE, SIZE), generator=generator)
    for image, label in zip(images, labels, strict=True):
        image[..., :4] += 120 * (1 - label)
        image[..., 4:] += 120 * label
    return Split(images.to(torch.uint8), labels)


TRAIN, VALIDATION = halves(90, 0), halves(40, 1)


def network(architecture: str = "mlp", seed: int = 0) -> nn.Sequential:
    return models.build(architecture, channels=1, size=SIZE, classes=2, mean=[0.4], std=[0.3], seed=seed, width=8)


def fitted(objective=None, *, architecture: str = "mlp", init: int = 0, train: Split = TRAIN, **changed):
    """A trained network and its history."""
    model = network(architecture, init)
    history = fit(model, objective or JSIGR(0.01, 0.1), train, VALIDATION, **{**SETTINGS, **changed})
    return model, history


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Recorder:
    """An objective that keeps what it is called with, and trains nothing."""

    def __init__(self):
        self.batches, self.modes, self.told, self.terms = [], [], [], {}

    def __call__(self, model, x, y, guide=None, *, generator=None):
        self.batches.append((x, y, guide))
        self.modes.append(model.training)
        self.told.append(getattr(self, "progress", None))
        return 0 * model(x).sum()


class Ending:
    """Ends like a killed process once no step is left."""

    left: int

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__call__(*args, **kwargs)


class Killed(Ending, JSIGR):
    def __init__(self, steps: int):
        super().__init__(0.01, 0.1)
        self.left = steps


class KilledAttack(Ending, AdversarialTraining):
    def __init__(self, left: int, **options):
        super().__init__(**options)
        self.left = left


# the loop


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        (JSIGR(0, 0), ["cross_entropy"]),
        (JSIGR(0.01, 0), ["cross_entropy", "jacobian"]),
        (JSIGR(0, 0.1, estimator="double-backprop"), ["cross_entropy", "selective"]),
        (JSIGR(0.01, 0.1), ["cross_entropy", "jacobian", "selective"]),
        (AdversarialTraining(0.1, steps=1), ["cross_entropy"]),
        (AdversarialTraining(0.1, steps=1, objective=JSIGR(0.01, 0.1)), ["cross_entropy", "jacobian", "selective"]),
        (ScaleableInputGradient(0.1), ["cross_entropy", "selective"]),
        (TRADES(0.1, steps=1), ["cross_entropy", "divergence"]),
        (OTJR(0.1, steps=1), ["cross_entropy", "transport", "jacobian"]),
    ],
)
def test_history_has_one_row_per_epoch(objective, terms):
    model, history = fitted(objective)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    for row in history:
        assert list(row) == ["epoch", *terms, *WATCHED]
        assert all(isinstance(value, float) and value >= 0 for name, value in row.items() if name != "epoch")
    assert {name: history[-1][name] for name in monitor(model, VALIDATION)} == monitor(model, VALIDATION)


def test_terms_are_means_over_the_epoch():
    """An objective that changes nothing and reports 1, 2, ... in its 6 steps."""
    recorder = Recorder()

    def counting(*args, **kwargs):
        counting.terms = {"count": torch.tensor(len(recorder.batches) + 1.0)}
        return recorder(*args, **kwargs)

    _, history = fitted(counting, epochs=2)
    assert [row["count"] for row in history] == [3.5, 9.5]


def test_easy_problem_is_learned():
    model, history = fitted(JSIGR(0, 0), epochs=4)
    losses = [row["cross_entropy"] for row in history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.2 * losses[0]
    assert history[-1]["validation_accuracy"] > 0.95
    assert (predict(model, VALIDATION) == VALIDATION.labels).double().mean() == history[-1]["validation_accuracy"]


def test_penalty_lowers_the_jacobian_norm():
    plain, penalised = (fitted(JSIGR(weight, 0, fraction=1.0))[1][-1]["jacobian_norm"] for weight in (0, 0.1))
    assert penalised < 0.8 * plain


@pytest.mark.parametrize("augment", [False, True])
def test_seed_decides_everything(augment):
    model, history = fitted(augment=augment)
    again, history_again = fitted(augment=augment)
    assert same(model, again)
    assert history == history_again
    assert not same(model, fitted(augment=augment, seed=6)[0])
    assert not same(model, fitted(augment=augment, init=1)[0])


def test_global_random_state_has_no_part():
    torch.manual_seed(1)
    first = fitted()[0]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert same(first, fitted()[0])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("change", [{"epochs": 2}, {"batch_size": 15}, {"learning_rate": 0.02}, {"augment": True}])
def test_every_setting_counts(change):
    assert not same(fitted()[0], fitted(**change)[0])


def test_validation_images_train_nothing():
    def trained(validation: Split) -> nn.Module:
        model = network()
        fit(model, JSIGR(0, 0), TRAIN, validation, **SETTINGS)
        return model

    assert same(trained(VALIDATION), trained(halves(7, 9)))


def test_every_image_once_per_epoch_in_another_order():
    recorder = Recorder()
    fitted(recorder, epochs=2)
    assert [len(y) for _, y, _ in recorder.batches] == [16, 16, 16, 16, 16, 10] * 2
    first, second = (torch.cat([x for x, _, _ in recorder.batches[i : i + 6]]).flatten(1) for i in (0, 6))
    assert not torch.equal(first, second)
    original = TRAIN.batch(slice(None))[0].flatten(1)
    for seen in (first, second):
        assert torch.equal(torch.unique(seen, dim=0), torch.unique(original, dim=0))
    assert recorder.modes == [True] * 12
    assert recorder.told == [step / 12 for step in range(12)]


def test_learning_rate_goes_up_and_down():
    cycle = [training._cycle(step / 1000) for step in range(1001)]
    assert cycle[0] == 0
    assert cycle[100] == 1 == max(cycle)
    assert cycle[550] == pytest.approx(0.5)
    assert cycle[1000] == pytest.approx(0)
    assert all(a < b for a, b in pairwise(cycle[:101]))
    assert all(a > b for a, b in pairwise(cycle[100:]))


# guides and augmentation


def marked(count: int = 40, channels: int = 1) -> tuple[Split, torch.Tensor]:
    """Colour images, and a guide for each: its own last channels, as many as that."""
    images = torch.randint(1, 256, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    return Split(images.to(torch.uint8), torch.arange(count)), images[:, 3 - channels :].float() / 255


def seen_by(train: Split, guide, **options) -> tuple:
    recorder = Recorder()
    model = models.build("mlp", channels=3, size=SIZE, classes=2, mean=[0.5] * 3, std=[0.5] * 3, seed=0, width=4)
    validation = Split(train.images[:5], torch.zeros(5, dtype=torch.long))
    fit(model, recorder, train, validation, **{**SETTINGS, "epochs": 1, **options}, guide=guide)
    return recorder.batches


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("augment", [False, True])
def test_guides_move_with_their_images(augment, channels):
    train, guide = marked(channels=channels)
    for x, y, own in seen_by(train, guide, augment=augment):
        assert x.shape == (len(y), 3, SIZE, SIZE)
        assert own.shape == (len(y), channels, SIZE, SIZE)
        assert_close(own, x[:, 3 - channels :])
        assert torch.equal(x, train.batch(y)[0]) != augment


def test_a_guide_changes_no_image():
    """Of augmentation's draws, none is for the guide; a guide may be negative."""
    train, guide = marked(channels=3)
    alone, guided = (seen_by(train, own, augment=True) for own in (None, -guide))
    for (x, _, _), (same_x, _, own) in zip(alone, guided, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(own, -x)


def test_half_precision_guides_become_float():
    train, guide = marked()
    assert {own.dtype for _, _, own in seen_by(train, guide.half())} == {torch.float32}


def test_no_guide_is_none():
    train, _ = marked()
    assert {own for _, _, own in seen_by(train, None, augment=True)} == {None}


def test_augmentation_shifts_and_mirrors():
    """Every augmented image is one of the 9 x 9 shifts of the original or of its mirror image; both occur."""
    train, _ = marked()
    kinds = set()
    for x, y, _ in seen_by(train, None, augment=True, batch_size=5):
        shifts = set()
        for image, original in zip(x, train.batch(y)[0], strict=True):
            padded = F.pad(original, (4, 4, 4, 4))
            found = [
                (top, left, mirrored)
                for top in range(9)
                for left in range(9)
                for mirrored in (False, True)
                if torch.equal(padded[:, top : top + SIZE, left : left + SIZE], image.flip(2) if mirrored else image)
            ]
            assert len(found) == 1
            shifts.add(found[0][:2])
            kinds.add(found[0][2])
        assert len(shifts) == 1  # one shift per batch
    assert kinds == {False, True}


# interruption


@pytest.mark.parametrize("steps", [0, 3, 6, 8, 12, 17], ids=lambda steps: f"{steps} of 18 steps")
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, steps):
    checkpoint = tmp_path / "state.safetensors"
    whole, history = fitted(augment=True)
    with pytest.raises(KeyboardInterrupt):
        fitted(Killed(steps), augment=True, checkpoint=checkpoint)
    assert checkpoint.exists() == (steps >= 6)
    resumed, history_resumed = fitted(augment=True, init=0 if steps < 6 else 3, checkpoint=checkpoint)
    assert same(resumed, whole)
    assert history_resumed == history


def test_a_warm_up_goes_on_where_it_was(tmp_path):
    checkpoint, options = tmp_path / "state.safetensors", {"eps": 0.1, "steps": 1, "warm_up": 0.9}
    whole = fitted(AdversarialTraining(**options))[0]
    with pytest.raises(KeyboardInterrupt):
        fitted(KilledAttack(8, **options), checkpoint=checkpoint)
    assert same(fitted(AdversarialTraining(**options), init=3, checkpoint=checkpoint)[0], whole)
    assert not same(fitted(AdversarialTraining(**{**options, "warm_up": 0.0}))[0], whole)


def test_batch_norm_statistics_are_resumed(tmp_path):
    checkpoint = tmp_path / "state.safetensors"
    options = {"architecture": "resnet8", "epochs": 2, "batch_size": 45}
    whole, history = fitted(JSIGR(0, 0), **options)
    killed = Killed(2)
    killed.lambda_j = killed.lambda_s = killed.penalised_steps = 0  # standard training
    with pytest.raises(KeyboardInterrupt):
        fitted(killed, **options, checkpoint=checkpoint)
    resumed, history_resumed = fitted(JSIGR(0, 0), **options, init=1, checkpoint=checkpoint)
    assert same(resumed, whole)
    assert history_resumed == history


def test_finished_checkpoint_needs_no_step(tmp_path):
    checkpoint = tmp_path / "state.safetensors"
    model, history = fitted(checkpoint=checkpoint)
    again, history_again = fitted(Killed(0), init=2, checkpoint=checkpoint)
    assert same(model, again)
    assert history_again == history


def test_checkpoint_changes_no_result(tmp_path):
    assert same(fitted()[0], fitted(checkpoint=tmp_path / "state.safetensors")[0])
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("harm", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: b"garbage" * 20])
def test_damaged_checkpoint(tmp_path, harm):
    checkpoint = tmp_path / "state.safetensors"
    fitted(checkpoint=checkpoint, epochs=1)
    checkpoint.write_bytes(harm(checkpoint.read_bytes()))
    left = checkpoint.read_bytes()
    with pytest.raises(InputError, match=str(checkpoint)):
        fitted(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == left


# prediction


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_predict_is_argmax(batch_size):
    """A network whose logits are the first five pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 5, bias=False))
    nn.init.eye_(model[1].weight)
    predicted = predict(model, VALIDATION, batch_size)
    assert torch.equal(predicted, VALIDATION.images.flatten(1)[:, :5].argmax(1))
    assert len(predicted.unique()) == 5


@pytest.mark.parametrize("function", [predict, monitor])
def test_mode_is_given_back(function):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.BatchNorm1d(SIZE**2), nn.Linear(SIZE**2, 2)).train()
    model[1].eval()
    modes, state = [module.training for module in model.modules()], [v.clone() for v in model.state_dict().values()]
    first, second = function(model, VALIDATION), function(model, VALIDATION)
    assert torch.equal(first, second) if function is predict else first == second
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(state, model.state_dict().values(), strict=True))


def test_monitor_follows_the_exact_norm_of_the_first_images(monkeypatch):
    monkeypatch.setattr(training, "MONITOR_IMAGES", 10)
    model = network(seed=3)
    told = monitor(model, VALIDATION)
    x = VALIDATION.images[:10].float() / 255
    assert told["jacobian_norm"] == pytest.approx(jacobian_norm(model, x, projections="exact").item())
    right = (predict(model, VALIDATION) == VALIDATION.labels).sum().item()
    assert told["validation_accuracy"] == right / 40
    assert all(parameter.grad is None for parameter in model.parameters())


def test_monitor_follows_margin_and_robust_accuracy(monkeypatch):
    """Of a network whose logits are the sums of its image's halves: the attack moves every pixel by eps."""
    monkeypatch.setattr(training, "ATTACKED_IMAGES", 30)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 2, bias=False))
    left = (torch.arange(SIZE) < SIZE // 2).float().repeat(SIZE)
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([left, 1 - left]))
    x, y = VALIDATION.batch(slice(None))
    gaps = (x.flatten(1) @ (2 * left - 1)) * (1 - 2 * y)
    told = monitor(model, VALIDATION)
    assert told["margin"] == pytest.approx(gaps.mean().item(), rel=1e-5)
    assert told["validation_accuracy"] == told["robust_accuracy"] == 1 and gaps.min() > 2 * 0.1 * SIZE * SIZE / 2
    monkeypatch.setattr(training, "ATTACK_EPS", {1: 0.25})
    x_adv = (x.flatten(1) - 0.25 * (1 - 2 * y[:, None]) * (2 * left - 1)).clamp(0, 1)
    still = (x_adv @ (2 * left - 1)) * (1 - 2 * y) > 0
    assert monitor(model, VALIDATION)["robust_accuracy"] == pytest.approx(still[:30].double().mean().item())


def test_monitor_of_a_network_that_has_diverged():
    model = network()
    with torch.no_grad():
        model[-1].bias.fill_(float("nan"))
    assert monitor(model, VALIDATION)["robust_accuracy"] == 0


@pytest.mark.parametrize("architecture", ["mlp", "resnet8"])
def test_monitoring_changes_no_weight(monkeypatch, architecture):
    """Byte for byte; nor does it draw at random."""
    watched, history = fitted(architecture=architecture)
    state = torch.get_rng_state()
    monitor(watched, VALIDATION)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(WATCHED) <= set(history[-1])
    monkeypatch.setattr(training, "monitor", lambda model, split: {})
    unwatched, history = fitted(architecture=architecture)
    assert same(watched, unwatched) and "margin" not in history[-1]
