"""Changed copies against a shortage of examples: what they bring where there are few, and where there are many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network with one hidden layer; with copies and without them it makes as many updates."""

    data: str = "mnist"
    few: int = 100
    """The fewest training examples."""
    middle: int = 1_000
    many: int = 10_000
    """The most training examples."""
    test: int = 5_000
    hidden: int = 256
    steps: int = 2_500
    """Updates of 50 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy in percent with few examples, some and many."""
    from torch.optim import Adam

    from rlab.studies.supervised import accuracy, examples, fit, network

    curve = []
    for count in (settings.few, settings.middle, settings.many):
        data = examples(settings.data, seed, count, settings.test)
        side = data.x.shape[-1]
        model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
        text = variant.format(alpha=34 * (side / 28) ** 2, sigma=4 * side / 28)
        size, adam = min(50, count), Adam(model.parameters(), 2e-3)
        fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=size, seed=seed, augmented=text)
        curve.append(100 * accuracy(model, data.x_test, data.y_test))
    return {"curve": curve, "few": curve[0], "many": curve[-1]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by the number of examples."""
    axes = figure.subplots()
    ways = columns(results, "curve")
    curves(axes, [0, 1, 2], ways, ("real training examples", "test accuracy (%)"))
    axes.set_xticks([0, 1, 2], ["few", "some", "many"])


STUDIES.register("augmentation-shortage")(
    Study(
        claim="Where examples are few, turned and warped copies of them raise a network's accuracy; the more real "
        "examples there are, the less the copies bring.",
        claim_ja="データが少ないとき、回転や歪みを加えた画像で水増しすると、ネットワークの精度が上がる。"
        "元のデータが多いほど、水増しの効果は小さくなる。",
        correction="The text calls augmentation an effective remedy for a shortage without saying how far: copies "
        "bring only what they vary, and with many real examples little or, for a small network, even harm.",
        correction_ja="教材は、データ拡張をデータ不足への有効な対策とするが、どこまで有効かを述べていない。"
        "効くのは、加えた変形の範囲だけである。元のデータが多ければ効果は小さく、"
        "小さなネットワークではかえって精度を下げることもある。",
        source="item 106; Simard et al. 2003; Shorten & Khoshgoftaar 2019",
        settings=Settings(),
        smoke={"data": "digits", "few": 30, "middle": 60, "many": 120, "hidden": 16, "steps": 20},
        small={"data": "digits", "few": 50, "middle": 200, "many": 1_000, "hidden": 128, "steps": 300},
        small_seeds=6,
        variants={"real only": "", "with copies": "rotate:15,elastic:{alpha:.3g}:{sigma:.3g}"},
        measure=measure,
        contrasts=(
            Contrast("few examples: copies raise accuracy (points)", {"with copies/few": 1, "real only/few": -1}),
            Contrast(
                "they bring more to few examples than to many (points)",
                {"with copies/few": 1, "real only/few": -1, "with copies/many": -1, "real only/many": 1},
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
