"""How presets and files lie over each other."""

import pytest

from latens.studies.configure import laid_over, load_layers, resolve
from latens.studies.scarcity import Scarcity


def test_settings_of_training_are_replaced_one_by_one():
    layers = load_layers("scarcity", ["phantoms-3d", "quick"], [])
    training = resolve(Scarcity, layers, [])["training"]
    assert training["batch_size"] == 8  # of the data
    assert training["max_steps"] == 250  # of the budget


def test_objects_are_replaced_whole():
    below = {"noise": {"class_path": "A", "init_args": {"scale": 1}}, "models": {"a": 1}}
    top = {"noise": {"class_path": "B"}, "models": {"b": 2}, "sizes": [3]}
    assert laid_over(below, top, ["training"]) == top


@pytest.mark.parametrize("order", [["quick", "phantoms-3d"], ["phantoms-3d", "quick"]])
def test_what_two_presets_both_say_of_training_is_the_later_ones(order):
    layers = load_layers("scarcity", order, [])
    assert resolve(Scarcity, layers, [])["training"]["validate_every"] == 25


def test_nothing_below_is_changed():
    below = {"training": {"max_steps": 5}}
    laid_over(below, {"training": {"max_steps": 7}}, ["training"])
    assert below == {"training": {"max_steps": 5}}
