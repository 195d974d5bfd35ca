"""What is set over a profile, key by key, and what gives way to a small folder."""

from pathlib import Path

import pytest
from PIL import Image

from jsigr_lib.method.errors import InputError
from jsigr_lib.study.config import load_profile
from jsigr_lib.study.provenance import check_folder
from jsigr_lib.study.settings import applied, fitted, named
from jsigr_lib.study.study import Study


def keys(table: dict, above: str = "") -> dict:
    """Every key of a table, those of tables in it with dots."""
    found = {}
    for name, value in table.items():
        found |= {f"{above}{name}": value} | (keys(value, f"{above}{name}.") if isinstance(value, dict) else {})
    return found


def test_every_key_of_a_profile_can_be_set():
    profile = load_profile("smoke")
    found = keys(profile.model_dump())
    assert {"eps", "penalty.share", "widths.vgg", "defences.jsigr.options.lambda_j", "defences.pgd.label"} <= set(found)
    for key, value in found.items():
        assert load_profile("smoke", **{key: value}) == profile, key


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("penalty.share", 0.3, lambda p: p.penalty.share),
        ("widths.vgg", 6, lambda p: p.widths["vgg"]),
        ("defences.jsigr.options.lambda_j", 0.02, lambda p: p.options("jsigr")["lambda_j"]),
        ("defences.pgd.label", "attacked", lambda p: p.defences["pgd"].label),
    ],
)
def test_a_key_of_a_table_replaces_nothing_else(key, value, found):
    changed = load_profile("smoke", **{key: value})
    assert found(changed) == value
    before, after = (keys(one.model_dump()) for one in (load_profile("smoke"), changed))
    top = key.partition(".")[0]
    assert {name for name in after if after[name] != before.get(name)} >= {key, top}
    assert all(after[name] == before[name] for name in before if name.partition(".")[0] != top)


def test_a_weight_that_is_set_is_tried_too():
    """The grid of weights holds the profile's own choice, whoever made it."""
    tried = load_profile("quick", **{"defences.jsigr.options.lambda_j": 0.02}).defences["jsigr"].tried
    assert tried == {"lambda_j": [0.0, 0.01, 0.1, 0.02], "lambda_s": [0.0, 3.0, 10.0]}


def test_a_table_comes_before_what_is_in_it():
    fields = {"penalty": {"share": 0.4, "grid": 7}}
    assert applied(fields, {"penalty.grid": 5, "penalty": {"share": 0.1}}) == {"penalty": {"share": 0.1, "grid": 5}}
    assert applied(fields, {"penalty": None, "penalty.grid": None}) == fields == {"penalty": {"share": 0.4, "grid": 7}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"penalty.shear": 0.3}, "unknown field 'penalty.shear'; accepted: estimator, fraction, coin, norm, share,"),
        (
            {"defences.jsigr.optoins": {}},
            "unknown field 'defences.jsigr.optoins'; accepted: label, objective, options,",
        ),
        ({"penalti.share": 0.3}, "unknown field 'penalti'; accepted: name, imports, group, dataset"),
        ({"penalty.share": 2}, "penalty.share = 2: input should be less than or equal to 1"),
        ({"eps.x": 1}, "unknown field 'eps.x'; accepted: 'eps' alone, which is no table"),
        ({"defences.jsigr.tried": 3, "defences.jsigr.options.lambda_j": 0.02}, "defences.jsigr.tried = 3"),
        ({"epz": 1}, "unknown field 'epz'; accepted: name,"),
        ({"out": "x"}, "unknown field 'out'; accepted: name,"),
        ([1], r"settings = \[1\]; accepted: a table"),
    ],
)
def test_a_bad_setting_is_one_line(settings, said):
    with pytest.raises(InputError, match=rf"^{said}"):
        Study("smoke", settings=settings)


def test_what_is_set_twice_is_refused():
    with pytest.raises(InputError, match=r"^'eps' stands in settings and beside them; accepted: once$"):
        Study("smoke", eps=0.1, settings={"eps": 0.2})
    assert Study("smoke", eps=None, settings={"eps": 0.2}).profile.eps == 0.2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Sixty of three classes: 42 to learn from and 18 to test on."""
    root = tmp_path_factory.mktemp("photographs")
    for i in range(60):
        folder = root / ("train" if i < 42 else "test") / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (3 * i, 80 * (i % 3), 40)).save(folder / f"{i}.png")
    return root


def test_a_small_folder_works_as_it_is(photographs, tmp_path):
    study = Study("quick", dataset="folder", data_root=str(photographs), runs=tmp_path)
    assert [len(part) for part in (study.dataset.train, study.dataset.validation, study.dataset.test)] == [34, 8, 18]
    assert (study.profile.saliency_images, study.profile.gallery_images, study.profile.autoattack) == (18, 4, [])
    (line,) = study.notes
    for said in (
        "train_images = 34",
        "validation_images = 8",
        "test_images = 18",
        "no AutoAttack, which needs 4 classes",
    ):
        assert said in line


def test_what_is_set_stays_and_has_to_fit(photographs, tmp_path):
    pictures = {"dataset": "folder", "data_root": str(photographs), "runs": tmp_path}
    some = Study("quick", **pictures, train_images=12, test_images=9, saliency_images=6)
    assert (some.profile.train_images, some.profile.validation_images, some.profile.test_images) == (12, 8, 9)
    assert (some.profile.saliency_images, some.profile.gallery_images) == (6, 4)
    with pytest.raises(InputError, match=r"^train_images of folder = 43 is out of range; accepted: 1 to 34$"):
        Study("quick", **pictures, train_images=43).check()
    with pytest.raises(InputError, match=r"^number of classes, with AutoAttack, = 3 is out of range"):
        Study("quick", **pictures, autoattack=["jsigr"]).check()
    assert not (tmp_path / "data").exists()  # a check keeps nothing


def test_what_fits_stays(image_folder):
    fields = load_profile("smoke").model_dump()
    sizes = {"train_images": 30, "validation_images": 10, "test_images": 40, "saliency_images": 16}
    assert fitted(fields, {}) == {}
    assert fitted({**fields, **sizes, "dataset": "folder", "data_root": str(image_folder)}, {}) == {}


def test_settings_have_folders_of_their_own():
    some = [{"eps": 0.1}, {"eps": 0.2}, {"data_root": "/a b"}, {"data_root": "/a-b"}, {"seeds": [0]}, {"x": "y" * 99}]
    names = [named(one) for one in some]
    assert len(set(names)) == len(some) and names[0].startswith("eps=0.1-")
    assert all("/" not in name and len(name) < 60 for name in names)
    assert Study("smoke").out.name == "smoke"
    assert Study("smoke", eps=0.05).out.name == f"smoke,{named({'eps': 0.05})}"


def test_a_folder_of_other_settings_is_not_written_to(tmp_path, photographs):
    out, runs = tmp_path / "out", tmp_path / "runs"
    study = Study("smoke", out=out, runs=runs, eps=0.05, settings={"penalty.share": 0.3})
    (out / "t.json").parent.mkdir()
    study.save_files("t", {"csv": b"a\n1\n"}, kind="table")
    check_folder(out, study.profile, study.data.content)
    for other, said in (({"eps": 0.05}, "penalty.share"), ({}, "eps, penalty.share")):
        with pytest.raises(InputError, match=rf"^{out} holds figures of other {said}; accepted: another out"):
            check_folder(out, Study("smoke", runs=runs, **other).profile, study.data.content)
