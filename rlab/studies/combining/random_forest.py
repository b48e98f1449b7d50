"""One tree, bagged trees, a random forest: how strong and how alike their trees are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Digits of 8x8 pixels, scikit-learn's trees."""

    train: int = 500
    """Training examples; all others are tested on."""
    trees: int = 200


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in %, of all trees and of one in the mean; how alike errors of two trees are (correlation)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    from rlab.studies.supervised import parts

    (x, y), (x_test, y_test) = ((x.flatten(1).numpy(), y.numpy()) for x, y in parts("digits", seed, settings.train, 0))
    if variant == "tree":
        wrong = DecisionTreeClassifier(random_state=seed).fit(x, y).predict(x_test) != y_test
        return {"error": 100 * wrong.mean(), "member": 100 * wrong.mean()}
    features = "sqrt" if variant == "forest" else None
    forest = RandomForestClassifier(settings.trees, max_features=features, random_state=seed).fit(x, y)
    wrong = np.array([tree.predict(x_test).astype(int) != y_test for tree in forest.estimators_])  # [trees, N]
    alike = np.corrcoef(wrong[:30])
    return {
        "error": 100 * (forest.predict(x_test) != y_test).mean(),
        "member": 100 * wrong.mean(),
        "alike": alike[np.triu_indices(len(alike), 1)].mean(),
    }


def draw(figure: Any, results: Results) -> None:
    """Errors of all and of one, and likeness."""
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    shown = columns(results, "error")
    shown |= {f"a tree of\nthe {name}": column(results[name], "member") for name in ("bag", "forest")}
    dots(left, shown, "test error in %")
    alike = {name: column(results[name], "alike") for name in ("bag", "forest")}
    dots(right, alike, "correlation of two trees' errors")


STUDIES.register("random-forest")(
    Study(
        claim="A random forest errs less than bagged trees, and these less than one tree: choosing among few features "
        "makes a tree worse, but trees less alike.",
        claim_ja="ランダムフォレストはバギングした決定木より誤りが少なく、"
        "バギングした決定木は 1 本の決定木より誤りが少ない。少数の特徴量から選んで分割すると、個々の木は悪くなるが、"
        "木どうしが似なくなるからである。",
        source="item 146; Breiman 2001",
        settings=Settings(),
        smoke={"train": 150, "trees": 5},
        small={"trees": 60},
        small_seeds=5,
        variants={"tree": "tree", "bag": "bag", "forest": "forest"},
        measure=measure,
        contrasts=(
            Contrast("bagged trees err less than one (points)", {"tree/error": 1, "bag/error": -1}),
            Contrast("a forest errs less than bagged trees (points)", {"bag/error": 1, "forest/error": -1}),
            Contrast("its trees' errors are less alike (correlation)", {"bag/alike": 1, "forest/alike": -1}),
            Contrast("though each of its trees errs more (points)", {"forest/member": 1, "bag/member": -1}),
        ),
        draw=draw,
        seeds=10,
    )
)
