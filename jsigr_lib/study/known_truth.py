"""Maps judged against a known truth: pictures in which a glyph decides the label (`data.glyphs`), and how much of a map
lies on it. A second set of pictures has a spurious cue in training, which a network may learn in its place."""

from itertools import product
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from jsigr_lib.data.data import load
from jsigr_lib.data.glyphs import Glyphs
from jsigr_lib.measure import statistics
from jsigr_lib.measure.attributions import CONTROLS
from jsigr_lib.measure.measures import points_at, share_on
from jsigr_lib.networks.zoo import Training, trained
from jsigr_lib.records.tolerances import SHARE, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.attacked import Attacked, Outcomes, attacked_split, correct_of, transfer_settings
from jsigr_lib.study.map_tables import INPUTS, PAIR
from jsigr_lib.study.maps import BATCH, KEPT, DrawnMaps, Values
from jsigr_lib.study.study import SURROGATE_SEED, Study

PICTURES = {False: "glyphs", True: "glyphs and a cue"}
MEASURES = {
    "share on the truth": "of the map's mass",
    "truth against decoy": "share on the truth of what the map has on truth and decoy",
    "pointing": "largest value on the truth, or one pixel beside it",
    "share on the cue": "of the map's mass; beside it the clean accuracy",
}
NO_NETWORK = "none"  # the defence of the controls
COLUMNS = ["pictures", "defence", "map", "input", "measure", "clean_accuracy", "images", "seeds", "mean", "low", "high"]
COLUMNS += ["gain", "gain_low", "gain_high"]


class Located(DrawnMaps):
    """Where the maps of one network lie, clean and attacked: the measures, and "map" of the first images."""

    kind: ClassVar[str] = "located"
    attacked: Attacked

    def passes(self) -> int:
        return 100

    def compute(self, store: Store, device: torch.device) -> tuple[Values, dict]:
        model, clean = trained(self.target, store), load(self.target.data, store).test.first(self.images)
        kept, values = store.get(self.target.data).tensors, {}
        truth, decoy, cue = (kept[f"test_{what}"][: self.images] for what in ("truth", "decoy", "cue"))
        for given, split in zip(INPUTS, (clean, attacked_split(clean, self.attacked, store)), strict=True):
            batches = [split.batch(index, device) for index in torch.arange(self.images).split(BATCH)]
            for name in self.every:
                maps = torch.cat([self.draw(name, model, x, y).cpu() for x, y in batches])
                on_truth, on_decoy = share_on(maps, truth), share_on(maps, decoy)
                found = {"share on the truth": on_truth, "pointing": points_at(maps, truth), "map": maps[:KEPT]}
                found["truth against decoy"] = (on_truth / (on_truth + on_decoy)).nan_to_num(0.5)
                found["share on the cue"] = share_on(maps, cue)
                values |= {f"{measure}|{name}|{given}": value for measure, value in found.items()}
        return values, {}


def defences(study: Study) -> list[str]:
    """Those whose maps are judged: none where the profile leaves it out, or its pictures are not of garments."""
    done = study.profile.truth_images > 0 and study.profile.dataset == "fashion-mnist"
    return (study.profile.truth_defences or study.featured) if done else []


def network(study: Study, defence: str, seed: int, *, cue: bool = False) -> Training:
    """A network of the figures' architecture that has learnt from glyphs."""
    p = study.profile
    sizes = {name: getattr(p, name) for name in ("validation_images", "test_images")}
    found = {"content": study.data.content, "root": study.data.root, "train_images": p.truth_images, **sizes}
    data = Glyphs(dataset=p.dataset, cue=cue, **found)
    return study.training(defence, seed=seed, data=data, **p.truth_options.get(defence, {}))


def located(study: Study, target: Training) -> Located:
    """On clean images, and on those attacked through an undefended network with another seed."""
    p = study.profile
    source, images = network(study, "standard", SURROGATE_SEED, cue=target.data.cue), p.saliency_images
    settings = transfer_settings(p)
    attacked = Attacked(sources=source, attack=p.transfer_attacks[0], eps=p.eps, settings=settings, images=images)
    return Located(target=target, maps=PAIR, images=images, attacked=attacked, **p.penalty.selection.perturbation)


def _networks(study: Study, defence: str, *, cue: bool = False) -> list[Training]:
    return [network(study, defence, seed, cue=cue) for seed in range(study.profile.truth_seeds)]


def specs(study: Study) -> list[Spec]:
    """Everything that the table reads."""
    every = [one for name, cue in product(defences(study), PICTURES) for one in _networks(study, name, cue=cue)]
    return [spec for one in every for spec in (located(study, one), Outcomes(target=one))]


def values(study: Study, defence: str, *, cue: bool = False) -> dict[tuple[str, str, str], np.ndarray]:
    """(measure, map, input) -> [seeds, images]; none for a defence that is not judged."""
    if defence not in defences(study):
        return {}
    seeds = [study.get(located(study, one)).tensors for one in _networks(study, defence, cue=cue)]
    measures = [name for name in MEASURES if cue or "cue" not in name]
    keys = product(measures, (*PAIR, *CONTROLS), INPUTS)
    return {key: np.stack([one["|".join(key)].double().numpy() for one in seeds]) for key in keys}


def table(study: Study) -> pd.DataFrame:
    """A row per kind of pictures, defence, map, input and measure; the controls are maps of no network. Beside each the
    clean accuracy, without which a defence could look good by having learnt less, and the paired gain over the same map
    of the first defence, the standard one."""
    study.make(specs(study))
    names, rows = defences(study), []
    for cue, defence in product(PICTURES, names):
        outcomes = [Outcomes(target=one) for one in _networks(study, defence, cue=cue)]
        accuracy, first = correct_of(study, outcomes).mean(), values(study, names[0], cue=cue)
        for key, value in values(study, defence, cue=cue).items():
            measure, name, given = key
            if name in PAIR or defence == names[0]:
                of, clean = (defence, accuracy) if name in PAIR else (NO_NETWORK, np.nan)
                gain = statistics.mean(statistics.differences(value, first[key]))
                what = (PICTURES[cue], of, name, given, measure, clean)
                rows.append([*what, *statistics.columns("mean", value).values(), *gain])
    return declare(pd.DataFrame(rows, columns=COLUMNS), *COLUMNS[:5], clean_accuracy=SHARE)


def claimed(study: Study, defence: str) -> dict[tuple[str, str], np.ndarray]:
    """(measure, "") -> values per seed and image, for the claims; of the pictures without a cue."""
    return {
        (f"share of the {name} map on the truth{'' if given == 'clean' else f', {given}'}", ""): value
        for (measure, name, given), value in values(study, defence).items()
        if measure == "share on the truth" and name in PAIR
    }
