"""The published image networks: exact sizes, torchvision's keys, smaller images, heads on any of them."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn import QHead, make_encoder
from rlab.nn.encoders.lenet import CONNECTED, Partial, Squash, Subsampling
from rlab.nn.encoders.residual import Bottleneck, Cut, Padded, projection
from rlab.nn.encoders.small_images import Window, scale, sides
from rlab.nn.heads import ClassifyHead, RbfHead
from rlab.nn.heads.classify import digit_bitmaps
from rlab.nn.models import PUBLISHED, Classifier, classifier, multiply_adds
from rlab.nn.torchvision import from_torchvision, torchvision_keys

DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"

make_encoder("auto", (3,))  # registers what there is
NAMES = [*PUBLISHED, "resnet18-gn", "resnet20-gn", "neocognitron"]
LONG = (
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "plain56",
    "densenet121",
    "vgg13",
    "vgg13-bn",
    "vgg16-bn",
    "vgg19-bn",
)
"""Built like others that are tested quickly."""

QUICKLY = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in NAMES]

TORCHVISION = {
    "alexnet": (16, "12a60b133d7b54dc"),
    "vgg11": (22, "67a7eb563529a90c"),
    "vgg13": (26, "06fdc111ee6d2ed8"),
    "vgg16": (32, "26a44a8d3cab16c6"),
    "vgg19": (38, "2ae6c231664ee367"),
    "vgg11-bn": (62, "fed2755038a74a3e"),
    "vgg13-bn": (76, "1320c3bf26ac7c28"),
    "vgg16-bn": (97, "e238651c9f050805"),
    "vgg19-bn": (118, "091b7131554bd4ea"),
    "googlenet": (344, "5782b0243eeef78f"),
    "googlenet+aux": (364, "014a9157e8afb3c4"),
    "resnet18": (122, "867b8d8ae95f5a28"),
    "resnet34": (218, "d6dbfa48843359d6"),
    "resnet50": (320, "2d5b8870b35e1530"),
    "resnet101": (626, "83dfe6275c4f12d9"),
    "mobilenet-v2": (314, "b37e2a9130e6341b"),
    "densenet121": (727, "d9126905d0ec5cf6"),
}
"""Keys in the state_dict of torchvision 0.22's model, and the start of the SHA-256 of its sorted lines "key [shape]",
taken from torchvision itself; the outputs were equal to the bit there, with random weights."""


def on_meta(name: str, shape: tuple[int, ...], classes: int, auxiliary: bool = False) -> Classifier:
    with torch.device("meta"):
        return classifier(name, shape, classes, auxiliary=auxiliary)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# Exact sizes


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_the_published_size(name: str) -> None:
    facts = PUBLISHED[name]
    assert size(on_meta(name, facts.shape, facts.classes)) == facts.parameters


def test_the_published_sizes_are_those_of_the_papers() -> None:
    """Once more by hand, apart from the table in the code. Items 196-199, 202, 204, 205."""
    assert {name: facts.parameters for name, facts in PUBLISHED.items() if "-bn" not in name} == {
        "lenet5": 156 + 2416 + 48_120 + 10_164 + 850,
        "lenet5-1998": 60_000,
        "alexnet": 61_100_840,
        "vgg11": 132_863_336,
        "vgg13": 133_047_848,
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "googlenet": 6_624_904,
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet20": 269_722,
        "resnet32": 464_154,
        "resnet56": 853_018,
        "resnet110": 1_727_962,
        "plain20": 269_722,
        "plain56": 853_018,
        "mobilenet-v1": 4_231_976,
        "mobilenet-v2": 3_504_872,
        "densenet121": 7_978_856,
    }
    stages = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
    for name, depths in stages.items():  # two numbers more for each channel of each convolution
        norms = 2 * sum(d * c for d, c in zip(depths, (64, 128, 256, 512, 512), strict=True))
        assert PUBLISHED[f"{name}-bn"].parameters == PUBLISHED[name].parameters + norms
    assert PUBLISHED["vgg16-bn"].parameters == 138_365_992


def test_googlenet_with_both_auxiliary_classifiers() -> None:
    """Item 199."""
    assert size(on_meta("googlenet", (3, 224, 224), 1000, auxiliary=True)) == 13_004_888


def test_lenet_of_1998_layer_by_layer() -> None:
    """Item 196."""
    network = classifier("lenet5-1998", (1, 32, 32), 10)
    layers = [*network.encoder.convolutions, *network.encoder.dense]
    assert [size(layer) for layer in layers if size(layer)] == [156, 12, 1516, 32, 48_120, 10_164]
    assert size(network.head) == 0
    assert sum(b.numel() for b in network.head.buffers()) == 840
    assert size(classifier("lenet5-1998", (1, 28, 28), 10)) == 60_000  # in a frame of 2


# LeNet of 1998, by hand


def test_c3_sees_the_maps_of_table_one() -> None:
    by_map_below = [[out for out, seen in enumerate(CONNECTED) if below in seen] for below in range(6)]
    assert by_map_below == [
        [0, 4, 5, 6, 9, 10, 11, 12, 14, 15],
        [0, 1, 5, 6, 7, 10, 11, 12, 13, 15],
        [0, 1, 2, 6, 7, 8, 11, 13, 14, 15],
        [1, 2, 3, 6, 7, 8, 9, 12, 14, 15],
        [2, 3, 4, 7, 8, 9, 10, 12, 13, 15],
        [3, 4, 5, 8, 9, 10, 11, 13, 14, 15],
    ]
    layer = Partial()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    x = torch.zeros(1, 6, 5, 5)
    x[0, 3] = 1.0
    assert layer(x).flatten().tolist() == [25.0 * (3 in seen) for seen in CONNECTED]


def test_subsampling_and_squashing_by_hand() -> None:
    layer = Subsampling(2, Window(2, 2, 0, pool=True))
    with torch.no_grad():
        layer.coefficient[:, 0, 0] = torch.tensor([0.5, 2.0])
        layer.bias[:, 0, 0] = torch.tensor([1.0, -1.0])
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 2, 2, 2)
    assert layer(x).flatten().tolist() == [0.5 * 10 + 1, 2 * 10 - 1]
    assert Squash()(torch.tensor([1.0, -1.0, 0.0])).tolist() == pytest.approx([1, -1, 0], abs=1e-4)


def test_rbf_outputs_are_distances_to_ten_different_bitmaps() -> None:
    bitmaps = digit_bitmaps()
    assert bitmaps.shape == (10, 7 * 12)
    assert set(bitmaps.unique().tolist()) == {-1.0, 1.0}
    scores = RbfHead()(bitmaps)
    assert scores.argmax(1).tolist() == list(range(10))
    assert scores.diagonal().eq(0).all()
    differ = (bitmaps[3] != bitmaps[8]).sum()
    assert scores[3, 8] == -4 * differ
    assert differ > 0
    with pytest.raises(RlabError, match="bitmaps of 10 digits for 84 features, not 7 classes for 84"):
        classifier("lenet5-1998", (1, 28, 28), 7)


@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998"])
def test_a_lenet_learns_a_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = classifier(name, (1, 28, 28), 10)
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(80):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network(images).argmax(1) == labels).float().mean() >= 0.9  # 1.0 where this was written; chance is 0.1


# torchvision


@pytest.mark.parametrize("name", TORCHVISION)
def test_keys_and_shapes_are_torchvisions(name: str) -> None:
    model, _, auxiliary = name.partition("+")
    keys = torchvision_keys(model, bool(auxiliary))
    lines = "\n".join(f"{key} {list(shape)}" for key, shape in sorted(keys.items()))
    assert (len(keys), hashlib.sha256(lines.encode()).hexdigest()[:16]) == TORCHVISION[name]


@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in LONG])
def test_every_weight_of_torchvision_has_one_place(name: str) -> None:
    model, _, auxiliary = name.partition("+")
    theirs = {key: torch.empty(shape, device="meta") for key, shape in torchvision_keys(model, bool(auxiliary)).items()}
    network = on_meta(model, PUBLISHED[model].shape, 1000, bool(auxiliary))
    ours = from_torchvision(model, theirs, bool(auxiliary))
    assert {id(value) for value in ours.values()} == {id(value) for value in theirs.values()}
    network.load_state_dict(ours, strict=True, assign=True)


def test_a_few_keys_by_name() -> None:
    """As torchvision's files have them."""
    assert torchvision_keys("vgg16")["classifier.6.weight"] == (1000, 4096)
    assert torchvision_keys("resnet50")["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1)
    assert torchvision_keys("googlenet", True)["aux2.conv.conv.weight"] == (128, 528, 1, 1)
    assert torchvision_keys("mobilenet-v2")["features.18.1.running_var"] == (1280,)
    assert torchvision_keys("densenet121")["features.denseblock4.denselayer16.conv2.weight"] == (32, 128, 3, 3)
    assert torchvision_keys("alexnet", classes=7)["classifier.6.bias"] == (7,)


def theirs_of(name: str, **options: int) -> dict[str, Tensor]:
    """Weights as torchvision's files have them, without its counters of batches, as old files are."""
    generator = torch.Generator().manual_seed(0)
    keys = torchvision_keys(name, **options).items()
    return {k: torch.rand(s, generator=generator) for k, s in keys if not k.endswith("num_batches_tracked")}


def test_weights_arrive_where_they_belong_and_count_their_own_classes() -> None:
    theirs = theirs_of("resnet18", classes=7)
    ours = from_torchvision("resnet18", theirs)
    network = classifier("resnet18", (3, 224, 224), 7)
    network.load_state_dict(ours, strict=True)
    assert network.encoder.layer2[0].downsample[0].weight.equal(theirs["layer2.0.downsample.0.weight"])
    assert network.head.logits.bias.equal(theirs["fc.bias"])
    assert network.encoder.bn1.num_batches_tracked == 0


def test_old_names_of_densenet_and_auxiliary_weights_that_nobody_wants() -> None:
    theirs = theirs_of("densenet121", classes=2)
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in theirs.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    ours = from_torchvision("densenet121", old)
    where = "features.denseblock3.denselayer24.conv2.weight"
    assert ours[f"encoder.{where}"] is theirs[where]
    inception = theirs_of("googlenet", auxiliary=True, classes=2)
    assert not [key for key in from_torchvision("googlenet", inception) if "aux" in key]
    assert from_torchvision("googlenet", inception, auxiliary=True)["encoder.aux1.fc2.bias"].shape == (2,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "'fc.bias' is missing"),
        ({"layer1.0.conv1.weight": torch.zeros(3)}, r"'layer1.0.conv1.weight' is \[3\], not \[64, 64, 3, 3\]"),
        ({"layer1.0.conv3.weight": torch.zeros(3)}, "it has no 'layer1.0.conv3.weight'; nearest: layer1.0.conv"),
        ({"bn1.weight": "nonsense"}, "'bn1.weight' is missing"),
    ],
)
def test_other_weights_are_refused_by_name(change: dict[str, Tensor], message: str) -> None:
    theirs = {**theirs_of("resnet18"), **change}
    with pytest.raises(RlabError, match="not torchvision's weights of 'resnet18': " + message):
        from_torchvision("resnet18", theirs)


def test_what_torchvision_does_not_have_is_told() -> None:
    with pytest.raises(RlabError, match="no weights for 'resnet20'; nearest: resnet"):
        from_torchvision("resnet20", {})
    with pytest.raises(RlabError, match="no weights for 'nonsense'"):
        torchvision_keys("nonsense")
    with pytest.raises(RlabError, match="not torchvision's weights of 'vgg11': it has no 'model'"):
        from_torchvision("vgg11", {"model": {}})


# Smaller images


def test_resnet18_loses_its_pooling_first_and_then_the_stem() -> None:
    """224: 7x7. 84: 42, pooling dropped, 42, 21, 11, 6. 32: 4x4 of stages. 10: only the last stage halves."""
    with torch.device("meta"):
        networks = {side: make_encoder("resnet18", (1, side, side)) for side in (224, 84, 32)}
    strides = {side: [w.stride for w in network.windows] for side, network in networks.items()}
    assert strides == {224: [2, 2, 2, 2, 2], 84: [2, 1, 2, 2, 2], 32: [1, 1, 2, 2, 2]}
    small = make_encoder("resnet18", (1, 10, 10))
    assert [w.stride for w in small.windows] == [1, 1, 1, 1, 2]
    assert small.conv1.kernel_size == (3, 3)
    assert small.feature_maps(torch.zeros(1, 1, 10, 10)).shape == (1, 512, 5, 5)


def test_alexnet_by_hand() -> None:
    """28: without pooling and stride of the stem 28, 13, 6. 84: (84 + 4 - 11) / 4 + 1 = 20, 9, 4."""
    stem, pool, *_ = scale("alexnet", (1, 28, 28), make_alexnet_windows())
    assert (stem, pool) == (Window(3, 1, 1), Window(1, 1, 0, pool=True))
    for side, expected in ((28, 6), (84, 4), (224, 6)):
        assert sides((1, side, side), scale("alexnet", (1, side, side), make_alexnet_windows())) == (expected, expected)


def make_alexnet_windows() -> list[Window]:
    pool = Window(3, 2, 0, pool=True)
    return [Window(11, 4, 2), pool, Window(5, 1, 2), pool, *[Window(3, 1, 1)] * 3, pool]


windows = st.builds(
    Window,
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    pool=st.booleans(),
    ceil=st.booleans(),
).filter(lambda w: 2 * w.padding <= w.kernel)


@given(windows, st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_sides_are_those_that_torch_computes(window: Window, side: int) -> None:
    try:
        pool = nn.MaxPool2d(window.kernel, window.stride, window.padding, ceil_mode=window.ceil)
        expected = pool(torch.zeros(1, 1, side, side, device="meta")).shape[2]
    except RuntimeError:  # nothing would be left
        assert window.side(side) <= 0
        return
    assert window.side(side) == expected


with torch.device("meta"):
    FULL = {name: make_encoder(name, (1, 260, 260)).windows for name in ("vgg16", "googlenet", "resnet20", "lenet5")}


@given(st.sampled_from(sorted(FULL)), st.integers(12, 260))
@settings(max_examples=100, deadline=None)
def test_no_more_is_dropped_than_maps_of_4x4_need(name: str, side: int) -> None:
    full = FULL[name]
    kept = scale(name, (1, side, side), full)
    assert min(sides((1, side, side), kept)) >= 4
    dropped = [i for i, (now, then) in enumerate(zip(kept, full, strict=True)) if now.stride != then.stride]
    order = [i for i, window in enumerate(full) if window.stride > 1]
    if name == "googlenet":
        order[:2] = 1, 0  # the stem's pooling goes before its stride
    assert sorted(order[: len(dropped)]) == dropped  # the earliest, without gaps
    if dropped:
        last = order[len(dropped) - 1]
        assert min(sides((1, side, side), [full[i] if i == last else w for i, w in enumerate(kept)])) < 4


@pytest.mark.parametrize(
    ("name", "shape", "parts"),
    [
        ("lenet5", (1, 28, 28), ("convolutions.0", "convolutions.3", "dense.1", "dense.3")),
        ("minatar-norm", (4, 10, 10), ("convolution.0", "convolution.1", "dense.0", "dense.1")),
    ],
)
def test_keys_are_those_of_older_runs(name: str, shape: tuple[int, ...], parts: tuple[str, ...]) -> None:
    keys = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    assert [*make_encoder(name, shape).state_dict()] == keys


@pytest.mark.parametrize("name", QUICKLY)
def test_what_is_too_small_or_no_image_is_refused(name: str) -> None:
    smallest = 8 if "lenet5" in name else 4
    for shape in ((1, smallest - 1, 90), (90, 90), (12,), (0, 28, 28), (1, 2, 3, 90, 90)):
        wanted = f"encoder '{name}' takes images [C, H, W] of at least {smallest}x{smallest}, not {list(shape)}; "
        with pytest.raises(RlabError, match=re.escape(wanted)):
            make_encoder(name, shape)
    with torch.device("meta"):
        encoder = make_encoder(name, (2, smallest, smallest + 3))
        obs = torch.zeros(2, 2, smallest, smallest + 3)
    assert encoder(obs).shape == (2, encoder.out_dim)


@pytest.mark.parametrize("name", QUICKLY)
def test_every_image_encoder_works_under_a_q_head(name: str) -> None:
    """28x28 with a batch in training, 84x84 with one image in evaluation; dense layers of 100 million on meta."""
    torch.manual_seed(0)
    with torch.device("meta" if name.startswith(("vgg", "alexnet")) else "cpu"):
        encoder, images = make_encoder(name, (1, 28, 28)), torch.rand(2, 1, 28, 28)
        head = QHead(encoder.out_dim, 5)
        maps = encoder.feature_maps(images)
        assert maps.shape[2:] == sides((1, 28, 28), encoder.windows)
        features = encoder(images)
        assert features.shape == (2, encoder.out_dim)
        head(features).square().sum().backward()
        assert all(p.grad is not None for p in [*encoder.parameters(), *head.parameters()])

        encoder, image = make_encoder(name, (4, 84, 84)).eval(), torch.rand(1, 4, 84, 84)
        with torch.no_grad():
            features = encoder(image)
    assert features.shape == (1, encoder.out_dim)
    assert features.is_meta or features.isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "mobilenet-v1", "mobilenet-v2", "lenet5-1998"])
def test_in_evaluation_no_image_depends_on_the_others(name: str) -> None:
    torch.manual_seed(0)
    encoder = make_encoder(name, (3, 32, 32))
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        encoder(images)  # statistics that are not those at the start
        encoder.eval()
        torch.testing.assert_close(encoder(images[:1]), encoder(images)[:1], rtol=1e-3, atol=1e-4)


def test_with_groupnorm_no_image_depends_on_the_others_in_training_either() -> None:
    torch.manual_seed(0)
    encoder, images = make_encoder("resnet20-gn", (3, 32, 32)), torch.rand(4, 3, 32, 32)
    assert not list(encoder.buffers())
    with torch.no_grad():
        torch.testing.assert_close(encoder(images[:1]), encoder(images)[:1])


# Blocks


def test_shortcuts_by_hand() -> None:
    x = torch.arange(1.0, 33.0).view(1, 2, 4, 4)
    padded = Padded(2, 4, 2, nn.BatchNorm2d)(x)
    assert padded.shape == (1, 4, 2, 2)
    assert padded[0, 1].tolist() == [[1.0, 3.0], [9.0, 11.0]]
    assert padded[0, 2].tolist() == [[17.0, 19.0], [25.0, 27.0]]
    assert padded[0, [0, 3]].eq(0).all()
    assert Cut(2, 4, 2, nn.BatchNorm2d)(x) == 0


def test_a_bottleneck_by_hand() -> None:
    """Ones everywhere: 3 channels, 4 sums of them, 3x3 of 4 in the middle of the maps, 16 sums of 4."""
    block = Bottleneck(3, 4, 2, norm=lambda channels: nn.Identity(), shortcut=Cut)
    for p in block.parameters():
        nn.init.ones_(p)
    y = block(torch.ones(1, 3, 6, 6))
    assert y.shape == (1, 16, 3, 3)
    assert y[0, :, 1, 1].tolist() == [3 * 9 * 4 * 4] * 16
    assert y[0, :, 0, 0].tolist() == [3 * 4 * 4 * 4] * 16  # a corner, where the frame of zeros counts
    assert size(block) == 3 * 4 + 4 * 4 * 9 + 4 * 16
    assert size(Bottleneck(3, 4, 2, nn.BatchNorm2d, projection)) == size(block) + 3 * 16 + 2 * (4 + 4 + 16 + 16)


def test_only_the_residual_network_passes_its_input_around_silent_layers() -> None:
    """With the second norm of every block at 0, blocks are shortcuts: what is left is the stem, or nothing.

    Item 203.
    """
    torch.manual_seed(0)
    found = {}
    for name in ("resnet20", "plain20"):
        encoder = make_encoder(name, (3, 32, 32)).eval()
        for module in encoder.modules():
            if hasattr(module, "bn2"):
                nn.init.zeros_(module.bn2.weight)
        images = torch.rand(1, 3, 32, 32)
        with torch.no_grad():
            stem = torch.relu(encoder.bn1(encoder.conv1(images)))
            found[name] = encoder.feature_maps(images)
            if name == "resnet20":
                assert found[name][:, 24:40].equal(stem[:, :, ::4, ::4])  # 8 + 16 channels of zeros in front
    assert found["resnet20"].count_nonzero() > 0
    assert found["plain20"].count_nonzero() == 0


def test_auxiliary_classifiers_of_googlenet() -> None:
    network = classifier("googlenet", (3, 32, 32), 7, auxiliary=True)
    logits = network.with_auxiliary(torch.rand(2, 3, 32, 32))
    assert [tuple(given.shape) for given in logits] == [(2, 7)] * 3
    sum(given.sum() for given in logits).backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(RlabError, match="encoder 'vgg11' has no auxiliary classifiers; nearest: googlenet"):
        classifier("vgg11", (3, 32, 32), 7, auxiliary=True)
    with pytest.raises(RlabError, match="this googlenet has no auxiliary classifiers"):
        make_encoder("googlenet", (3, 32, 32)).with_auxiliary(torch.rand(2, 3, 32, 32))


# Heads


def test_heads_on_maps_by_hand() -> None:
    """Items 185, 186."""
    maps = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])  # [1, 2, 1, 2]
    mean, places = ClassifyHead(2, 1, "mean"), ClassifyHead(4, 1, "places")
    with torch.no_grad():
        mean.logits.weight.copy_(torch.tensor([[1.0, 10.0]]))
        places.logits.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        for head in (mean, places):
            head.logits.bias.fill_(0.5)
    assert mean(maps).tolist() == [[2 + 60 + 0.5]]
    assert places(maps).tolist() == [[1 + 30 + 500 + 7000 + 0.5]]


@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998", "vgg11", "resnet20", "nature", "impala", "minatar"])
@pytest.mark.parametrize("top", ["mean", "places"])
def test_a_head_on_maps_leaves_no_layer_unused(name: str, top: str) -> None:
    with torch.device("meta"):
        network = classifier(name, (3, 36, 36), 5, top=top)
        images = torch.rand(2, 3, 36, 36)
    maps = network.encoder.feature_maps(images)
    assert size(network.head) == 5 * (1 + (maps.shape[1] if top == "mean" else maps[0].numel()))
    logits = network(images)
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.encoder(images).shape == (2, network.encoder.out_dim)


def test_classifiers_that_cannot_be_are_told() -> None:
    with pytest.raises(RlabError, match="encoder 'mlp' has no feature maps for a head with top 'mean'"):
        classifier("mlp", (3, 32, 32), 5, top="mean")
    with pytest.raises(RlabError, match="unknown top 'meen' of a classifier; nearest: mean"):
        classifier("resnet20", (3, 32, 32), 5, top="meen")
    with pytest.raises(RlabError, match="at least 1 class, not 0"):
        classifier("resnet20", (3, 32, 32), 0)
    with pytest.raises(RlabError, match="unknown encoder 'resnet21'; nearest: resnet"):
        classifier("resnet21", (3, 32, 32), 5)


# Work


def test_multiply_adds_by_hand() -> None:
    """A convolution 3x3 from 2 to 4 channels on 6x5 places with padding, half of it grouped, and a linear layer."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Flatten(), nn.Linear(120, 7)
    )
    assert multiply_adds(network, (2, 6, 5)) == 30 * 4 * 2 * 9 + 30 * 4 * 9 + 120 * 7


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("alexnet", "0.714"),
        ("vgg11", "7.61"),
        ("resnet18", "1.81"),
        ("mobilenet-v2", "0.301"),
        pytest.param("resnet50", "4.09", marks=pytest.mark.slow),
        pytest.param("densenet121", "2.834", marks=pytest.mark.slow),
        pytest.param("googlenet", "1.498", marks=pytest.mark.slow),
        pytest.param("vgg19", "19.63", marks=pytest.mark.slow),
        pytest.param("resnet101", "7.80", marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_the_published_ones(name: str, billions: str) -> None:
    found = multiply_adds(on_meta(name, (3, 224, 224), 1000), (3, 224, 224)) / 1e9
    assert f"{found:.{len(billions.partition('.')[2])}f}" == billions


def test_other_encoders_are_counted_too() -> None:
    """Nature's by hand; IMPALA's with spectral norm, whose layers ask for their device, more than without."""
    layers = 400 * 32 * 4 * 64 + 81 * 64 * 32 * 16 + 49 * 64 * 64 * 9 + 3136 * 512
    assert multiply_adds(make_encoder("nature-norm", (4, 84, 84)), (4, 84, 84)) == layers
    counts = [multiply_adds(make_encoder(name, (4, 84, 84)), (4, 84, 84)) for name in ("impala", "impala-btr")]
    assert counts[0] < counts[1]


def test_counting_leaves_the_network_as_it_is() -> None:
    network = classifier("resnet20", (3, 32, 32), 10).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    multiply_adds(network, (3, 32, 32))
    assert network.training
    assert network.encoder.conv1.weight.requires_grad
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(value.equal(after[key]) for key, value in before.items())


def row_of(name: str) -> str:
    """One row of the table in docs/encoders.md."""
    cells = []
    for shape in ((1, 28, 28), (4, 84, 84), (3, 224, 224)):
        network = on_meta(name, shape, PUBLISHED[name].classes)
        stride = math.prod(w.stride for w in network.encoder.windows)
        height, width = sides(shape, network.encoder.windows)
        cells.append(f"{stride}: {height}x{width}, {multiply_adds(network, shape) / 1e6:,.1f}")
    return f"| {name} | {' | '.join(cells)} |"


@pytest.mark.parametrize(
    "name", [n if n in ("alexnet", "vgg11", "resnet18") else pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED]
)
def test_the_documented_table_is_what_the_code_does(name: str) -> None:
    assert row_of(name) in DOCS.read_text().splitlines()
