"""The curriculum's pages on images: worked numbers, definitions, formulas. Claims are put to studies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.data.datasets import from_arrays
from rlab.data.readers import Arrays
from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.nn.encoders.densenet import GROWTH, Layer
from rlab.nn.encoders.mobilenet import Separable, unit
from rlab.nn.encoders.neocognitron import bump
from rlab.nn.heads import ClassifyHead
from rlab.nn.models import PUBLISHED, multiply_adds

IMAGE = torch.tensor([[1.0, 1, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 0, 0], [1, 1, 0, 1, 0], [0, 1, 1, 0, 0]])
CROSS = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
RNG = torch.Generator().manual_seed(0)


def filtered(image: Tensor, kernel: Tensor, **options: int) -> Tensor:
    """image[h, w], kernel[k, k] -> map[h', w']."""
    return F.conv2d(image[None, None], kernel[None, None], **options)[0, 0]


# Images and filters


def test_pictures_are_channels_by_height_by_width() -> None:
    """Items 167, 207: grey [1, H, W], colour [3, H, W]; seven filters of 3x3 make seven maps; a picture without
    channels is refused.
    """
    labels, classes = np.arange(20) % 2, ("a", "b")
    colour = from_arrays("mine", "images", Arrays(np.zeros((20, 3, 4, 5), np.uint8), labels, classes))
    assert colour.shape == (3, 4, 5)
    assert nn.Conv2d(3, 7, 3)(colour.inputs("train")).shape[1:] == (7, 2, 3)
    with pytest.raises(RlabError, match=r"it must be \[N, C, H, W\]"):
        from_arrays("mine", "images", Arrays(np.zeros((20, 4, 5), np.uint8), labels, classes))


def test_lights_add_and_inks_take_away() -> None:
    """Item 168: a display mixes red, green and blue light; cyan, magenta and yellow are what inks leave of white.

    The slide's "red, blue, yellow" are magenta, cyan and yellow. A raster scan goes line by line, as memory does.
    """
    red, green, blue = torch.eye(3)
    white = red + green + blue
    cyan, magenta, yellow = (white - light for light in (red, green, blue))
    assert (red + green).equal(yellow)
    assert (green + blue).equal(cyan)
    assert (cyan * magenta).equal(blue)
    assert (magenta * yellow).equal(red)
    assert (cyan * magenta * yellow).count_nonzero() == 0
    screen = torch.arange(12).view(3, 4)
    assert [int(screen[row, cell]) for row in range(3) for cell in range(4)] == screen.flatten().tolist()


def test_classic_filters() -> None:
    """Item 169: what blurs leaves a constant and sums to 1; what sharpens overshoots at an edge; Sobel and Laplace
    are the first and second derivatives.
    """
    row = torch.arange(7.0)
    ramp, bowl, edge = row.repeat(7, 1), (row**2).repeat(7, 1), (row > 2).float().repeat(7, 1)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    laplace = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    dot = torch.zeros(3, 3)
    dot[1, 1] = 1
    for blur in (torch.full((3, 3), 1 / 9), bump(3)):
        torch.testing.assert_close(filtered(torch.full((5, 5), 0.7), blur), torch.full((3, 3), 0.7))
        sharp = filtered(edge, 2 * dot - blur)
        assert sharp.min() < 0
        assert sharp.max() > 1
    assert bump(3).tolist() == [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]]
    assert filtered(ramp, sobel).eq(8).all()
    assert filtered(ramp, sobel.T).eq(0).all()
    assert filtered(ramp, laplace).eq(0).all()
    assert filtered(bowl, laplace).eq(2).all()
    expected = ndimage.correlate(IMAGE.numpy(), sobel.numpy(), mode="constant")[1:-1, 1:-1]
    assert filtered(IMAGE, sobel).tolist() == expected.tolist()


def test_the_blur_of_the_slides() -> None:
    """Item 170: itself times 1 and half of each neighbour, borders dropped. It is not normalised: brightness grows
    fivefold; divided by its sum it is a mean.
    """
    kernel = torch.full((3, 3), 0.5)
    kernel[1, 1] = 1
    pixel = torch.zeros(5, 5)
    pixel[2, 2] = 1
    assert filtered(pixel, kernel).tolist() == [[0.5, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 0.5]]
    assert kernel.sum() == 5
    assert filtered(torch.full((3, 3), 0.3), kernel).item() == pytest.approx(1.5)  # white is 1
    assert filtered(torch.full((3, 3), 0.3), kernel / 5).item() == pytest.approx(0.3)


def test_the_convolution_of_the_slides() -> None:
    """Items 171, 174: the X matches best in the centre (4); the top left, which the slide names, has only 2."""
    found = filtered(IMAGE, CROSS)
    assert found.tolist() == [[2, 3, 3], [2, 4, 2], [3, 1, 3]]
    assert (found == 4).nonzero().tolist() == [[1, 1]]
    assert (found == 3).nonzero().tolist() == [[0, 1], [0, 2], [2, 0], [2, 2]]


def test_the_pooling_of_the_slides() -> None:
    """Item 172."""
    maps = torch.tensor([[0.0, -9, -3, 1], [3, 0, -4, 5], [-1, 2, 2, 9], [0, 8, 2, 4]])
    assert F.max_pool2d(maps[None], 2)[0].tolist() == [[3, 5], [8, 9]]


# Convolution


def naive(image: Tensor, kernel: Tensor) -> Tensor:
    """Slide, multiply, add."""
    k = len(kernel)
    places = [range(side - k + 1) for side in image.shape]
    return torch.stack(
        [torch.stack([(image[r : r + k, c : c + k] * kernel).sum() for c in places[1]]) for r in places[0]]
    )


def test_kernels_are_learned_by_their_gradients() -> None:
    """Item 173: against finite differences; the gradient of a kernel is the correlation of image and output's."""
    image = torch.randn(1, 1, 5, 5, generator=RNG, dtype=torch.float64)
    kernel = torch.randn(1, 1, 3, 3, generator=RNG, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: F.conv2d(image, k), (kernel,))
    out = torch.randn(1, 1, 3, 3, generator=RNG, dtype=torch.float64)
    (found,) = torch.autograd.grad((F.conv2d(image, kernel) * out).sum(), kernel)
    torch.testing.assert_close(found[0, 0], naive(image[0, 0], out[0, 0]))


def test_flattening_loses_nothing() -> None:
    """Item 176: it can be undone; and a dense layer with its columns in the same new order says the same, so that
    training does, too: its gradients are the same in the new order.
    """
    x, order = torch.randn(6, 1, 4, 4, generator=RNG), torch.randperm(16, generator=RNG)
    assert x.flatten(1).view_as(x).equal(x)
    layer, other = nn.Linear(16, 3), nn.Linear(16, 3)
    other.weight.data, other.bias.data = layer.weight.data[:, order].clone(), layer.bias.data.clone()
    torch.testing.assert_close(other(x.flatten(1)[:, order]), layer(x.flatten(1)))
    layer(x.flatten(1)).square().sum().backward()
    other(x.flatten(1)[:, order]).square().sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(other.weight.grad, layer.weight.grad[:, order])


def test_convolution_is_equivariant_and_a_mean_over_places_invariant() -> None:
    """Item 177: maps move exactly as the image does, which is not invariance; the mean of a map is. A stride of 2
    bears only even shifts.
    """
    image = torch.zeros(1, 1, 16, 16)
    image[..., 5:11, 5:11] = torch.rand(6, 6, generator=RNG)
    conv, strided = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, 2, 1)
    moved = image.roll((1, 2), (2, 3))
    with torch.no_grad():
        torch.testing.assert_close(conv(moved), conv(image).roll((1, 2), (2, 3)))
        assert (conv(moved) - conv(image)).abs().max() > 0.05
        torch.testing.assert_close(conv(moved).mean((2, 3)), conv(image).mean((2, 3)))
        torch.testing.assert_close(strided(image.roll(2, 3)), strided(image).roll(1, 3))
        assert (strided(image.roll(1, 3)).mean((2, 3)) - strided(image).mean((2, 3))).abs().max() > 1e-3


def test_a_moved_picture_shares_one_cell_and_is_found_all_the_same() -> None:
    """Item 178: and turned by 45 degrees (a plus becomes an X) it is not found."""
    plus = 1 - CROSS
    plus[1, 1] = 1
    here, there, turned = (torch.zeros(7, 7) for _ in range(3))
    here[2:5, 1:4], there[2:5, 3:6], turned[2:5, 1:4] = plus, plus, CROSS
    assert (here * there).sum() == 1
    assert filtered(here, plus).max() == filtered(there, plus).max() == plus.sum()
    assert filtered(turned, plus).max() < plus.sum()


# Pooling and what follows


def test_pooling_has_nothing_to_learn_and_passes_gradients_on() -> None:
    """Items 179-181: the maximum sends all of a gradient to the place it took, the mean an equal part to each."""
    x = torch.tensor([[[1.0, 2], [4, 3]]], requires_grad=True)
    assert not [*nn.MaxPool2d(2).parameters(), *nn.AvgPool2d(2).parameters()]
    assert F.max_pool2d(x, 2).item() == 4
    assert F.avg_pool2d(x, 2).item() == 2.5
    for pool, expected in ((F.max_pool2d, [[0.0, 0], [1, 0]]), (F.avg_pool2d, [[0.25, 0.25], [0.25, 0.25]])):
        (found,) = torch.autograd.grad(pool(x, 2).sum(), x)
        assert found[0].tolist() == expected


def test_sizes_of_the_slides_photographs() -> None:
    """Items 182, 184: averages over 4x4, 8x8, 16x16 of 800x600; 4000x3000 in three colours is 36 million numbers."""
    photo = torch.zeros(1, 1, 600, 800)
    sizes = {k: tuple(F.avg_pool2d(photo, k).shape[2:]) for k in (4, 8, 16)}
    assert sizes == {4: (150, 200), 8: (75, 100), 16: (37, 50)}
    with torch.device("meta"):
        flat = nn.Flatten()(torch.zeros(1, 3, 3000, 4000))
        assert flat.shape[1] == 36_000_000
        assert nn.Linear(flat.shape[1], 100).weight.numel() == 3_600_000_000
        assert sum(p.numel() for p in nn.Conv2d(3, 16, 3).parameters()) == 448


def test_a_dense_layer_on_maps_is_a_convolution_as_large_as_they_are() -> None:
    """Item 185."""
    maps, dense, conv = torch.randn(2, 3, 4, 4, generator=RNG), nn.Linear(48, 5), nn.Conv2d(3, 5, 4)
    conv.weight.data, conv.bias.data = dense.weight.data.view(5, 3, 4, 4), dense.bias.data
    torch.testing.assert_close(conv(maps).flatten(1), dense(maps.flatten(1)))


def test_a_logit_is_the_mean_of_its_class_map() -> None:
    """Item 186: so the map of a class says where its evidence is (Zhou et al. 2016)."""
    maps, head = torch.randn(2, 3, 4, 4, generator=RNG), ClassifyHead(3, 5, "mean")
    evidence = F.conv2d(maps, head.logits.weight[:, :, None, None], head.logits.bias)
    torch.testing.assert_close(evidence.mean((2, 3)), head(maps))
    assert sum(p.numel() for p in head.parameters()) < sum(
        p.numel() for p in ClassifyHead(48, 5, "places").parameters()
    )


def seen_by(network: nn.Module, side: int = 24) -> int:
    """Width of what a value in the middle of the maps depends on."""
    x = torch.ones(1, 1, side, side, requires_grad=True)
    for p in network.parameters():
        nn.init.ones_(p)
    y = network(x)
    middle = y.shape[-1] // 2
    (found,) = torch.autograd.grad(y[0, 0, middle, middle], x)
    return int(found[0, 0].any(0).sum())


def test_stages_see_more_and_more() -> None:
    """Item 189: 3, 4, 8, 10 pixels wide with two stages of convolution 3x3 and a mean over 2x2."""
    layers = [nn.Conv2d(1, 1, 3), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3), nn.AvgPool2d(2)]
    assert [seen_by(nn.Sequential(*layers[: n + 1])) for n in range(4)] == [3, 4, 8, 10]


def test_two_small_filters_see_what_a_large_one_sees() -> None:
    """Item 198: two 3x3 see 5x5 with 18 weights for 25, three see 7x7 with 27 for 49."""
    for count, large in ((2, 5), (3, 7)):
        small = nn.Sequential(*(nn.Conv2d(1, 1, 3, bias=False) for _ in range(count)))
        assert seen_by(small) == seen_by(nn.Conv2d(1, 1, large)) == large
        assert sum(p.numel() for p in small.parameters()) == 9 * count < large**2


def test_what_a_depthwise_convolution_saves() -> None:
    """Item 204: 1 / M + 1 / k^2 of the products (Howard et al. 2017, section 3.1), M channels out: 8.4 times fewer."""
    for k, inside, out in ((3, 128, 128), (3, 32, 64), (3, 16, 512)):
        shape = (inside, 14, 14)
        both, once = Separable(inside, out, 1, 1), unit(inside, out, k, 1, 1, nn.ReLU)
        ratio = multiply_adds(both, shape) / multiply_adds(once, shape)
        assert ratio == pytest.approx(1 / out + 1 / k**2)
        if inside == out == 128:
            assert 1 / ratio == pytest.approx(8.4, abs=0.05)


def test_a_dense_block_grows_by_the_layer_and_a_transition_halves() -> None:
    """Item 205: each layer, not each block, adds k = 32 channels; transitions halve them (Huang et al. 2017)."""
    with torch.device("meta"):
        assert Layer(64)(torch.zeros(1, 64, 8, 8)).shape[1] == 64 + GROWTH == 96
        x, way = torch.zeros(1, 3, 64, 64), []
        for name, part in make_encoder("densenet121", (3, 64, 64)).features.named_children():
            x = part(x)
            if name.startswith(("pool", "dense", "trans")):
                way.append(x.shape[1])
    assert way == [64, 256, 128, 512, 256, 1024, 512, 1024]


def test_ends_of_the_published_networks() -> None:
    """Item 186: LeNet, AlexNet and VGG end in dense layers; GoogLeNet and all that came later in a mean over maps."""
    with torch.device("meta"):
        dense = {n for n in PUBLISHED if "-bn" not in n and hasattr(make_encoder(n, PUBLISHED[n].shape), "dense")}
    assert dense == {"lenet5", "lenet5-1998", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19"}


def test_units_of_a_hidden_layer() -> None:
    """Item 297: neurons side by side, each with its own weights; LSTM blocks likewise, each with its own four gates."""
    dense, blocks = nn.Linear(4, 7), nn.LSTM(4, 7)
    assert dense(torch.zeros(1, 4)).shape == (1, 7)
    assert blocks(torch.zeros(5, 1, 4))[0].shape == (5, 1, 7)
    assert blocks.weight_ih_l0.shape == (4 * 7, 4)
