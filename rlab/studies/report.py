"""All studies with results in one gallery: an HTML page that needs no other file, and Markdown pages for the docs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from os.path import relpath
from pathlib import Path
from typing import Any, Literal, get_args

from rlab.errors import RlabError
from rlab.run.files import JSON_BYTES, disk_error, make_folder, read_json, read_plain, replace_durably
from rlab.run.report import STYLE
from rlab.studies import load_studies
from rlab.studies.study import Budget, Study

Language = Literal["en", "ja"]

WORDS: dict[str, dict[Language, str]] = {
    "title": {"en": "Claims of the curriculum, put to the test", "ja": "カリキュラムの主張を実験で確かめる"},
    "holds": {"en": "holds", "ja": "成り立つ"},
    "holds partly": {"en": "holds partly", "ja": "一部成り立つ"},
    "fails": {"en": "fails", "ja": "成り立たない"},
    "undecided": {"en": "undecided", "ja": "決まらない"},
    "correction": {"en": "Correction", "ja": "訂正"},
    "seeds": {"en": "seeds", "ja": "シード"},
    "above": {"en": "above", "ja": "基準"},
    "items": {"en": "items", "ja": "項目"},
    "command": {"en": "Command", "ja": "コマンド"},
    "source": {"en": "Source", "ja": "出典"},
    "none": {"en": "Not run at a budget that decides.", "ja": "判定できる規模ではまだ実行していません。"},
    "what": {
        "en": "A claim is one or more contrasts: numbers that lie above a bound if it is true. Each is judged by the "
        "95 % interval of its mean over seeds: above the bound it holds, below it fails, across it is undecided.",
        "ja": "各主張は一つ以上の対比（主張が正しければ基準を上回る数）からなり、"
        "シードにわたる平均の 95 % 区間で判定します。"
        "区間が基準より上なら成り立ち、下なら成り立たず、またがれば決まりません。",
    },
}

COLOURS = {"holds": "#1a7f37", "holds partly": "#9a6700", "fails": "#cf222e", "undecided": "#6e7781"}

BADGE = "h2 span { color: white; border-radius: 1rem; padding: .1rem .7rem; font-size: .85rem; }"


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
    def pictures(self) -> list[Path]:
        """The figure, and the animation if there is one."""
        return [path for name in ("figure.png", "animation.gif") if (path := self.folder / name).is_file()]

    def text(self, field: str, language: Language) -> str:
        """ "claim" or "correction" in a language, English where there is no other."""
        text: str = getattr(self.study, f"{field}_ja") if language == "ja" else ""
        return text or getattr(self.study, field)


def collect(folder: Path) -> list[Entry]:
    """Every study in the order of the curriculum, with its result below `folder`: the full one, else the small one.

    Looks for NAME/full/result.json, NAME/small/result.json and NAME/result.json.

    Raises:
        RlabError: there is no such folder, or a result is damaged.
    """
    if not folder.is_dir():
        raise RlabError(f"there is no folder {folder} with results of studies; rlab study run NAME makes them")
    entries = []
    for name in (studies := load_studies()):
        folders = [folder / name / budget for budget in reversed(get_args(Budget)) if budget != "smoke"]
        places = [place for place in (*folders, folder / name) if (place / "result.json").is_file()]
        result = read_json(places[0] / "result.json") if places else None
        entries.append(Entry(name, studies.get(name), result, places[0] if places else folder / name))
    return sorted(entries, key=lambda entry: (entry.study.items[:1] or (999,), entry.name))


def html(entries: Iterable[Entry], language: Language = "en") -> str:
    """The gallery as one page; figures are embedded."""
    sections = []
    for entry in entries:
        badge = ""
        if entry.verdict is not None:
            colour, word = COLOURS[entry.verdict], WORDS[entry.verdict][language]
            badge = f' <span style="background: {colour}">{word}</span>'
        body = [f'<h2 id="{escape(entry.name)}">{escape(entry.name)}{badge}</h2>']
        body.append(f"<p>{escape(entry.text('claim', language))}</p>")
        if correction := entry.text("correction", language):
            body.append(f"<p>⚠ {WORDS['correction'][language]}: {escape(correction)}</p>")
        if entry.result is None:
            body.append(f'<p class="dim">{WORDS["none"][language]}</p>')
        else:
            for picture in entry.pictures:
                data, kind = base64.b64encode(read_plain(picture, JSON_BYTES)).decode(), picture.suffix[1:]
                body.append(f'<img alt="{escape(entry.name)}" src="data:image/{kind};base64,{data}">')
            rows = "".join(
                f"<tr><td>{WORDS[f['verdict']][language]}</td><td>{escape(f['says'])}</td><td>{_numbers(f)}</td></tr>"
                for f in entry.result["findings"]
            )
            body.append(f"<table>{rows}</table>")
        body.append(f'<p class="dim">{escape(_facts(entry, language))}<br><code>{escape(_command(entry))}</code></p>')
        sections.append("\n".join(body))
    title = WORDS["title"][language]
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<style>{STYLE}{BADGE}</style></head><body><h1>{title}</h1><p>{WORDS['what'][language]}</p>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def markdown(entries: Iterable[Entry], page: Path, language: Language = "en") -> str:
    """The gallery as Markdown for a page whose figures lie beside it in the same tree."""
    lines = [f"# {WORDS['title'][language]}", "", WORDS["what"][language], ""]
    for entry in entries:
        verdict = f": {WORDS[entry.verdict][language]}" if entry.verdict else ""
        lines += [f"## {entry.name}{verdict}", "", entry.text("claim", language), ""]
        if correction := entry.text("correction", language):
            lines += [f"> ⚠ {WORDS['correction'][language]}: {correction}", ""]
        if entry.result is None:
            lines += [WORDS["none"][language], ""]
        else:
            for picture in entry.pictures:
                lines += [f"![{entry.name}]({Path(relpath(picture, page.parent)).as_posix()})", ""]
            lines += [
                f"- {WORDS[f['verdict']][language]}: {f['says']} ({_numbers(f)})" for f in entry.result["findings"]
            ]
            lines.append("")
        lines += [f"{_facts(entry, language)}  ", f"`{_command(entry)}`", ""]
    return "\n".join(lines)


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
    facts = [f"{WORDS['source'][language]}: {entry.study.source}"]
    if entry.result is not None:
        facts.append(f"{len(entry.result['seeds'])} {WORDS['seeds'][language]}")
        facts.append(f"{entry.result['budget']}, {', '.join(c[:7] for c in entry.result['commits'])}")
    return "; ".join(facts)


def _command(entry: Entry) -> str:
    budget = entry.result["budget"] if entry.result else "small"
    return f"rlab study run {entry.name} --budget {budget}"
