import shutil

import pytest

from jsigr_lib.method.errors import InputError, between, one_line, one_of


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_one_of_names_the_value_and_what_is_accepted():
    one_of("device", "cpu", ["auto", "cpu"])
    with pytest.raises(InputError, match=r"^unknown device 'tpu'; accepted: auto, cpu$"):
        one_of("device", "tpu", ["auto", "cpu"])


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_between_includes_its_ends(value):
    between("eps", value, 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_between_shows_the_value(value):
    with pytest.raises(InputError, match=rf"^eps = {value} is out of range; accepted: 0 to 1$"):
        between("eps", value, 0, 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/a/b"), "No space left on device: /a/b"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("of a library that gives no number"), "of a library that gives no number"),
        (RuntimeError("first\n\n  second\tthird"), "first second third"),
        (RuntimeError(), "RuntimeError"),
        (
            shutil.Error([("a", "b", "[Errno 28] No space left: 'a'"), ("c", "d", "again")]),
            "[Errno 28] No space left: 'a'",
        ),
    ],
)
def test_one_line_of_any_error(error, said):
    assert one_line(error) == said
