"""What a layer without a nonlinearity after it cannot do, however many such layers follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

PROBLEMS = ("xor", "moons", "breast_cancer", "digits")


@dataclass(frozen=True)
class Settings:
    """Two problems in the plane, a table and images; cross-entropy by Adam on all examples at once."""

    steps: int = 1_500
    points: int = 400
    """Of each problem in the plane, and as many again to be tested on."""
    images: str = "mnist"
    """Data set of the digits."""
    image_examples: int = 10_000
    width: int = 64


def problem(settings: Settings, name: str, seed: int) -> Any:
    """Examples by name; xor and moons are drawn."""
    import torch

    from rlab.studies.supervised import Examples, examples

    if name not in ("xor", "moons"):
        images = name == "digits"
        data = settings.images if images else name
        train, preprocess = (settings.image_examples, "") if images else (0, "standard")
        return examples(data, seed, train=train, preprocess=preprocess)
    rng = np.random.default_rng(derive(seed, "points", name))
    n = 2 * settings.points
    if name == "xor":
        corners = rng.integers(0, 2, (n, 2))
        x, y = 2.0 * corners - 1 + 0.25 * rng.normal(size=(n, 2)), corners.sum(1) % 2
    else:
        from sklearn.datasets import make_moons

        x, y = make_moons(n, noise=0.15, random_state=derive(seed, "moons"))
    inputs, classes = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    return Examples(inputs[::2], classes[::2], inputs[1::2], classes[1::2])


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy of each problem; how far the network is from one matrix; the weights of the images' classes."""
    import torch

    from rlab.studies.supervised import accuracy, fit, network

    numbers: dict[str, Any] = {}
    for name in PROBLEMS:
        data = problem(settings, name, seed)
        sizes = [data.x[0].numel(), *[settings.width] * variant["hidden"], int(data.y.max()) + 1]
        model: Any = network(sizes, variant["activation"], seed=seed)
        adam = torch.optim.Adam(model.parameters(), variant["rate"])
        fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=200)
        numbers[name] = accuracy(model, data.x_test, data.y_test)
        with torch.no_grad():
            x = data.x_test
            outputs = model(torch.zeros_like(x[:1])) + (model(x) - model(torch.zeros_like(x[:1])))
            middle = model(0.5 * x) - 0.5 * (model(x) + model(torch.zeros_like(x[:1])))
            numbers[f"{name}, bent"] = float(middle.abs().mean() / outputs.std())
    if not variant["hidden"]:
        side = round(data.x[0].numel() ** 0.5)
        step = max(1, side // 14)
        linear: Any = model[1]
        weights = linear.weight.detach().view(10, side, side)[:, ::step, ::step]
        numbers["weights"] = [[[round(float(w), 3) for w in row] for row in image] for image in weights]
    return numbers


def draw(figure: Any, results: Results) -> None:
    """Accuracies, and what the linear model looks for in the digits 0 to 4."""
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 1])
    panels = top.subplots(1, 4, sharey=True)
    for panel, name in zip(panels, PROBLEMS, strict=True):
        dots(panel, {v.replace(" ", "\n"): column(seeds, name) for v, seeds in results.items()}, "")
        panel.set_title(name, fontsize=8)
        panel.tick_params(axis="x", labelsize=6)
    panels[0].set_ylabel("test accuracy", fontsize=9)
    for digit, panel in enumerate(bottom.subplots(1, 10)):
        panel.imshow(np.asarray(results["logistic"][0]["weights"][digit]), cmap="RdBu")
        panel.set_axis_off()
        panel.set_title(digit, fontsize=7)


STUDIES.register("linear-boundaries")(
    Study(
        claim="Logistic regression is a network without a hidden layer and draws straight borders only; linear layers "
        "put before it add nothing, nonlinear ones do wherever classes are not linearly separable.",
        claim_ja="ロジスティック回帰は隠れ層のないネットワークで、直線の決定境界しか引けない。"
        "手前に線形の層を加えても何も変わらない。非線形の層を加えれば、線形分離できない問題で精度が上がる。",
        source="items 014, 016, 037; Minsky & Papert 1969; Rumelhart et al. 1986",
        settings=Settings(),
        smoke={"steps": 5, "points": 20, "images": "digits", "image_examples": 60, "width": 8},
        small={"steps": 120, "images": "digits", "image_examples": 0},
        small_seeds=8,
        variants={
            "logistic": {"hidden": 0, "activation": "identity", "rate": 0.1},
            "deep linear": {"hidden": 2, "activation": "identity", "rate": 0.01},
            "ReLU": {"hidden": 2, "activation": "relu", "rate": 0.01},
        },
        measure=measure,
        contrasts=(
            Contrast("XOR: the logistic regression is right in 3 of 4 cases at the most", {"logistic/xor": -1}, -0.76),
            Contrast("XOR: so are three linear layers", {"deep linear/xor": -1}, above=-0.76),
            Contrast("XOR: with ReLUs between them they solve it, 95 %", {"ReLU/xor": 1}, above=0.95, trials="points"),
            Contrast(
                "three linear layers are one affine map (deviation from it, of the outputs' deviation, below 0.0001)",
                {"deep linear/digits, bent": -1},
                above=-1e-4,
            ),
            Contrast("moons: ReLU beats logistic by 5 points", {"ReLU/moons": 1, "logistic/moons": -1}, above=0.05),
            Contrast("digits: ReLU beats logistic", {"ReLU/digits": 1, "logistic/digits": -1}),
            Contrast(
                "breast cancer: there a line does, ReLU wins 2 points at the most",
                {"ReLU/breast_cancer": -1, "logistic/breast_cancer": 1},
                above=-0.02,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
