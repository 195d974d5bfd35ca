"""What decides a result changes its key, and nothing else does."""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import version
from itertools import count

import pytest
import torch
from torch import nn

from jsigr_lib.measure.attributions import MAPS, Map
from jsigr_lib.method import attacks, defences
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.saliency import perturbation_saliency
from jsigr_lib.store import keys
from jsigr_lib.store.keys import code_of
from jsigr_lib.store.paths import PACKAGE
from jsigr_lib.study.attacked import Outcomes
from jsigr_lib.study.maps import Sanity
from tests import specs
from tests.specs import ATTACKED, NETWORK, changed

HELPER = """
FACTOR = 3


def helper(x):
    return FACTOR * x


def neighbour(x):
    return -x
"""
SOURCE = '''
"""What it is."""
import math
import torch
from torch import nn
import helping
from helping import helper

RADIUS, STEPS = 2.0, {"few": 3, "many": (8, 9)}


def unrelated():
    return 1


class Base:
    size = 4


def decorated(function):
    return function


class Mine(Base):
    """Doc."""

    @decorated
    def area(self, r, scale=1):
        """Doc."""
        r = helper(r) * RADIUS * STEPS["few"]  # why
        return torch.tensor(math.pi * scale * r**2) + helping.helper(r)
'''
names = count()


def loaded(tmp_path, source=SOURCE, helper=HELPER):
    """The class `Mine` of a module of this source, always called the same."""
    folder = tmp_path / str(next(names))
    folder.mkdir()
    for name, text in (("helping", helper), ("mine", source)):
        (folder / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.Mine


SAME = {
    "no docstrings": SOURCE.replace('        """Doc."""\n', "").replace('    """Doc."""\n\n', ""),
    "comments": SOURCE.replace("# why", "# because").replace("import math", "# what for\nimport math"),
    "layout": SOURCE.replace("return torch", "return (\n            torch").replace(
        ".helper(r)", ".helper(r)\n        )"
    ),
    "another docstring": SOURCE.replace("Doc.", "Something else entirely."),
    "annotations": SOURCE.replace("(self, r, scale=1)", "(self, r: float, scale: int = 1) -> object"),
    "import lines": SOURCE.replace("import math\n", "import json\nimport os\nimport math\n"),
    "a neighbour": SOURCE.replace("return 1", "return 2"),
    "a new neighbour": SOURCE + "\n\nclass Other(Base):\n    pass\n",
    "another order": SOURCE.replace("def unrelated():\n    return 1\n", "") + "\n\ndef unrelated():\n    return 1\n",
}
DIFFERENT = {
    "a constant in it": SOURCE.replace("r**2", "r**3"),
    "an operator": SOURCE.replace("* scale", "/ scale"),
    "a name": SOURCE.replace("area", "surface"),
    "a default": SOURCE.replace("scale=1", "scale=2"),
    "a string that is no docstring": SOURCE.replace("r = helper", "t = 'Doc.'\n        r = helper"),
    "a constant that it uses": SOURCE.replace("RADIUS, STEPS = 2.0", "RADIUS, STEPS = 2.5"),
    "part of a table that it uses": SOURCE.replace("(8, 9)", "(8, 7)"),
    "its base": SOURCE.replace("size = 4", "size = 5"),
    "its decorator": SOURCE.replace("return function", "return functools.cache(function)").replace(
        "import math", "import functools\nimport math"
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_run_does_not_count(tmp_path, what):
    assert SAME[what] != SOURCE
    assert code_of(loaded(tmp_path, SAME[what])) == code_of(loaded(tmp_path))


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_runs_counts(tmp_path, what):
    assert code_of(loaded(tmp_path, DIFFERENT[what])).digest != code_of(loaded(tmp_path)).digest


@pytest.mark.parametrize(("old", "new", "counts"), [("3", "4", True), ("FACTOR * x", "x", True), ("-x", "+x", False)])
def test_code_of_other_modules_counts_where_it_is_used(tmp_path, old, new, counts):
    before, after = code_of(loaded(tmp_path)), code_of(loaded(tmp_path, helper=HELPER.replace(old, new)))
    assert (before.digest != after.digest) is counts
    assert {name for name in before.files if before.files[name] != after.files[name]} == (
        {"helping"} if counts else set()
    )


def test_moving_a_definition_changes_no_digest(tmp_path):
    moved = SOURCE.replace("from helping import helper\n", "FACTOR = 3\ndef helper(x):\n    return FACTOR * x\n")
    moved = moved.replace("helping.helper", "helper")
    without = SOURCE.replace("helping.helper", "helper")
    assert code_of(loaded(tmp_path, moved)).digest == code_of(loaded(tmp_path, without)).digest


def test_two_classes_of_one_name_have_two_keys(monkeypatch):
    def registered(weight):
        if weight == 1:

            class Mine(JSIGR):
                def weight(self):
                    return 1
        else:

            class Mine(JSIGR):
                def weight(self):
                    return 2

        monkeypatch.setitem(defences.OBJECTIVES, "mine", Mine)
        return changed(NETWORK, objective="mine").digest

    assert registered(1) == registered(1) != registered(2)


def test_closures_partials_and_settings_count():
    def made(n):
        return lambda x: x + n

    def other(x, n):
        return x + n

    assert code_of(made(1)) == code_of(made(1)) != code_of(made(2))
    assert code_of(functools.partial(other, n=1)) == code_of(functools.partial(other, n=1))
    assert code_of(functools.partial(other, n=1)) != code_of(functools.partial(other, n=2))


def test_an_attack_of_another_name_does_not_count(monkeypatch):
    before = changed(ATTACKED).digest
    monkeypatch.setitem(attacks.ATTACKS, "mine", lambda model, x, y, **settings: x)
    assert changed(ATTACKED).digest == before
    assert changed(ATTACKED, attack="mine").digest != before


@pytest.mark.parametrize("thing", ["lambda model, x, y: 0", "type('Nowhere', (), {})"])
def test_what_has_no_source_is_refused_in_one_line(monkeypatch, thing):
    monkeypatch.setitem(defences.OBJECTIVES, "mine", eval(thing))
    with pytest.raises(InputError, match=r"source of .* cannot be found.*accepted: ") as refused:
        _ = changed(NETWORK, objective="mine").digest
    assert "\n" not in str(refused.value)


def test_libraries_count_where_they_are_used(monkeypatch):
    assert NETWORK.code.libraries == {"torch": torch.__version__}
    strong = changed(ATTACKED, attack="autoattack", settings=())
    assert strong.code.libraries == {"torch": torch.__version__, "pyautoattack": version("pyautoattack")}
    assert "pyautoattack" not in ATTACKED.code.libraries


EDITED = textwrap.dedent("""
    import json
    from specs import ATTACKED, NETWORK
    from jsigr_lib.study.attacked import Outcomes
    specs = {"network": NETWORK, "attacked": ATTACKED, "outcomes": Outcomes(target=NETWORK, attacked=ATTACKED)}
    print(json.dumps({name: spec.digest for name, spec in specs.items()}))
""")


def digests_of(folder, edits: dict[str, tuple[str, str]]) -> dict[str, str]:
    """The digests that a copy of the library with these edits gives, in a process of its own."""
    shutil.copytree(PACKAGE, folder / "jsigr_lib", ignore=shutil.ignore_patterns("__pycache__", "front"))
    shutil.copy(specs.__file__, folder)
    for file, (old, new) in edits.items():
        text = (folder / "jsigr_lib" / file).read_text()
        assert old in text
        (folder / "jsigr_lib" / file).write_text(text.replace(old, new, 1))
    done = subprocess.run([sys.executable, "-c", EDITED], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_edits_of_the_library_make_stale_what_they_decide(tmp_path):
    """A new defence none; a line of the training loop all that is trained; an attack's line what is attacked by it."""
    same = {"network": NETWORK.digest, "attacked": ATTACKED.digest}
    same["outcomes"] = Outcomes(target=NETWORK, attacked=ATTACKED).digest
    cases = {
        "defence": (
            "method/adversarial_training.py",
            "class TRADES(",
            "class New(Adversarial):\n    pass\n\n\nclass TRADES(",
        ),
        "loop": ("networks/training.py", "learning_rate *", "0.1 * learning_rate *"),
        "outcomes": ("study/attacked.py", "right = predict", "right = 1 * predict"),
    }
    stale = {"defence": set(), "loop": {*same}, "outcomes": {"outcomes"}}
    for case, (file, old, new) in cases.items():
        (tmp_path / case).mkdir()
        found = digests_of(tmp_path / case, {file: (old, new)})
        assert {name for name in same if found[name] != same[name]} == stale[case], case


def test_every_registered_entry_has_a_source():
    for entry in (*defences.OBJECTIVES.values(), *attacks.ATTACKS.values()):
        assert keys.code_of(entry).files


def test_a_map_from_outside_counts_by_its_own_source(monkeypatch):
    def digest(draw):
        monkeypatch.setitem(MAPS, "mine", Map("mine", 1, draw))
        return Sanity(target=NETWORK, maps=("mine",), images=2, grid=3, mask_sigma=1.0, blur_sigma=1.0).digest

    one, other = digest(lambda model, x, y, **_: x[:, :1]), digest(lambda model, x, y, **_: -x[:, :1])
    assert one != other


def test_tensors_and_networks_in_a_closure_count_by_what_they_hold():
    def objective(guide):
        return lambda model, x, y: (guide, model(x))

    def linear(weight):
        network = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(network.weight, weight)
        torch.nn.init.constant_(network.bias, 0.0)
        return network

    assert code_of(objective(torch.ones(2))) == code_of(objective(torch.ones(2))) != code_of(objective(torch.zeros(2)))
    assert code_of(objective(linear(1.0))) == code_of(objective(linear(1.0))) != code_of(objective(linear(2.0)))


def test_what_was_computed_before_changes_no_key():
    """A penalty, a map and an attack leave the code that they are made of as it was."""
    before = code_of(JSIGR, attacks.pgd, perturbation_saliency)
    model, x, y = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    JSIGR(0.1, 0.1)(model, x, y).backward()
    perturbation_saliency(model, x, y, grid=2)
    attacks.pgd(model, x, y, eps=0.1)
    assert code_of(JSIGR, attacks.pgd, perturbation_saliency) == before
