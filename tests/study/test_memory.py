from jsigr_lib.networks.counting import PLAIN, count_bytes
from jsigr_lib.study.attacked import Attacked
from jsigr_lib.study.memory import Task, largest


def test_the_largest_task(study):
    """An attack through several networks holds all of them at once; a training holds its images, too."""
    networks = tuple(study.training(name) for name in ("standard", "jsigr"))
    one, both = (Attacked(sources=some, attack="mi-fgsm", eps=0.1) for some in (networks[:1], networks))
    data = networks[0].data.train_images * 28 * 28
    plain = count_bytes("small-cnn", networks[0].width, *PLAIN, 28, 250)
    assert largest([*networks, one, both, networks[0].data]) == Task(
        "mi-fgsm through small-cnn, 250 images at a time", 2 * plain + data
    )
    found = largest(networks)
    spec = networks[1]
    batch = spec.batch_size
    assert found.what == f"a training of small-cnn by jsigr, {batch} images at a time"
    assert found.bytes == count_bytes("small-cnn", spec.width, "jsigr", spec.options, 28, batch) + data
    assert largest([networks[0].data]) is None


def test_a_task_in_words():
    assert str(Task("a training", 6_573_535_904)) == (
        "a training: about 6.6 GB of tensors, beside what torch itself takes"
    )
    assert "about 0.1 GB" in str(Task("a training", 1000))
