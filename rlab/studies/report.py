"""All studies with results in one gallery: an HTML page that needs no other file, and Markdown pages for the docs."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from os.path import relpath
from pathlib import Path
from typing import Any, Literal

import rlab
from rlab.errors import RlabError
from rlab.run.files import JSON_BYTES, disk_error, make_folder, read_json, read_plain, replace_durably
from rlab.run.report import STYLE
from rlab.studies import load_studies
from rlab.studies.runner import DRAWN
from rlab.studies.study import Study

Language = Literal["en", "ja"]

WORDS: dict[str, dict[Language, str]] = {
    "title": {"en": "Claims of the curriculum, put to the test", "ja": "カリキュラムの主張を実験で確かめる"},
    "holds": {"en": "holds", "ja": "成り立つ"},
    "holds partly": {"en": "holds partly", "ja": "一部成り立つ"},
    "fails": {"en": "fails", "ja": "成り立たない"},
    "not seen at this size": {"en": "not seen at this size", "ja": "この規模では見られない"},
    "undecided": {"en": "undecided", "ja": "判定できない"},
    "correction": {"en": "Correction: ", "ja": "訂正："},
    "seeds": {"en": "seeds", "ja": "シード"},
    "above": {"en": "above", "ja": "基準"},
    "items": {"en": "items", "ja": "項目"},
    "command": {"en": "Command", "ja": "コマンド"},
    "source": {"en": "Source: ", "ja": "出典："},
    "none": {"en": "Not run at a budget that decides.", "ja": "判定できる規模ではまだ実行していません。"},
    "total": {"en": "all", "ja": "計"},
    "chapter": {"en": "chapter", "ja": "章"},
    "what": {
        "en": "A claim is one or more contrasts: numbers that lie above a bound if it is true, each with the 95 % "
        "interval of its mean over seeds. The claim holds if all intervals lie above their bounds. It fails where a "
        "wider interval, which allows for the number of contrasts, lies below; at the small budget that is called not "
        "seen at this size, since a larger one may still show it. Anything else is undecided. In a correction, the "
        "text is the one of five Japanese teaching texts that makes the claim (docs/curriculum.md).",
        "ja": "各主張は、一つ以上の対比（主張が正しければ基準を上回る数値）からなります。"
        "対比には、シードにわたる平均の 95 % 区間を付けます。"
        "すべての区間が基準より上にあれば、主張は成り立ちます。"
        "対比の数に応じて広げた区間が基準より下にあれば、成り立ちません。"
        "ただし small の規模では、より大きな規模なら見られるかもしれないので、「この規模では見られない」とします。"
        "それ以外は「判定できない」です。訂正にある「教材」は、その主張をしている五つの日本語教材の一つです"
        "（docs/curriculum.md に全項目があります）。",
    },
}

CHAPTERS: dict[str, dict[Language, str]] = {
    "foundations": {"en": "Foundations", "ja": "基礎"},
    "activations": {"en": "Activation functions", "ja": "活性化関数"},
    "optimisation": {"en": "Optimisation", "ja": "最適化"},
    "conditioning": {"en": "Preprocessing, initialisation, normalisation", "ja": "前処理・初期化・正規化"},
    "regularisation": {"en": "Regularisation", "ja": "正則化"},
    "noise": {"en": "Augmentation and noise", "ja": "データ拡張とノイズ"},
    "combining": {
        "en": "Dropout, early stopping, ensembles, transfer",
        "ja": "ドロップアウト・早期終了・アンサンブル・転移",
    },
    "vision": {"en": "Convolutional networks", "ja": "畳み込みネットワーク"},
    "sequences": {"en": "Sequences and language", "ja": "系列と言語"},
    "generative": {"en": "Autoencoders and generative models", "ja": "自己符号化器と生成モデル"},
    "reinforcement": {"en": "Reinforcement learning", "ja": "強化学習"},
    "go": {"en": "Go", "ja": "囲碁"},
    "compression": {"en": "Quantisation, pruning, distillation", "ja": "量子化・枝刈り・蒸留"},
    "distribution": {"en": "Data and model parallelism", "ja": "データ並列・モデル並列"},
    "detection": {"en": "Detection and segmentation", "ja": "物体検出とセグメンテーション"},
    "others": {"en": "Others", "ja": "その他"},
}

COLOURS = {
    "holds": "#1a7f37",
    "holds partly": "#9a6700",
    "fails": "#cf222e",
    "not seen at this size": "#bc4c00",
    "undecided": "#6e7781",
}

MORE_STYLE = """
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; } h3 { font-size: 1rem; margin: 2rem 0 .4rem; }
h3 span, .chip { border-radius: 1rem; padding: .05rem .6rem; font-size: .8rem; }
h3 span { color: white; } .chip { display: inline-block; margin: .1rem; border: 1.5px solid; color: inherit; }
a { color: inherit; text-decoration: none; } a:hover { text-decoration: underline; } img { background: white; }
svg { vertical-align: middle; } td.word { min-width: 5.5rem; overflow-wrap: normal; }
details { margin: .3rem 0; } td.n { width: 4rem; }
"""

TITLE = 22
"""Height of a figure's title, which the page has as text."""

PICTURE_COLOURS = 32
"""Of a figure on the page; what studies draw has few, so that it stays sharp and small."""


def committed() -> Path:
    """Where the results lie that come with the repository; in an installed wheel there is no such folder."""
    return Path(rlab.__file__).parents[1] / "runs" / "reference" / "studies"


def results_in(folder: Path, name: str) -> list[Path]:
    """A study's folders with a result that can decide: NAME/full, NAME/small, or NAME itself, as they are committed."""
    places = (folder / name / "full", folder / name / "small", folder / name)
    return [place for place in places if (place / "result.json").is_file()]


@dataclass(frozen=True)
class Entry:
    """A study with its newest result that decides, and where that lies; None: there is none."""

    name: str
    study: Study
    result: dict[str, Any] | None
    folder: Path

    @property
    def verdict(self) -> str | None:
        """In a word."""
        return self.result["verdict"] if self.result else None

    @property
    def chapter(self) -> str:
        """One of `CHAPTERS`."""
        parts = self.study.measure.__module__.split(".")
        return parts[2] if parts[:2] == ["rlab", "studies"] and parts[2] in CHAPTERS else "others"

    @property
    def pictures(self) -> list[Path]:
        """The figure, and the animation if there is one."""
        return [path for name in ("figure.png", "animation.gif") if (path := self.folder / name).is_file()]

    def text(self, field: str, language: Language) -> str:
        """ "claim" or "correction" in a language, English where there is no other."""
        text: str = getattr(self.study, f"{field}_ja") if language == "ja" else ""
        return text or getattr(self.study, field)


def collect(folders: Sequence[Path]) -> list[Entry]:
    """Every study, chapter by chapter in the order of the curriculum, with one result: a full one before a small one,
    and of equal ones that of the first folder.

    Raises:
        RlabError: there is none of the folders, or a result is damaged.
    """
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise RlabError(f"there is no folder {folders[0]} with results of studies; rlab study run NAME makes them")
    entries = []
    for name in (studies := load_studies()):
        places = [place for folder in there for place in results_in(folder, name)]
        found = [(read_json(place / "result.json"), place) for place in places]
        found.sort(key=lambda one: one[0].get("budget") != "full")
        result, place = found[0] if found else (None, there[0] / name)
        entries.append(Entry(name, studies.get(name), result, place))
    chapters = list(CHAPTERS)
    return sorted(entries, key=lambda e: (chapters.index(e.chapter), e.study.items[:1] or (999,), e.name))


def counts(entries: Iterable[Entry], language: Language = "en") -> str:
    """How many studies there are, at which budget they were run, and with which verdicts, in one sentence."""
    verdicts = Counter((entry.result["budget"], entry.verdict) for entry in entries if entry.result is not None)
    parts = []
    for budget in ("full", "small"):
        words = {word: count for word in COLOURS if (count := verdicts[budget, word])}
        total = sum(words.values())
        if not total:
            continue
        if language == "ja":
            inside = "、".join(f"{WORDS[word]['ja']} {count}" for word, count in words.items())
            parts.append(f"{budget} の規模で {total}（{inside}）")
        else:
            inside = ", ".join(_counted(count, word) for word, count in words.items())
            run = "" if parts else "was run " if total == 1 else "were run "
            parts.append(f"{total} {run}at the {budget} budget ({inside})")
    every = len(list(load_studies()))
    if language == "ja":
        return f"{every} の study のうち、実行したのは " + "、".join(parts or ["0 "]) + "です。"
    return f"Of {every} studies, " + (" and ".join(parts) or "none was run") + "."


def _counted(count: int, word: str) -> str:
    if word == "undecided":
        return f"{count} {'is' if count == 1 else 'are'} undecided"
    if word == "not seen at this size":
        return f"{count} {'was' if count == 1 else 'were'} not seen at this size"
    first, *rest = word.split()
    return " ".join([str(count), first if count == 1 else first.removesuffix("s"), *rest])


def html(entries: Sequence[Entry], language: Language = "en") -> str:
    """The gallery as one page; figures are embedded."""
    body = [f"<p>{escape(counts(entries, language))}</p>", _grid(entries, language)]
    for chapter, group in _chapters(entries):
        title = escape(CHAPTERS[chapter][language])
        chips = "".join(
            f'<a class="chip" href="#{escape(e.name)}" style="border-color: {COLOURS.get(e.verdict or "", "#bbb")}" '
            f'title="{escape(_word(e, language))}">{escape(e.name)}</a>'
            for e in group
        )
        body.append(f'<details open><summary><a href="#{chapter}">{title}</a></summary>{chips}</details>')
    for chapter, group in _chapters(entries):
        body.append(f'<h2 id="{chapter}">{escape(CHAPTERS[chapter][language])}</h2>')
        body += [_section(entry, language) for entry in group]
    title = WORDS["title"][language]
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<style>{STYLE}{MORE_STYLE}</style></head><body><h1>{title}</h1><p>{WORDS['what'][language]}</p>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _chapters(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    return [(chapter, list(group)) for chapter, group in groupby(entries, lambda entry: entry.chapter)]


def _word(entry: Entry, language: Language) -> str:
    return WORDS[entry.verdict][language] if entry.verdict else WORDS["none"][language]


def _table(entries: Sequence[Entry], language: Language) -> list[list[str]]:
    """Chapters by verdicts: how many, with a head and a last row of all."""
    words = [word for word in COLOURS if any(entry.verdict == word for entry in entries)]
    rows = [[WORDS["chapter"][language], *(WORDS[word][language] for word in words)]]
    groups = [*_chapters(entries), ("", list(entries))]
    for chapter, group in groups:
        have = Counter(entry.verdict for entry in group)
        title = CHAPTERS[chapter][language] if chapter else WORDS["total"][language]
        rows.append([title, *(str(have[word] or "") for word in words)])
    return rows


def _grid(entries: Sequence[Entry], language: Language) -> str:
    head, *rows = _table(entries, language)
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = [
        f"<tr><td>{escape(row[0])}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in row[1:]) + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table><tr>{titles}</tr>{"".join(lines)}</table></div>'


def _section(entry: Entry, language: Language) -> str:
    """One study on the page."""
    badge = ""
    if entry.verdict is not None:
        badge = f' <span style="background: {COLOURS[entry.verdict]}">{WORDS[entry.verdict][language]}</span>'
    body = [f'<h3 id="{escape(entry.name)}">{escape(entry.name)}{badge}</h3>']
    body.append(f"<p>{escape(entry.text('claim', language))}</p>")
    if correction := entry.text("correction", language):
        body.append(f"<p>⚠ {WORDS['correction'][language]}{escape(correction)}</p>")
    if entry.result is None:
        body.append(f'<p class="dim">{WORDS["none"][language]}</p>')
    else:
        for picture in entry.pictures:
            data, kind = read_plain(picture, JSON_BYTES), picture.suffix[1:]
            if kind == "png":
                data, kind = _small(data, picture), "webp"
                if entry.study.draw is None:
                    continue
            source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            body.append(f'<img loading="lazy" alt="{escape(entry.name)}" src="{source}">')
        rows = "".join(
            f'<tr><td class="word">{WORDS[f["verdict"]][language]}</td>'
            f"<td>{escape(f['says'])}</td><td>{_interval(f)}</td>"
            f"<td>{escape(_numbers(f))}</td></tr>"
            for f in entry.result["findings"]
        )
        body.append(f'<div class="wide"><table>{rows}</table></div>')
    body.append(f'<p class="dim">{escape(_facts(entry, language))}<br><code>{escape(_command(entry))}</code></p>')
    return "\n".join(body)


def _small(png: bytes, path: Path) -> bytes:
    """What the study drew, without its contrasts, which the page has as text: WebP of few colours, pixel by pixel.

    Raises:
        RlabError: it is no picture.
    """
    from PIL import Image

    try:
        whole = Image.open(io.BytesIO(png)).convert("RGB")
        drawn = whole.crop((0, TITLE, round(whole.width * DRAWN), whole.height)).quantize(PICTURE_COLOURS)
        data = io.BytesIO()
        drawn.convert("RGB").save(data, "WEBP", lossless=True)
    except OSError:
        raise RlabError(f"{path} is no picture; rlab study judge draws it anew if its verdict changes") from None
    return data.getvalue()


def _interval(finding: dict[str, Any]) -> str:
    """A contrast as a picture: its bound, the interval of the mean, and thin, how far the one that refutes reaches."""
    mean, bound = finding["mean"], finding["above"]
    low, high, ceiling = (mean if (end := finding.get(part)) is None else end for part in ("low", "high", "ceiling"))
    ends = (low, high, ceiling, bound)
    span = max(ends) - min(ends) or 1.0
    colour = COLOURS[finding["verdict"]]

    def at(value: float) -> str:
        return f"{8 + 104 * (value - min(ends)) / span:.0f}"

    return (
        f'<svg width="120" height="14"><path d="M{at(bound)} 0V14" stroke="currentColor" stroke-dasharray="2"/>'
        f'<path d="M{at(low)} 7H{at(high)}" stroke="{colour}" stroke-width="3"/>'
        f'<path d="M{at(high)} 7H{at(max(high, ceiling))}" stroke="{colour}"/>'
        f'<circle cx="{at(mean)}" cy="7" r="3.5" fill="{colour}"/></svg>'
    )


def markdown(entries: Sequence[Entry], page: Path, language: Language = "en") -> str:
    """The gallery as Markdown for a page whose figures lie beside it in the same tree."""
    lines = [f"# {WORDS['title'][language]}", "", WORDS["what"][language], "", counts(entries, language), ""]
    head, *rows = _table(entries, language)
    lines += [f"| {' | '.join(row)} |" for row in (head, ["---", *["--:"] * (len(head) - 1)], *rows)] + [""]
    for chapter, group in _chapters(entries):
        lines += [f"## {CHAPTERS[chapter][language]}", ""]
        for entry in group:
            lines += _lines(entry, page, language)
    return "\n".join(lines)


def _lines(entry: Entry, page: Path, language: Language) -> list[str]:
    """One study as Markdown."""
    verdict = f": {WORDS[entry.verdict][language]}" if entry.verdict else ""
    lines = [f"### {entry.name}{verdict}", "", entry.text("claim", language), ""]
    if correction := entry.text("correction", language):
        lines += [f"> ⚠ {WORDS['correction'][language]}{correction}", ""]
    if entry.result is None:
        lines += [WORDS["none"][language], ""]
    else:
        for picture in entry.pictures:
            lines += [f"![{entry.name}]({Path(relpath(picture, page.parent)).as_posix()})", ""]
        lines += [f"- {WORDS[f['verdict']][language]}: {f['says']} ({_numbers(f)})" for f in entry.result["findings"]]
        lines.append("")
    return [*lines, f"{_facts(entry, language)}  ", f"`{_command(entry)}`", ""]


def write(entries: list[Entry], page: Path, docs: Path | None) -> list[Path]:
    """Write the HTML page and, if a folder is given, studies.md and studies.ja.md there.

    Raises:
        RlabError: the disk refuses.
    """
    contents = {page: html(entries)}
    if docs is not None:
        for language, file in (("en", "studies.md"), ("ja", "studies.ja.md")):
            contents[docs / file] = markdown(entries, docs / file, language)  # type: ignore[arg-type]
    for path, text in contents.items():
        try:
            make_folder(path.parent)
            replace_durably(path, text.encode())
        except OSError as e:
            raise disk_error(e, path.parent) from None
    return list(contents)


def _numbers(finding: dict[str, Any]) -> str:
    """What was found beside what the claim asks for."""
    inside = "" if finding["low"] is None else f" [{finding['low']:.3g}, {finding['high']:.3g}]"
    return f"{finding['mean']:.3g}{inside} > {finding['above']:g}"


def _facts(entry: Entry, language: Language) -> str:
    facts = [f"{WORDS['source'][language]}{entry.study.source}"]
    if entry.result is not None:
        facts.append(f"{len(entry.result['seeds'])} {WORDS['seeds'][language]}")
        facts.append(f"{entry.result['budget']}, {', '.join(c[:7] for c in entry.result['commits'])}")
    return "; ".join(facts)


def _command(entry: Entry) -> str:
    budget = entry.result["budget"] if entry.result else "small"
    return f"rlab study run {entry.name} --budget {budget}"
