import base64
import copy
import json
import logging

import pytest

from jsigr_lib.explorer import widgets
from jsigr_lib.explorer.explorer import Explorer, of_study
from jsigr_lib.explorer.widgets import SaliencyExplorer, progress_display
from jsigr_lib.method.errors import InputError
from jsigr_lib.records.running import NotebookCell
from jsigr_lib.store.paths import FRONT, ROOT, RUNS

SETTINGS = {"defences": ["standard", "jsigr"], "image": 1, "map": "grad-cam", "attack": "white-box", "steps": 2}


@pytest.fixture(scope="module")
def explorer(study) -> Explorer:
    return of_study(study, images=3)


@pytest.fixture
def asked(explorer, monkeypatch):
    """asked(question): what the widget answers, as message and buffers."""
    widget, sent = SaliencyExplorer(study=lambda: explorer), []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append((content, buffers)))

    def ask(question):
        sent.clear()
        widget._handle_custom_msg(question, [])  # as a message of the front end arrives
        (answer,) = sent
        json.dumps(answer[0], allow_nan=False)
        return answer

    ask.widget = widget
    return ask


def test_a_question_is_answered_with_its_scene(explorer, asked):
    scene, pictures = explorer.scene(SETTINGS)
    for identity in (7, 2**40 + 3):
        assert asked({"id": identity, "settings": SETTINGS}) == ({"id": identity, "scene": scene}, [pictures])


def test_front_end_and_its_settings_are_understood(explorer, asked):
    """What the front end asks first: the controls as they are, and no picture of the reader's."""
    controls = asked.widget.about["controls"]
    first = {one["name"]: one["value"] for one in controls if not one.get("local")}
    message, _ = asked({"id": 1, "settings": {**first, "upload": None}})
    assert "error" not in message["scene"] and len(message["scene"]["cards"]) == 2
    picture = base64.b64encode(bytes(784)).decode()
    assert asked({"id": 2, "settings": {**first, "upload": picture}})[0]["scene"]["truth"] is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"eps": 2}, "eps = 2 is out of range; accepted: 0 to 1"),
        ({"map": "x"}, "unknown map 'x'; accepted: gradient"),
        ({"defences": []}, "defences = []; accepted: some of standard"),
        ({"upload": "!"}, "accepted: 784 bytes"),
    ],
)
def test_bad_settings_are_answered_with_a_line(asked, caplog, changed, said):
    message, buffers = asked({"id": 3, "settings": {**SETTINGS, **changed}})
    assert message["id"] == 3 and message["scene"].keys() == {"error"}
    assert said in message["scene"]["error"] and "\n" not in message["scene"]["error"]
    assert buffers == [b""]
    assert caplog.records == []


@pytest.mark.parametrize(
    "question", [{"id": 4}, {"id": 4, "settings": None}, {"id": 4, "settings": [1]}, {}, None, [], "settings", 4]
)
def test_junk_is_answered_and_raises_nothing(asked, question):
    message, buffers = asked(question)
    assert message["id"] == (4 if isinstance(question, dict) and question else None)
    assert "accepted" in message["scene"]["error"] and buffers == [b""]


def test_a_fault_of_ours_is_named_and_logged(explorer, asked, monkeypatch, caplog):
    def fail(self, given):
        raise ZeroDivisionError("by nothing")

    before = asked({"id": 5, "settings": SETTINGS})
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "jsigr_lib.explorer.widgets"):
        patch.setattr(Explorer, "scene", fail)
        message, buffers = asked({"id": 6, "settings": SETTINGS})
    assert message == {"id": 6, "scene": {"error": "ZeroDivisionError: by nothing"}} and buffers == [b""]
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError and "grad-cam" in record.getMessage()
    assert asked({"id": 5, "settings": SETTINGS}) == before


def test_front_end_is_the_files_and_the_state_is_json(explorer):
    widget = SaliencyExplorer(study=lambda: explorer)
    assert str(widget._esm) == (FRONT / "explorer.js").read_text(encoding="utf-8")
    assert str(widget._css) == (FRONT / "explorer.css").read_text(encoding="utf-8")
    assert "export default" in str(widget._esm)
    state = widget.get_state()
    assert json.loads(json.dumps(state["about"], allow_nan=False)) == explorer.about()


def test_explorers_by_name(study):
    assert SaliencyExplorer.of_study(study, images=2).about["controls"][0]["values"] == [0, 1]
    widget = SaliencyExplorer.pretrained(images=4)
    assert widget.about["controls"][1]["values"] == [0, 1, 2, 3]
    assert "standard" in widget.explorer.models and "pretrained" in widget.about["note"]
    with pytest.raises(InputError, match="0"):
        SaliencyExplorer.pretrained(images=0)


def test_the_reader_turns_to_photographs_and_back(monkeypatch):
    widget, sent = SaliencyExplorer.pretrained(images=4), []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append(content))
    garments = widget.about
    assert garments["controls"][0]["values"] == [["garments", "garments"], ["photographs", "photographs"]]
    widget._handle_custom_msg({"id": 1, "turn": "photographs"}, [])
    about = widget.about
    assert (about["channels"], about["size"], about["controls"][0]["value"]) == (3, [32, 32], "photographs")
    asked = {"defences": ["standard", "jsigr"], "image": 0, "eps": widget.explorer.eps}
    widget._handle_custom_msg({"id": 2, "settings": asked}, [])
    assert sent[-1]["id"] == 2 and about["classes"][sent[-1]["scene"]["truth"]] == "cat"
    widget._handle_custom_msg({"id": 3, "turn": "garments"}, [])
    assert widget.about == garments
    widget._handle_custom_msg({"id": 4, "turn": "paintings"}, [])
    assert sent[-1] == {"id": 4, "scene": {"error": "unknown explorer 'paintings'; accepted: garments, photographs"}}
    assert widget.about == garments


def test_explorer_starts_with_a_large_eps(study):
    large = copy.copy(study)
    large.profile = study.profile.model_copy(update={"eps": 0.5})
    (eps,) = (one for one in SaliencyExplorer.of_study(large, images=1).about["controls"] if one["name"] == "eps")
    assert eps["value"] == 0.5 and max(eps["values"]) == 1.0


# progress


class Line:
    """Stands in for IPython's display and for the handle it gives."""

    def __init__(self):
        self.shown, self.updates = [], []

    def __call__(self, data, *, raw, display_id, metadata):
        assert raw and display_id and metadata == {widgets.PROGRESS: True}
        self.shown.append(data["text/plain"])
        return self

    def update(self, data, *, raw, metadata):
        assert raw and metadata == {widgets.PROGRESS: True}
        self.updates.append(data["text/plain"])


def test_progress_is_one_line_that_is_rewritten(monkeypatch, study):
    line, clock = Line(), iter([100.0, 160.0, 220.0])
    monkeypatch.setattr(widgets, "display", line)
    monkeypatch.setattr(widgets.time, "perf_counter", lambda: next(clock))
    progress = progress_display()
    assert line.shown == []
    spec = study.training("standard")
    progress(spec, 1.0, 4.0)
    progress(spec, 4.0, 4.0)
    assert line.shown == ["25% of what was missing is made; 1.0 min, about 3.0 min left"]
    assert line.updates == ["100% of what was missing is made; 2.0 min, about 0.0 min left"]


@pytest.fixture
def opened(monkeypatch):
    """opened(injected, **parameters): the study that a notebook opens and what it shows, its second cell being that of
    papermill."""
    shown = []
    monkeypatch.setattr(widgets, "display", lambda data, **_: shown.append(data["text/plain"]))

    def call(injected: str = "", **parameters):
        cells = ["", "profile = 'smoke'", injected]
        given = {**dict.fromkeys(widgets.PARAMETERS), "profile": "smoke", "device": "cpu", "out": "", "download": False}
        return widgets.open_study({**given, **parameters, "In": cells}), shown[-1]

    return call


def test_a_misspelt_parameter_is_named(opened):
    with pytest.raises(InputError, match=r"^unknown parameter 'epsilon'; accepted: profile, .*, eps, settings, live$"):
        opened("# Parameters\nprofile = 'smoke'\nepsilon = 0.05\n", epsilon=0.05)
    study, _ = opened("# Parameters\neps = 0.05\n", eps=0.05, settings={"penalty.share": 0.3})
    assert (study.profile.eps, study.profile.penalty.share) == (0.05, 0.3)


def test_a_notebook_says_where_it_writes_and_writes_there(opened, monkeypatch, tmp_path):
    """Whatever folder it is run from."""
    monkeypatch.chdir(tmp_path)
    for out, place in (
        ("", RUNS / "figures" / "smoke"),
        ("a/b", ROOT / "a" / "b"),
        (str(tmp_path / "c"), tmp_path / "c"),
    ):
        study, said = opened(out=out)
        assert study.out == place and said == f"Figures and tables go to {place}."
    assert not [*tmp_path.iterdir()]


def test_a_notebook_says_what_it_takes(opened, monkeypatch, tmp_path):
    monkeypatch.setattr(widgets, "running_cell", lambda: NotebookCell(source="", notebook="02_training"))
    monkeypatch.setattr(widgets, "specs", lambda study, notebook: [study.training("jsigr")] * (notebook[:2] == "02"))
    monkeypatch.setattr("jsigr_lib.study.study.RUNS", tmp_path)
    for seconds, said in ((600.0, "about 20 minutes"), (1.0, "about a minute or less")):
        monkeypatch.setattr(widgets.Speed, "seconds", lambda self, spec, took=seconds: took)
        monkeypatch.setattr(widgets.Speed, "notebook", lambda self, name: 0.0)
        _, line = opened()
        assert line.startswith(
            f"Run All takes {said} on this machine: 2 artefacts are missing. Figures and tables go to"
        )
