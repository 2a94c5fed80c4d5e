"""Pictures of triangles, and labels that are left out."""

from __future__ import annotations

import pytest
import torch

from genctl.data.dataset import open_dataset
from genctl.data.triangles import DARKEST, Triangles, doubled_area, make_triangles, render
from genctl.errors import UsageError
from genctl.randomness import RandomStream


def test_grey_times_area_is_what_a_picture_holds() -> None:
    vertices = torch.tensor([[[3.0, 4.0], [25.0, 6.0], [10.0, 24.0]]], dtype=torch.float64)
    picture = render(vertices, torch.tensor([0.5], dtype=torch.float64), 28)
    area = float(doubled_area(vertices).abs()) / 2
    assert area == pytest.approx(213)  # by hand, half of 22 · 20 − 2 · 7
    assert float(picture.sum()) == pytest.approx(0.5 * area, rel=0.01)
    assert picture[0, 10, 12] == 0.5
    assert picture[0, 0, 0] == 0


def test_a_triangle_does_not_depend_on_the_order_of_its_vertices() -> None:
    vertices, grey = Triangles().draw(8, RandomStream(3, "t"))
    for order in ([1, 2, 0], [2, 1, 0]):
        other = render(vertices[:, order], grey, 28)
        assert torch.allclose(render(vertices, grey, 28), other, atol=1e-5)


def test_draws_keep_to_the_manifold_and_do_not_depend_on_their_number() -> None:
    manifold = Triangles(least_area=0.1)
    vertices, grey = manifold.draw(500, RandomStream(0, "t"))
    assert (doubled_area(vertices).abs() / 2 >= 0.1 * 28 * 28 - 1e-3).all()
    assert vertices.min() >= 0
    assert vertices.max() <= 28
    assert grey.min() >= DARKEST
    assert grey.max() <= 1
    assert torch.equal(manifold.draw(20, RandomStream(0, "t"))[0], vertices[:20])


def test_as_data_they_are_grey_pictures_of_two_splits() -> None:
    train, test = (open_dataset(f"toy:triangles?examples=60@{part}") for part in ("train", "test"))
    assert train.spec.shape == (1, 28, 28)
    assert (len(train), len(test)) == (60, 15)
    assert train.manifold == test.manifold == Triangles(examples=60)
    assert not torch.equal(train.examples[:15], test.examples)
    again = open_dataset("toy:triangles?examples=60")
    assert torch.equal(again.examples, train.examples)
    assert again.fingerprint == train.fingerprint


def test_another_size_is_drawn_and_what_is_not_on_the_manifold_has_none() -> None:
    small = open_dataset("toy:triangles?examples=4", size=16)
    assert small.spec.shape == (1, 16, 16)
    assert small.manifold == Triangles(size=16, examples=4)
    assert open_dataset("toy:triangles?examples=4", binarise="threshold").manifold is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sise": 28.0}, "size"),
        ({"size": 28.5}, "whole"),
        ({"least_area": 0.5}, "0.005 to 0.2"),
        ({"examples": 0.0}, "from 1"),
    ],
)
def test_options_out_of_range_are_refused(options, says) -> None:
    with pytest.raises(UsageError, match=says):
        make_triangles(options)


def test_two_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"28 pixels, and data.size is 16"):
        open_dataset("toy:triangles?size=28", size=16)
    with pytest.raises(UsageError, match="triangles"):
        open_dataset("toy:triangle")


# --- data.without --------------------------------------------------------------------------------
def test_a_label_is_left_out_and_the_others_keep_their_number() -> None:
    whole = open_dataset("digits", split="all")
    rest = open_dataset("digits", split="all", without=[3, 7])
    assert whole.labels is not None
    assert rest.labels is not None
    kept = (whole.labels != 3) & (whole.labels != 7)
    assert torch.equal(rest.labels, whole.labels[kept])
    assert torch.equal(rest.examples, whole.examples[kept])
    assert rest.spec == whole.spec
    assert rest.fingerprint != whole.fingerprint
    assert sum(rest.counts.values()) == int(kept.sum())


@pytest.mark.parametrize(
    ("spec", "labels", "says"),
    [
        ("digits", [12], "names 12, and the labels are 0 to 9"),
        ("toy:ring", [1], "no labels"),
        ("toy:triangles?examples=4", [1], "no labels"),
    ],
)
def test_labels_that_are_not_there_cannot_be_left_out(spec, labels, says) -> None:
    with pytest.raises(UsageError, match=says):
        open_dataset(spec, without=labels)
