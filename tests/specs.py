"""Specs that nothing is computed from: a network, its data, and images attacked through it."""

from jsigr_lib.data.data import DataSpec
from jsigr_lib.networks.zoo import Training
from jsigr_lib.study.attacked import Attacked

DATA = DataSpec(
    dataset="fashion-mnist", content="0123456789abcdef" * 4, train_images=9, validation_images=2, test_images=2
)
NETWORK = Training(
    data=DATA,
    architecture="small-cnn",
    objective="jsigr",
    options=(("lambda_j", 0.01), ("lambda_s", 3.0)),
    epochs=2,
    batch_size=4,
    learning_rate=0.1,
    seed=0,
)
ATTACKED = Attacked(sources=NETWORK, attack="pgd", eps=0.1, settings=(("steps", 5),))


def changed(spec, **fields):
    """A spec from other fields: unlike model_copy, with a digest of its own."""
    return type(spec)(**{**{name: getattr(spec, name) for name in type(spec).model_fields}, **fields})
