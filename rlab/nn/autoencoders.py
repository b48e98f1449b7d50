"""Autoencoders as modules: an encoder, a code and a decoder; tied weights, sparse codes, a codebook; and VAEs."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.decoders import make_decoder
from rlab.nn.decoders.dense import MLPDecoder
from rlab.nn.encoders import make_encoder
from rlab.nn.encoders.mlp import MLP, Flat
from rlab.nn.layers.quantiser import VectorQuantiser


class TiedLinear(nn.Module):
    """The way back through another linear layer: its weights transposed, and a bias of its own.

    Args:
        source: the layer, n_in -> n_out; this one is n_out -> n_in.
    """

    def __init__(self, source: nn.Linear):
        super().__init__()
        self._source = (source,)  # in a tuple it is no part of this module: the weights are there once
        self.bias = nn.Parameter(source.weight.new_zeros(source.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """x[..., n_out] -> [..., n_in]."""
        return F.linear(x, self._source[0].weight.t(), self.bias)


class Pair(NamedTuple):
    """A layer of a stacked autoencoder: its way in, and its way back."""

    encode: nn.Module
    decode: nn.Module


class Autoencoder(nn.Module):
    """Data through a code and back: x[B, *shape] -> [B, *shape], unbounded (logits, where a loss takes them so).

    Args:
        encoder: to features[B, out_dim].
        code: features to codes[B, D]; None: features are the code.
        decoder: codes to data.
        active: how many of the D numbers stay, the largest ones (k-sparse, Makhzani & Frey 2014); 0: all.
        quantiser: what replaces codes by entries of a codebook.
    """

    def __init__(
        self,
        encoder: nn.Module,
        code: nn.Module | None,
        decoder: nn.Module,
        active: int = 0,
        quantiser: VectorQuantiser | None = None,
    ):
        super().__init__()
        self.encoder, self.decoder, self.active = encoder, decoder, active
        self.code = code or nn.Identity()
        self.quantiser = quantiser

    def encode(self, x: Tensor) -> Tensor:
        """x[B, *shape] -> codes[B, D], before they are quantised."""
        code: Tensor = self.code(self.encoder(x))
        return keep_largest(code, self.active) if self.active else code

    def decode(self, code: Tensor) -> Tensor:
        """codes[B, D] -> data[B, *shape], unbounded."""
        data: Tensor = self.decoder(code)
        return data

    def forward(self, x: Tensor) -> Tensor:
        """x[B, *shape] -> its reconstruction, unbounded."""
        code = self.encode(x)
        return self.decode(code if self.quantiser is None else self.quantiser(code).codes)

    def pairs(self) -> list[Pair]:
        """The layers from the first to the code, each with its way back: what greedy training trains one by one.

        Raises:
            RlabError: encoder and decoder are not dense layers that mirror each other.
        """
        encoder, decoder = self.encoder, self.decoder
        if not isinstance(encoder, (MLP, Flat)) or not isinstance(decoder, MLPDecoder):
            raise RlabError(
                f"{type(encoder).__name__} and {type(decoder).__name__} are no dense layers that mirror each other, so "
                "there are no pairs to be tied or trained greedily; nearest: --encoder mlp"
            )
        ways_in = _blocks(encoder.layers) if isinstance(encoder, MLP) else []
        if not isinstance(self.code, nn.Identity):  # below the code of a flat encoder there is no layer, but its shape
            ways_in.append(nn.Sequential(self.code) if ways_in else nn.Sequential(encoder, self.code))
        ways_back = _blocks(decoder.layers)[::-1]
        if len(ways_in) != len(ways_back):
            raise RlabError(f"the encoder has {len(ways_in)} layers and the decoder {len(ways_back)}; nearest: "
                            "--decoder mlp")  # fmt: skip
        return [Pair(*pair) for pair in zip(ways_in, ways_back, strict=True)]

    def tie(self) -> None:
        """Let each layer of the decoder use the weights of its counterpart, transposed.

        Raises:
            RlabError: see `pairs`.
        """
        decoder = cast(MLPDecoder, self.decoder)
        for pair in self.pairs():
            source = next(part for part in pair.encode.modules() if isinstance(part, nn.Linear))
            back = next(part for part in pair.decode.modules() if isinstance(part, nn.Linear))
            if (source.in_features, source.out_features) != (back.out_features, back.in_features):
                raise RlabError("tied weights need a decoder whose layers mirror the encoder's; nearest: --decoder mlp")
            place = next(i for i, layer in enumerate(decoder.layers) if layer is back)
            decoder.layers[place] = TiedLinear(source)


def _blocks(layers: nn.Sequential) -> list[nn.Sequential]:
    """Cut layers in front of each linear one; the parts share their modules."""
    found: list[list[nn.Module]] = []
    waiting: list[nn.Module] = []  # what stands in front of the first: Flatten
    for layer in layers:
        if any(isinstance(part, (nn.Linear, TiedLinear)) for part in layer.modules()):
            found.append([*waiting, layer])
            waiting = []
        elif found:
            found[-1].append(layer)
        else:
            waiting.append(layer)
    return [nn.Sequential(*block) for block in found]


def keep_largest(code: Tensor, k: int) -> Tensor:
    """Set all but the k largest numbers of each code[B, D] to 0 (Makhzani & Frey 2014, section 2.1)."""
    if k >= code.shape[-1]:
        return code
    values, places = code.topk(k, dim=-1)
    return torch.zeros_like(code).scatter(-1, places, values)


def make_autoencoder(
    encoder: str,
    shape: tuple[int, ...],
    code: int = 32,
    *,
    decoder: str = "",
    tied: bool = False,
    squash: bool = False,
    active: int = 0,
    codebook: dict[str, Any] | None = None,
    batch: Tensor | None = None,
) -> Autoencoder:
    """Build an autoencoder on a registered encoder.

    Args:
        encoder: its name, with its parts.
        shape: of one item.
        code: numbers of a code, made by a linear layer on the encoder's features; 0: the features themselves.
        decoder: a registered decoder; empty: the encoder's counterpart.
        tied: whether the decoder uses the encoder's weights.
        squash: whether the code's numbers are sigmoids.
        active: see `Autoencoder`.
        codebook: arguments of `VectorQuantiser` but the code's size; None: codes are numbers.
        batch: real inputs, for the initialisation lsuv.

    Raises:
        RlabError: a name is unknown, or parts do not go together.
    """
    made = make_encoder(encoder, shape, batch=batch)
    features: int = made.out_dim  # type: ignore[assignment]
    if isinstance(made, Flat) and not code:
        raise RlabError("encoder 'flat' gives inputs as they are, which are no code; nearest: --code 32")
    dim = code or features
    if active > dim:
        raise RlabError(f"of a code of {dim} numbers {active} cannot stay active; nearest: {dim}")
    layer: nn.Module | None = nn.Linear(features, code) if code else None
    if squash and layer is not None:
        layer = nn.Sequential(layer, nn.Sigmoid())
    if squash and layer is None and not any(isinstance(part, nn.Sigmoid) for part in made.modules()):
        raise RlabError(
            f"a code of mean activations between 0 and 1 is of sigmoids, and '{encoder}' has none; nearest: "
            f"--encoder {encoder}+sigmoid"
        )
    quantiser = None if codebook is None else VectorQuantiser(code_dim=dim, **codebook)
    back = make_decoder(encoder, shape, dim, layer=bool(code), name=decoder)
    model = Autoencoder(made, layer, back, active, quantiser)
    if tied:
        model.tie()
    return model


SPREAD = (-8.0, 8.0)
"""Range of the logarithm of a code's variance: outside of it exp and its gradient are of no use to float32."""


class VAE(nn.Module):
    """A variational autoencoder: q(z | x) is a normal distribution with a diagonal covariance, p(z) is N(0, I).

    Args:
        encoder: to features[B, out_dim].
        decoder: codes, and with classes the one-hot class behind them, to logits of pixels.
        code_dim: D.
        classes: K, of a conditional one: q(z | x, y) and p(x | z, y) (Kingma et al. 2014); 0: none.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, code_dim: int, classes: int = 0):
        super().__init__()
        self.encoder, self.decoder, self.code_dim, self.classes = encoder, decoder, code_dim, classes
        features: int = encoder.out_dim  # type: ignore[assignment]
        self.posterior = nn.Linear(features + classes, 2 * code_dim)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x[B, *shape], classes int64[B] -> mean[B, D] and logarithm of the variance [B, D] of q(z | x)."""
        mean, spread = self.posterior(self._with_class(self.encoder(x), y)).float().chunk(2, -1)
        return mean, spread.clamp(*SPREAD)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """codes[..., D], classes int64[...] -> logits[..., *shape]."""
        given = self._with_class(z, None if y is None else y.expand(z.shape[:-1]))
        flat: Tensor = self.decoder(given.flatten(0, -2))
        return flat.unflatten(0, z.shape[:-1])

    def _with_class(self, features: Tensor, y: Tensor | None) -> Tensor:
        if not self.classes:
            return features
        assert y is not None, "a conditional VAE is asked with classes"
        return torch.cat([features, F.one_hot(y, self.classes).to(features)], -1)


def make_vae(
    encoder: str,
    shape: tuple[int, ...],
    code: int,
    *,
    decoder: str = "",
    classes: int = 0,
    batch: Tensor | None = None,
) -> VAE:
    """Build a VAE on a registered encoder; arguments as of `make_autoencoder`.

    Raises:
        RlabError: a name is unknown, or parts do not go together.
    """
    made = make_encoder(encoder, shape, batch=batch)
    return VAE(made, make_decoder(encoder, shape, code + classes, name=decoder), code, classes)
