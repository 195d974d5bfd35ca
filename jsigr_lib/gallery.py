"""The picture grids: the first test images (not chosen), attacked, and the maps that the study has of them."""

import torch
from matplotlib.figure import Figure

from jsigr_lib.data import Split
from jsigr_lib.interpretability import MAPS, maps_spec, specs
from jsigr_lib.outcomes import attacked_split
from jsigr_lib.plotting import map_grid
from jsigr_lib.study import Study
from jsigr_lib.training import predict

IMAGES_IN_FULL = 2  # the gallery shows this many images with all their maps


def _splits(study: Study, n: int) -> dict[bool, Split]:
    """attacked? -> the first n test images."""
    study.make(specs(study))
    attacked = maps_spec(study, study.training("standard"), attacked=True).attacked
    test = study.dataset.test
    return {flag: attacked_split(test, attacked if flag else None, study.store).first(n) for flag in (False, True)}


def _captions(study: Study, defence: str, split: Split) -> list[tuple[str, bool]]:
    """Predicted class of each image, and whether it is right."""
    predicted = predict(study.model(study.training(defence)), split)
    names = study.dataset.classes
    return [(names[p], bool(p == y)) for p, y in zip(predicted.tolist(), split.labels.tolist(), strict=True)]


def _maps(study: Study, defence: str, *, attacked: bool) -> dict[str, torch.Tensor]:
    return study.get(maps_spec(study, study.training(defence), attacked=attacked)).tensors


def glance(study: Study) -> tuple[Figure, str]:
    """A row per image; the image, the attacked image, each defence's gradient map of
    the attacked image with its prediction."""
    splits = _splits(study, study.profile.gallery_images)
    clean, attacked = (splits[flag].batch(slice(None))[0].numpy() for flag in (False, True))
    names = [study.dataset.classes[label] for label in splits[False].labels.tolist()]
    rows = [
        [(image, name, None), (changed, "", None)] for image, changed, name in zip(clean, attacked, names, strict=True)
    ]
    for defence in study.featured:
        maps = _maps(study, defence, attacked=True)["gradient"]
        for row, saliency, (caption, right) in zip(rows, maps, _captions(study, defence, splits[True]), strict=False):
            row.append((saliency[0].numpy(), caption, right))
    columns = [
        "image",
        f"attacked,\neps {study.profile.eps:.2g}",
        *(_wrapped(study.labels[name]) for name in study.featured),
    ]
    return map_grid(rows, columns=columns, names=[""] * len(rows)), (
        f"{len(rows)} test images ({', '.join(names)}), each clean and attacked, and the gradient map that every "
        "defended network draws on the attacked image, with its prediction in green if right and red if wrong."
    )


def in_full(study: Study) -> tuple[Figure, str]:
    """For each image four rows, both maps of the clean and of the attacked image."""
    splits = _splits(study, IMAGES_IN_FULL)
    rows, names = [], []
    for i, label in enumerate(splits[False].labels.tolist()):
        for attacked, split in splits.items():
            image = split.first(i + 1).batch(slice(i, i + 1))[0][0].numpy()
            for name in MAPS:
                row = [(image, study.dataset.classes[label], None)]
                for defence in study.featured:
                    caption, right = _captions(study, defence, split)[i]
                    row.append((_maps(study, defence, attacked=attacked)[name][i, 0].numpy(), caption, right))
                rows.append(row)
                names.append(f"{name},\n{'attacked' if attacked else 'clean'}")
    columns = ["image", *(_wrapped(study.labels[name]) for name in study.featured)]
    return map_grid(rows, columns=columns, names=names), (
        f"{IMAGES_IN_FULL} test images: gradient map and perturbation map of every defence, clean and attacked, "
        "with the predicted class in green if right and red if wrong."
    )


def _wrapped(label: str) -> str:
    """A column title in at most two lines."""
    return label.replace(" ", "\n", 1)
