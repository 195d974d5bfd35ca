"""The saliency explorer without a kernel. Its scenes for every combination of a few settings are made once; an HTML
fragment carries them and the front end, and asks the network for nothing."""

import base64
import gzip
import io
import json
import re
from html import escape
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from jsigr_lib.data.data import load
from jsigr_lib.explorer.controls import ATTACKS, Settings
from jsigr_lib.explorer.explorer import Explorer
from jsigr_lib.explorer.parcel import Parcel
from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.method.saliency import Selection
from jsigr_lib.networks.zoo import Training, trained
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.paths import FRONT
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.needs import NEEDS
from jsigr_lib.study.sources import sources_of
from jsigr_lib.study.study import Study

IMAGES = 6  # the first test images; nobody chose them
DEFENCES = ("standard", "jsigr", "pgd", "fast")  # a profile may lack some of them
KINDS = ("gradient", "smoothgrad", "integrated-gradients", "grad-cam", "perturbation", "perturbation-linearised")


PACKED = r'unpack\("([^"]+)"\).*?unpack\("([^"]+)"\).*?fromSaved\((\{.*\}), scenes, pictures\)'


class Snapshot(Spec):
    """All scenes of images x maps x attacks x budgets, each with a card for each network."""

    kind: ClassVar[str] = "snapshot"
    networks: tuple[tuple[str, str, Training], ...]  # name, label, network
    source: Training
    images: int
    maps: tuple[str, ...]
    budgets: tuple[float, ...]
    eps: float
    selection: tuple[tuple[str, float | int | str], ...]
    note: str

    def needs(self) -> list[Spec]:
        return [*(network for *_, network in self.networks), self.source, self.source.data]

    def uses(self) -> list[Any]:
        return [MAPS[name].draw for name in self.maps if name in MAPS]

    def work(self) -> float:
        passes = sum(2 * MAPS[name].passes + 100 + 80 for name in self.maps) * len(ATTACKS) * len(self.budgets)
        return self.images * passes * sum(network.pass_flops for *_, network in self.networks)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        data = load(self.source.data, store)
        test = data.test.first(self.images)
        explorer = Explorer(
            models={name: trained(network, store) for name, _, network in self.networks},
            labels={name: label for name, label, _ in self.networks},
            source=(self.source.architecture, trained(self.source, store)),
            images=test.images,
            truths=test.labels.tolist(),
            classes=data.classes,
            selection=Selection(**dict(self.selection)),
            eps=self.eps,
            note=self.note,
        )
        about, parcel, scenes = self._about(explorer), Parcel(), {}
        x = test.batch(slice(None), device)[0]
        own = {"grid": explorer.selection.grid, "blur_sigma": explorer.selection.blur_sigma}
        axes = product(enumerate(self.maps), enumerate(ATTACKS), enumerate(self.budgets))
        for (m, name), (a, attack), (e, eps) in axes:
            settings = Settings(defences=tuple(explorer.models), map=name, attack=attack, eps=eps, **own)
            found = explorer.scenes(settings, x, explorer.truths, parcel)
            scenes |= {f"{i},{m},{a},{e}": {**scene, "flipped": _flipped(found)} for i, scene in enumerate(found)}
        pictures = torch.frombuffer(parcel.content, dtype=torch.uint8)
        return {"pictures": pictures}, {"about": about, "scenes": scenes}

    def _about(self, explorer: Explorer) -> dict[str, Any]:
        """What the explorer says of itself, with only the controls and settings for which there are scenes."""
        about = explorer.about()
        controls = {one["name"]: one for one in about["controls"] if one["name"] not in ("steps", "blur_sigma", "grid")}
        controls["map"] |= {"values": [[name, MAPS[name].label] for name in self.maps], "value": self.maps[0]}
        controls["eps"] |= {"values": self.budgets, "digits": 3}
        return {**about, "controls": list(controls.values()), "upload": False}


def _flipped(scenes: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Defence -> the images about which it is right, and no longer under attack."""
    said = [(i, scene["truth"], card) for i, scene in enumerate(scenes) for card in scene["cards"]]
    found: dict[str, list[int]] = {card["defence"]: [] for card in scenes[0]["cards"]}
    for i, truth, card in said:
        right, still = (int(np.argmax(card["chances"][given])) == truth for given in ("clean", "attacked"))
        found[card["defence"]] += [i] * (right and not still)
    return found


def snapshot(study: Study) -> Snapshot:
    """The snapshot of a study's main defences."""
    p = study.profile
    return Snapshot(
        networks=tuple((name, study.labels[name], study.training(name)) for name in DEFENCES if name in study.labels),
        source=study.surrogate(sources_of(study, study.architecture)[0]),
        images=min(IMAGES, p.test_images),
        maps=KINDS,
        budgets=tuple(sorted({min(share * p.eps, 1.0) for share in (0, 0.25, 0.5, 1, 1.5, 2)})),
        eps=p.eps,
        selection=tuple(vars(p.penalty.selection).items()),
        note=study.footer,
    )


def html(study: Study) -> str:
    """The snapshot of a study as a fragment of a page: style, script and data in one piece."""
    study.make([snapshot(study)])
    artefact = study.get(snapshot(study))
    return fragment(artefact.facts["about"], artefact.facts["scenes"], artefact.tensors["pictures"].numpy().tobytes())


def fragment(about: dict[str, Any], scenes: dict[str, Any], pictures: bytes) -> str:
    """The fragment, its data gzipped. Where no script runs, as on GitHub, a still picture stands in its place."""
    packed = {"scenes": _packed(json.dumps(scenes).encode()), "pictures": _packed(pictures)}
    front = {name: (FRONT / name).read_text(encoding="utf-8") for name in ("explorer.css", "explorer.js")}
    return f"""<style>{front["explorer.css"]}</style>
<div class="jsigr-snapshot">{still(about, scenes, pictures)}</div>
<script type="module">
{front["explorer.js"]}
const place = document.querySelector(".jsigr-snapshot");
const scenes = JSON.parse(new TextDecoder().decode(await unpack("{packed["scenes"]}")));
const pictures = await unpack("{packed["pictures"]}");
place.replaceChildren();
explore(place, fromSaved({_json(about)}, scenes, pictures));
</script>"""


def unpacked(html: str) -> tuple[dict[str, Any], dict[str, Any], bytes] | None:
    """What `fragment` has packed: what the explorer knows, its scenes and their pictures; None of other HTML."""
    found = re.search(PACKED, html, re.DOTALL)
    if found is None:
        return None
    scenes, pictures = (gzip.decompress(base64.b64decode(found[i])) for i in (1, 2))
    return json.loads(found[3]), json.loads(scenes), pictures


def glance(about: dict[str, Any], scenes: dict[str, Any], pictures: bytes) -> str:
    """The fragment with one slider, the budget: the gradient maps of one image under the transferred attack, the
    standard network's beside J-SIGR's. The image is the first that the attack flips for the one alone at the budget
    where the explorer begins, or else the first."""
    controls = {one["name"]: one for one in about["controls"]}
    budgets, names = controls["eps"]["values"], ["standard", "jsigr"]
    begins = budgets.index(controls["eps"]["value"])
    places = [key.partition(",")[0] for key in scenes if key.endswith(f",0,0,{begins}")]
    chosen = next((i for i in places if _flips_the_first(scenes[f"{i},0,0,{begins}"], names)), places[0])
    parcel = Parcel()
    kept = {f"0,0,{e}": _moved(scenes[f"{chosen},0,0,{e}"], pictures, parcel, names) for e in range(len(budgets))}
    shown = {**about, "title": "One image under attack", "only": ["eps"], "upload": False}
    shown["controls"] = [{**controls["defences"], "value": names}, controls["map"], controls["attack"]]
    shown["controls"] += [controls["eps"], controls["share"]]
    return fragment(shown, kept, bytes(parcel.content))


def _moved(scene: dict[str, Any], pictures: bytes, parcel: Parcel, names: list[str]) -> dict[str, Any]:
    """A scene of these defences, with its pictures in another parcel."""

    def put(place: list[int]) -> list[int]:
        return parcel.put_bytes(pictures[place[0] : sum(place)])

    cards = [
        {**card, "attacked": put(card["attacked"]), "maps": {name: put(place) for name, place in card["maps"].items()}}
        for card in scene["cards"]
        if card["defence"] in names
    ]
    return {**scene, "image": put(scene["image"]), "cards": cards}


def _flips_the_first(scene: dict[str, Any], names: list[str]) -> bool:
    cards = {card["defence"]: card["chances"] for card in scene["cards"]}
    first, second = (
        [int(np.argmax(cards[name][given])) == scene["truth"] for given in ("clean", "attacked")] for name in names
    )
    return first == [True, False] and second == [True, True]


def still(about: dict[str, Any], scenes: dict[str, Any], pictures: bytes) -> str:
    """What the explorer shows at first, as a picture with a caption: a row for each chosen network, with the clean
    image, its map, the attacked image and its map."""
    scene = scenes[first(about)]
    chosen = next(one["value"] for one in about["controls"] if one["kind"] == "several")
    cards = [card for card in scene["cards"] if card["defence"] in chosen]
    rows = [
        np.concatenate([_tile(about, pictures, place, drawn) for place, drawn in _row(scene, card)], axis=1)
        for card in cards
    ]
    image, png = Image.fromarray(np.concatenate(rows)), io.BytesIO()
    image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST).save(png, "png")
    data = base64.b64encode(png.getvalue()).decode()
    said = escape(" ".join([scene["summary"], *(card["summary"] for card in cards)]))
    order = escape(", then ".join(card["label"] for card in cards))
    return f"""<figure><img alt="{said}" src="data:image/png;base64,{data}">
<figcaption>From the top {order}: image, map, attacked image (budget {scene["eps"]:.3g}), map. {said} With scripts, as
on the site or in a trusted notebook, it moves.</figcaption></figure>"""


def first(about: dict[str, Any]) -> str:
    """The key of the scene with which the explorer begins."""
    places = []
    for one in about["controls"]:
        if one["kind"] != "several" and not one.get("local"):
            values = [value for value, _ in one["values"]] if one["kind"] == "choice" else one["values"]
            places.append(values.index(one["value"]))
    return ",".join(map(str, places))


def _row(scene: dict[str, Any], card: dict[str, Any]) -> list[tuple[list[int], bool]]:
    """The places of a row's pictures, and whether each is a map."""
    maps = card["maps"]
    return [(scene["image"], False), (maps["clean"], True), (card["attacked"], False), (maps["attacked"], True)]


def _tile(about: dict[str, Any], pictures: bytes, place: list[int], drawn: bool) -> np.ndarray:
    """A picture in colour, [height, width, 3] bytes, with a white edge."""
    height, width = about["size"]
    values = np.frombuffer(pictures[place[0] : sum(place)], np.uint8).reshape(height, width, -1)
    colour = (
        colormaps["magma"](values[..., 0], bytes=True)[..., :3]
        if drawn
        else np.broadcast_to(values, (height, width, 3))
    )
    return np.pad(colour, [(2, 2), (2, 2), (0, 0)], constant_values=255)


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _json(value: Any) -> str:
    """JSON that cannot end the script in which it stands."""
    return json.dumps(value).replace("<", "\\u003c")


def specs(study: Study, notebook: str) -> list[Spec]:
    """The artefacts that a notebook shows."""
    return [*NEEDS[study.profile.group][notebook](study), *([snapshot(study)] if notebook == "04_saliency" else [])]
