"""Data sets in memory: splits, checks, batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.data.batches import Batches
from rlab.data.datasets import TensorDataset, from_arrays, load
from rlab.data.preprocess import fit
from rlab.data.readers import Arrays
from rlab.data.splits import split_items
from rlab.errors import RlabError


def tiny(n: int = 50, kind: str = "images", **changes: Any) -> TensorDataset:
    rng = np.random.default_rng(0)
    shape = {"images": (1, 4, 4), "segmentation": (3, 4, 4), "table": (3,), "series": (6, 2)}[kind]
    x = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    y: np.ndarray = np.arange(n) % 5
    if kind == "segmentation":
        y = (x[:, 0] > 127).astype(np.uint8)
    lengths = rng.integers(1, 7, n) if kind == "series" else None
    arrays = Arrays(x, y, tuple("abcde"), np.arange(n - 10, n), lengths, **changes)
    return from_arrays("tiny", kind, arrays)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 4), min_size=40, max_size=200),
    st.booleans(),
    st.integers(0, 50),
    st.sampled_from([None, 0.0, 0.1, 0.3]),
)
def test_splits_are_apart_complete_and_stratified(
    labels: list[int], published: bool, seed: int, validation: float | None
) -> None:
    y = np.array(labels)
    n = len(y)
    test = np.arange(n - 10, n) if published else None
    splits = split_items("it", n, y, test, seed, validation)
    joined = np.concatenate(list(splits.values()))
    assert np.array_equal(np.sort(joined), np.arange(n))
    assert list(splits) == (["train", "test"] if validation == 0 else ["train", "validation", "test"])
    if test is not None:
        assert np.array_equal(splits["test"], test)
        of, share = np.setdiff1d(np.arange(n), test), 0.1 if validation is None else validation
    else:
        assert len(splits["test"]) == round(0.15 * n)
        of = np.setdiff1d(np.arange(n), splits["test"])
        share = (0.15 if validation is None else validation) / 0.85
    if validation != 0:
        held = splits["validation"]
        assert len(held) == round(share * len(of))
        for label in set(labels):
            assert abs((y[held] == label).sum() - share * (y[of] == label).sum()) < 1
    again = split_items("it", n, y, test, seed, validation)
    assert all(np.array_equal(splits[name], again[name]) for name in splits)


def test_another_seed_is_another_draw_but_the_published_test_split_stays() -> None:
    y = np.arange(100) % 4
    one, two = (split_items("it", 100, y, np.arange(20), seed, None) for seed in (0, 1))
    assert not np.array_equal(one["validation"], two["validation"])
    assert np.array_equal(one["test"], two["test"])


def test_what_a_loaded_set_says(folders) -> None:
    data = load("iris")
    assert data.counts("test") == [8, 7, 7]  # 15 % of 3 x 50
    assert data.inputs("train").shape == (105, 4)
    assert data.targets("train").dtype == torch.int64
    with pytest.raises(RlabError, match="data set 'iris' has no split 'vaildation'; nearest: validation"):
        data.items("vaildation")
    numbers = load("diabetes")
    assert numbers.classes is None
    assert numbers.y.dtype == torch.float32
    assert numbers.counts("train") == []


def _put(data: TensorDataset, what: str, item: int, value: float) -> torch.Tensor:
    changed = getattr(data, what).clone()
    changed[item] = value
    return changed


def _float(data: TensorDataset) -> torch.Tensor:
    return data.x.float() / 255


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("images", lambda d: {"y": _put(d, "y", 7, 5)}, "has label 5 at item 7; there are 5 classes, 0 to 4"),
        ("images", lambda d: {"y": _put(d, "y", 7, -1)}, "has label -1 at item 7"),
        ("segmentation", lambda d: {"y": d.y + 4}, "has label 5 at item 0"),
        ("images", lambda d: {"y": d.y[:-1]}, "has 50 items but 49 labels"),
        ("images", lambda d: {"y": d.y.float()}, "must be whole numbers"),
        ("images", lambda d: {"classes": None}, "has no classes, so y must be float"),
        ("images", lambda d: {"classes": ()}, "empty list of classes"),
        ("images", lambda d: {"classes": tuple("abcdb")}, "has two classes named 'b'"),
        ("table", lambda d: {"classes": None, "y": torch.zeros(50, 0)}, "y must be float [N] or [N, K]"),
        ("images", lambda d: {"x": d.x[:, 0]}, "has x of shape [50, 4, 4]; it must be [N, C, H, W]"),
        ("images", lambda d: {"x": d.x[:, :, :0]}, "is empty"),
        ("images", lambda d: {"x": d.x.long()}, "has x of torch.int64; it must be uint8 or float32"),
        ("images", lambda d: {"x": d.x.float()}, "they must lie in 0..1"),
        (
            "images",
            lambda d: {"x": _float(d).index_fill(0, torch.tensor(3), float("nan"))},
            "NaN or Inf in x of item 3",
        ),
        (
            "table",
            lambda d: {"x": d.x.float().index_fill(0, torch.tensor(9), float("inf"))},
            "NaN or Inf in x of item 9",
        ),
        ("table", lambda d: {"classes": None, "y": _put(d, "y", 0, 0).float() / 0}, "NaN or Inf in y of item 0"),
        ("segmentation", lambda d: {"y": d.y[:, :3]}, "has y of shape [50, 3, 4]; it must be [50, 4, 4]"),
        ("series", lambda d: {"lengths": d.lengths + 6}, "lengths that are not one of 1..6"),
        ("series", lambda d: {"lengths": d.lengths[1:]}, "lengths that are not"),
        ("images", lambda d: {"kind": "image"}, "of kind 'image'; nearest: images"),
        ("images", lambda d: {"splits": {}}, "has no splits"),
        (
            "images",
            lambda d: {"splits": {"train": d.splits["train"][:0]}},
            "the split 'train' of data set 'tiny' is empty",
        ),
        ("images", lambda d: {"splits": {"train": torch.tensor([0, 50])}}, "names items that do not exist"),
        ("images", lambda d: {"splits": {"train": torch.tensor([0, 0])}}, "has items twice"),
        ("images", lambda d: {"splits": d.splits | {"test": d.splits["train"]}}, "has items twice, or shares them"),
    ],
)
def test_what_is_no_data_set(kind: str, change: Callable[[TensorDataset], dict[str, Any]], said: str) -> None:
    data = tiny(kind=kind)
    with pytest.raises(RlabError) as error:
        replace(data, **change(data))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, float("nan")])
def test_a_validation_share_out_of_range(share: float) -> None:
    with pytest.raises(RlabError, match="validation share of 'it' is"):
        split_items("it", 10, None, np.arange(3), 0, share)


def test_a_split_that_would_be_empty() -> None:
    arrays = Arrays(np.zeros((3, 2), np.float32), np.zeros(3, np.int64), ("a",))
    with pytest.raises(RlabError, match=r"the split '\w+' of data set 'small' is empty \(3 items in all\)"):
        from_arrays("small", "table", arrays)


def test_arrays_of_other_types_are_taken() -> None:
    x = np.frombuffer(bytes(range(40)), np.uint8).reshape(20, 2)  # read-only
    data = from_arrays("it", "table", Arrays(x.astype(np.float64), np.arange(20, dtype=np.int16) % 2, ("a", "b")))
    assert (data.x.dtype, data.y.dtype) == (torch.float32, torch.int64)
    assert from_arrays("it", "table", Arrays(x, np.arange(20) % 2, ("a", "b"))).x.dtype == torch.uint8


def test_arrays_of_another_byte_order_are_the_same_data() -> None:
    x, y, test = np.arange(40.0, dtype="<f4").reshape(20, 2), np.arange(20, dtype="<i4") % 2, np.array([3, 5], "<i8")
    plain = from_arrays("it", "table", Arrays(x, y, ("0", "1"), test))
    swapped = (a.astype(a.dtype.newbyteorder()) for a in (x, y))
    other = from_arrays("it", "table", Arrays(*swapped, np.array([0, 1]), np.isin(np.arange(20), test)))  # type: ignore[arg-type]
    assert other.classes == plain.classes
    for one, same in (
        (plain.x, other.x),
        (plain.y, other.y),
        *zip(plain.splits.values(), other.splits.values(), strict=True),
    ):
        assert torch.equal(one, same)
    assert from_arrays("it", "table", Arrays(x.astype(np.longdouble), y, ("0", "1"))).x.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": np.array([["a", "b"]] * 20)}, "has x of <U1 and shape [20, 2]"),
        ({"x": np.full((20, 2), None)}, "has x of object"),
        ({"x": np.zeros((20, 2), complex)}, "has x of complex128"),
        ({"y": np.array(["a", "b"] * 10)}, "has y of <U1"),
        ({"y": np.int64(3)}, "has y of int64 and shape []"),
        ({"test": np.array([0.0, 1.0])}, "has test of float64 and shape [2]; it must be an array of whole numbers"),
    ],
)
def test_arrays_that_are_no_numbers(changes: dict[str, Any], said: str) -> None:
    arrays = Arrays(np.zeros((20, 2), np.float32), np.arange(20) % 2, ("a", "b"))
    with pytest.raises(RlabError) as error:
        from_arrays("it", "table", replace(arrays, **changes))
    assert said in str(error.value)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_has_every_item_once(batch: int, seed: int, epoch: int) -> None:
    data = tiny()
    batches = Batches(data, batch, seed)
    seen = [b.items for b in batches.epoch(epoch)]
    assert len(seen) == len(batches) == -(-36 // batch)
    assert [len(items) for items in seen[:-1]] == [batch] * (len(seen) - 1)
    assert len(seen[-1]) == 36 - batch * (len(seen) - 1)  # the last one is kept, however small
    joined = torch.cat(seen)
    assert torch.equal(joined.sort().values, data.splits["train"])
    assert torch.equal(joined, Batches(data, 1, seed).order(epoch))  # the order knows no batch size


def test_batches_are_items_with_their_labels() -> None:
    data = tiny()
    for batch in Batches(data, 16, split="test", shuffle=False).epoch(0):
        assert torch.equal(batch.items, torch.arange(40, 50))
        torch.testing.assert_close(batch.x, data.x[40:].float() / 255)
        assert torch.equal(batch.y, data.y[40:])
        assert "lengths" not in batch.tensors
    series = tiny(kind="series")
    one = Batches(series, 7).at(2, 1)
    assert torch.equal(one["lengths"], series.lengths[one.items])  # type: ignore[index, arg-type]


def test_orders_differ_by_epoch_and_by_seed() -> None:
    orders = [tuple(Batches(tiny(), 9, seed).order(epoch).tolist()) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6


@pytest.mark.parametrize("text", ["", "flip,crop:1", "elastic,noise", "mixup,cutout:2"])
def test_a_resume_anywhere_is_exact(text: str) -> None:
    whole = Batches(tiny(), 8, seed=3, augment=text)
    expected = [b for epoch in (0, 1) for b in whole.epoch(epoch)]
    torch.manual_seed(99)
    for start in range(len(whole)):
        later = Batches(tiny(), 8, seed=3, augment=text)
        resumed = [*later.epoch(0, start), *later.epoch(1)]
        for a, b in zip(resumed, expected[start:], strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.y, b.y)
    back = whole.at(0, 2)  # any order
    assert torch.equal(back.x, expected[2].x)


def test_augmentation_of_a_batch_changes_by_epoch_and_seed_and_leaves_the_set_alone() -> None:
    data = tiny()
    before = data.x.clone()
    batches = Batches(data, 36, augment="brightness", shuffle=False)
    seen = [batches.at(epoch, 0).x for epoch in (0, 1)] + [
        Batches(data, 36, seed=1, augment="brightness", shuffle=False).at(0, 0).x
    ]
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(data.x, before)


def test_batches_of_one_epoch_draw_different_numbers() -> None:
    plain, bright = (Batches(tiny(), 12, augment=text) for text in ("", "brightness:0.01"))
    added = [(bright.at(0, n).x - plain.at(0, n).x).flatten(1).median(1).values for n in range(3)]
    assert (added[0] - added[1]).abs().max() > 1e-3
    assert (added[1] - added[2]).abs().max() > 1e-3


def test_masks_are_augmented_with_their_images() -> None:
    data = tiny(kind="segmentation")
    batch = Batches(data, 16, augment="flip:1,crop:1").at(0, 0)
    inside = batch.x.sum(1) > 0
    assert torch.equal((batch.x[:, 0] > 0.5)[inside], batch.y.bool()[inside])
    assert not torch.equal(batch.y, data.y[batch.items])


def test_mixup_gives_shares_of_classes() -> None:
    batch = Batches(tiny(), 16, augment="mixup:1").at(0, 0)
    assert batch.y.shape == (16, 5)
    torch.testing.assert_close(batch.y.sum(1), torch.ones(16))


def test_a_fitted_transform_comes_last() -> None:
    data = tiny()
    transform = fit("standard", data.inputs("train"))
    x = torch.cat([b.x for b in Batches(data, 10, transform=transform).epoch(0)])
    assert x.mean().abs() < 1e-5
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("images", {"batch": 0}, "the batch size is 0; it must be at least 1"),
        ("table", {"batch": 4, "augment": "flip"}, "augmentation changes images, and 'tiny' is of kind table"),
        ("images", {"batch": 4, "augment": "flup"}, "unknown augmentation 'flup'; nearest: flip"),
        ("images", {"batch": 4, "split": "dev"}, "has no split 'dev'"),
    ],
)
def test_batches_that_cannot_be(kind: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RlabError) as error:
        Batches(tiny(kind=kind), **settings)
    assert said in str(error.value)


@pytest.mark.parametrize(("epoch", "number"), [(0, 5), (0, -1), (-1, 0)])
def test_a_batch_that_does_not_exist(epoch: int, number: int) -> None:
    with pytest.raises(RlabError, match=r"there is no batch .* an epoch has 5 batches, from 0"):
        Batches(tiny(), 8).at(epoch, number)
