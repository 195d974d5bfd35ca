"""The picture grids: the first test images (nobody chose them), clean and attacked, and the study's maps of them."""

from itertools import product

import numpy as np

from jsigr_lib.data.data import Split
from jsigr_lib.figures import plotting
from jsigr_lib.findings import titles
from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.networks.training import predict
from jsigr_lib.study.attacked import attacked_split
from jsigr_lib.study.map_tables import INPUTS, PAIR, explained_in, specs
from jsigr_lib.study.sources import headline_attack
from jsigr_lib.study.study import Study

IMAGES_IN_FULL = 2  # the gallery shows this many images with all their maps


def _splits(study: Study, n: int) -> dict[str, Split]:
    """The first n test images, clean and attacked."""
    study.make(specs(study))
    clean = study.dataset.test
    attacked = attacked_split(clean, headline_attack(study, study.architecture), study.store)
    return {"clean": clean.first(n), "attacked": attacked.first(n)}


def _captions(study: Study, defence: str, split: Split) -> list[tuple[str, bool]]:
    """Predicted class of each image, and whether it is right."""
    predicted = predict(study.model(study.training(defence)), split)
    names = study.dataset.classes
    return [(names[p], bool(p == y)) for p, y in zip(predicted.tolist(), split.labels.tolist(), strict=True)]


def _maps(study: Study, defence: str, name: str, given: str) -> np.ndarray:
    """The maps [images, height, width] of the first images, which the study keeps."""
    tensors = study.get(explained_in(study, defence, study.training(defence))).tensors
    return tensors[f"map|{name}|{given}"][:, 0].numpy()


def glance(study: Study) -> plotting.Described:
    """A row per image: the image, the attacked image, and each defence's gradient map of the attacked image with its
    prediction."""
    splits = _splits(study, study.profile.gallery_images)
    clean, attacked = (splits[given].batch(slice(None))[0].numpy() for given in INPUTS)
    names = [study.dataset.classes[label] for label in splits["clean"].labels.tolist()]
    rows = [[(x, name, None), (x_adv, "", None)] for x, x_adv, name in zip(clean, attacked, names, strict=True)]
    right = {}
    for defence in study.featured:
        maps, said = _maps(study, defence, "gradient", "attacked"), _captions(study, defence, splits["attacked"])
        right[defence] = [is_right for _, is_right in said]
        for row, saliency, (caption, is_right) in zip(rows, maps, said, strict=False):
            row.append((saliency, caption, is_right))
    columns = ["image", f"attacked,\n{study.budget}", *_columns(study)[1:]]
    fig = plotting.map_grid(rows, columns=columns, names=[""] * len(rows))
    plotting.headline(fig, titles.under_attack(right, study.labels))
    return fig, (
        f"{len(rows)} test images ({', '.join(names)}), each clean and attacked, and the gradient map that every "
        "defended network draws on the attacked image, with its prediction in green if right and red if wrong."
    )


def in_full(study: Study) -> plotting.Described:
    """Four rows per image: both maps of the clean image, and both of the attacked image."""
    splits = _splits(study, IMAGES_IN_FULL)
    each = list(product(range(IMAGES_IN_FULL), splits, PAIR))
    rows = [_row(study, splits[given], i, name, given) for i, given, name in each]
    names = [f"{name},\n{given}" for _, given, name in each]
    return plotting.map_grid(rows, columns=_columns(study), names=names), (
        f"{IMAGES_IN_FULL} test images: gradient map and perturbation map of every defence, clean and attacked, "
        "with the predicted class in green if right and red if wrong."
    )


def every_map(study: Study, given: str = "clean") -> plotting.Described:
    """Every map of the second test image: a row per map, a column per defence."""
    split = _splits(study, IMAGES_IN_FULL)[given]
    maps = study.profile.saliency_maps
    rows = [_row(study, split, 1, name, given) for name in maps]
    names = [MAPS[name].label.replace(", ", ",\n").replace(" gradients", "\ngradients") for name in maps]
    what = study.dataset.classes[int(split.labels[1])]
    return plotting.map_grid(rows, columns=_columns(study), names=names), (
        f"One test image ({what}, {given}) in {len(rows)} maps, a row each, of every defence, a column each: "
        f"{', '.join(MAPS[name].label for name in maps)}."
    )


def _row(study: Study, split: Split, i: int, name: str, given: str) -> list[tuple[np.ndarray, str, bool | None]]:
    """Image i, and one map of it by every featured defence."""
    pixels = split.batch(slice(i, i + 1))[0][0].numpy()
    cells = [(_maps(study, d, name, given)[i], *_captions(study, d, split)[i]) for d in study.featured]
    return [(pixels, study.dataset.classes[int(split.labels[i])], None), *cells]


def _columns(study: Study) -> list[str]:
    """The titles of the columns, each in at most two lines."""
    return ["image", *(study.labels[name].replace(" ", "\n", 1) for name in study.featured)]
