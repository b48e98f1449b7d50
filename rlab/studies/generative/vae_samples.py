"""Pictures drawn from a VAE and from an autoencoder, by how far their distribution is from that of real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Both with a layer on either side of the code, and the features of a classifier to compare pictures by."""

    data: str = "mnist"
    """The pictures."""
    train: int = 20_000
    """Training examples."""
    test: int = 5_000
    """Test examples, and samples."""
    hidden: int = 400
    """Units of the layer on either side of the code."""
    code: int = 16
    """Numbers of a code."""
    steps: int = 15_000
    """Updates, of 64 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Logarithm of the Frechet distance of samples to test pictures, and that of training pictures."""
    import torch
    from torch import nn

    from rlab.nn.autoencoders import make_vae
    from rlab.nn.layers import drawing_from
    from rlab.nn.variational import bernoulli_log_likelihood, gaussian_kl
    from rlab.seeding import derive
    from rlab.studies.autoencoders import autoencoder, train
    from rlab.studies.supervised import examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    judge = network((data.x[0].numel(), 64, 24, 10), "tanh", seed=seed)
    adam = torch.optim.Adam(judge.parameters(), 2e-3)
    fit(judge, data.x, data.y, adam, steps=settings.steps // 2, batch_size=64, seed=seed)
    features, dice = judge[:-1], torch.Generator().manual_seed(derive(seed, "samples"))
    noise = torch.randn(len(data.x_test), settings.code, generator=dice)
    name, shape = f"mlp-{settings.hidden}", tuple(data.x.shape[1:])
    if variant == "vae":
        with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
            vae = make_vae(name, shape, settings.code)

        class Bound(nn.Module):
            """x to the bound of its likelihood in nats, negative."""

            def __init__(self) -> None:
                super().__init__()
                self.model = vae

            def forward(self, x: Any) -> Any:
                mean, spread = self.model.encode(x)
                z = mean + (0.5 * spread).exp() * torch.randn_like(mean)
                return gaussian_kl(mean, spread) - bernoulli_log_likelihood(self.model.decode(z), x)

        adam = torch.optim.Adam(vae.parameters(), 2e-3)
        fit(Bound(), data.x, data.x, adam, steps=settings.steps, batch_size=64, seed=seed,
            loss=lambda outputs, targets: outputs.mean())  # fmt: skip
        with torch.no_grad():
            images = vae.decode(noise).sigmoid()
    else:
        model: Any = autoencoder(name, shape, settings.code, seed)
        train(model, data.x, settings.steps, seed, rate=2e-3)
        with torch.no_grad():
            codes = model.encode(data.x)
            if variant == "autoencoder, fitted":
                centred = codes - codes.mean(0)
                factor = torch.linalg.cholesky(centred.T @ centred / len(codes) + 1e-6 * torch.eye(settings.code))
                noise = codes.mean(0) + noise @ factor.T
            images = model.decode(noise).clamp(0, 1)
    with torch.no_grad():
        made, real, seen = (features(x).double().numpy() for x in (images, data.x_test, data.x))
    return {"distance": float(np.log(frechet(made, real))), "floor": float(np.log(frechet(seen, real)))}


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two normal distributions with the moments of a[N, D] and b[M, D] (Dowson & Landau 1982)."""
    first, second = (np.cov(x, rowvar=False) for x in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    gap = float(np.square(a.mean(0) - b.mean(0)).sum())
    return gap + float(np.trace(first) + np.trace(second) - 2 * cross)


def draw(figure: Any, results: Results) -> None:
    """The distances, beside those of real pictures."""
    axes = figure.subplots()
    shown = columns(results, "distance") | {"training pictures": [seed["floor"] for seed in results["vae"]]}
    dots(axes, shown, "logarithm of the Frechet distance to test pictures")
    axes.tick_params(axis="x", labelsize=7)


STUDIES.register("vae-samples")(
    Study(
        claim="What a VAE decodes of random codes is much nearer to real pictures than what an autoencoder does; the "
        "autoencoder comes part of the way if random codes are drawn with the mean and covariance of its own.",
        claim_ja="VAE がランダムな符号から生成した画像は、自己符号化器が生成したものより、はるかに本物の画像に近い。"
        "自己符号化器も、自身の符号の平均と共分散に従って符号をサンプリングすれば、ある程度近づく。",
        correction="A text says that an autoencoder cannot generate. It can, as soon as codes are drawn from a "
        "distribution fitted to its own; what a VAE adds is that this distribution is known beforehand.",
        correction_ja="教材は、自己符号化器は生成できないとする。自身の符号に当てはめた分布からサンプリングすれば、"
        "生成できる。VAE の利点は、その分布があらかじめ分かっていることである。",
        source="items 254, 255; Kingma & Welling 2014; Ghosh et al. 2020",
        settings=Settings(),
        smoke={"data": "digits", "train": 100, "test": 50, "hidden": 12, "code": 3, "steps": 8},
        small={"data": "digits", "train": 0, "test": 0, "hidden": 96, "code": 8, "steps": 2_000},
        small_seeds=5,
        variants={
            "vae": "vae",
            "autoencoder": "autoencoder",
            "autoencoder, fitted": "autoencoder, fitted",
        },
        measure=measure,
        contrasts=(
            Contrast(
                "the autoencoder is over twice as far", {"autoencoder/distance": 1, "vae/distance": -1}, above=0.7
            ),
            Contrast(
                "with codes like its own it comes nearer",
                {"autoencoder/distance": 1, "autoencoder, fitted/distance": -1},
            ),
            Contrast("and is still farther than the VAE", {"autoencoder, fitted/distance": 1, "vae/distance": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
