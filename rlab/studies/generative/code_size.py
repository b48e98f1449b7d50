"""How much of a picture, and of its class, a code of few numbers holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Autoencoders with a layer on either side of the code, and principal components."""

    data: str = "mnist"
    """The pictures."""
    train: int = 10_000
    """Training examples."""
    test: int = 5_000
    """Test examples."""
    hidden: int = 256
    """Units of the layer on either side of the code."""
    sizes: tuple[int, ...] = (2, 8, 32)
    """Numbers of a code."""
    steps: int = 8_000
    """Updates, of 64 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By code size: variance explained, percent right by a linear classifier, and k-means against the classes (NMI)."""
    import torch
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    from rlab.seeding import derive
    from rlab.studies.autoencoders import autoencoder, explained, probe, train
    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, settings.train, settings.test)
    x, x_test = data.x.flatten(1), data.x_test.flatten(1)
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False)[2]
    found: dict[str, list[float]] = {"explained": [], "right": [], "agreement": []}
    for size in settings.sizes:
        if variant == "linear":
            basis = directions[:size]
            codes, test = ((part - mean) @ basis.T for part in (x, x_test))
            lost = (x_test - mean - test @ basis).square().sum()
            share = float(1 - lost / (x_test - x_test.mean(0)).square().sum())
        else:
            model: Any = autoencoder(f"mlp-{settings.hidden}", data.x.shape[1:], size, seed)
            train(model, data.x, settings.steps, seed, rate=2e-3)
            share = explained(model, data.x_test)
            with torch.no_grad():
                codes, test = model.encode(data.x), model.encode(data.x_test)
        clusters = KMeans(10, n_init=3, random_state=derive(seed, "clusters")).fit_predict(test.double().numpy())
        found["explained"].append(share)
        found["right"].append(100 * probe(codes, data.y, test, data.y_test))
        found["agreement"].append(float(normalized_mutual_info_score(data.y_test.numpy(), clusters)))
    clusters = KMeans(10, n_init=3, random_state=derive(seed, "clusters")).fit_predict(x_test.double().numpy())
    numbers = {f"{name}_{place}": values[at] for name, values in found.items()
               for place, at in (("small", 0), ("middle", 1), ("large", -1))}  # fmt: skip
    return {
        **{name: np.round(values, 4) for name, values in found.items()},
        **numbers,
        "pixels_right": 100 * probe(x, data.y, x_test, data.y_test),
        "pixels_agreement": float(normalized_mutual_info_score(data.y_test.numpy(), clusters)),
        "sizes": settings.sizes,
        "part": settings.sizes[1] / x.shape[1],
    }


def draw(figure: Any, results: Results) -> None:
    """All three by code size."""
    sizes = results["linear"][0]["sizes"]
    names = {
        "explained": "variance explained",
        "right": "percent right, by codes",
        "agreement": "clusters and classes, NMI",
    }
    for axes, (name, label) in zip(figure.subplots(3, 1), names.items(), strict=True):
        curves(axes, sizes, columns(results, name), ("numbers of a code", label))
        count_ticks(axes, sizes)


STUDIES.register("code-size")(
    Study(
        claim="A code of an eighth of the numbers or fewer holds most of what varies in a picture and tells its class "
        "about as well as the pixels; the smaller the code, the more is lost; clusters of codes are nearer to the "
        "classes.",
        claim_ja="入力の 8 分の 1 以下の大きさの符号でも、画像の変動の大部分を保持し、"
        "画素と同じくらいよくクラスを表す。符号が小さいほど、失われる情報は多い。符号のクラスタは、"
        "画素のクラスタよりクラスに近い。",
        correction="A text says that compression makes symbols; how far clusters of codes agree with the symbols that "
        "people use is measured here, and is a matter of degree.",
        correction_ja="教材は、圧縮が記号を生むとする。ここでは、符号のクラスタが人の使う記号とどの程度一致するかを"
        "測る。それは程度の問題である。",
        source="items 152, 153, 154; Hinton & Salakhutdinov 2006; Bourlard & Kamp 1988",
        settings=Settings(),
        smoke={"data": "digits", "train": 100, "test": 50, "hidden": 12, "sizes": (2, 4, 8), "steps": 6},
        small={"data": "digits", "train": 0, "test": 0, "hidden": 96, "sizes": (2, 8, 24), "steps": 1_500},
        small_seeds=5,
        variants={"linear": "linear", "autoencoder": "autoencoder"},
        measure=measure,
        contrasts=(
            Contrast("the middle code explains over 0.7", {"autoencoder/explained_middle": 1}, above=0.7),
            Contrast(
                "the smallest explains 0.2 less",
                {"autoencoder/explained_middle": 1, "autoencoder/explained_small": -1},
                above=0.2,
            ),
            Contrast(
                "it explains more than as many principal components",
                {"autoencoder/explained_middle": 1, "linear/explained_middle": -1},
            ),
            Contrast(
                "it tells classes within 10 points of the pixels",
                {"autoencoder/right_middle": 1, "autoencoder/pixels_right": -1},
                above=-10,
            ),
            Contrast(
                "clusters of codes agree more with classes than clusters of pixels",
                {"autoencoder/agreement_middle": 1, "autoencoder/pixels_agreement": -1},
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
