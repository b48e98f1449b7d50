"""A board of Go in a page that needs no other file: games move by move, with a curve of the win rate beside them.

Buttons, a slider, the arrow keys, a click on the board or on the curve go through a game. Which stones a move takes is
worked out here, by the lab's own rules.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from rlab.envs.go.boards import LETTERS, Boards, Setting
from rlab.envs.go.picture import stars
from rlab.envs.go.rules import BLACK
from rlab.envs.go.sgf import begin, follow
from rlab.run.report import STYLE

VIEWER_STYLE = """
.go { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem; } .go > div { flex: 1 1 20rem; min-width: 0; }
.go svg { width: 100%; display: block; touch-action: manipulation; user-select: none; }
.go svg[hidden] { display: none; } .go svg.board { max-width: 34rem; cursor: pointer; border-radius: .3rem; }
.go svg.curve { cursor: crosshair; background: var(--soft); border-radius: .3rem; margin-top: .8rem; }
.go select, .go input { width: 100%; } .go button { font-size: 1.1rem; padding: .3rem .9rem; margin: .5rem .3rem 0 0; }
.go .note { white-space: pre-wrap; }
"""

SCRIPT = r"""
"use strict";
function make(parent, name, attributes, text) {
  const element = document.createElementNS(document.querySelector(".go svg").namespaceURI, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}
function add(parent, name, properties) {
  const element = Object.assign(document.createElement(name), properties);
  parent.append(element);
  return element;
}
function viewer(box) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const n = data.size, left = add(box, "div", {}), right = add(box, "div", {});
  const board = make(left, "svg", {class: "board", viewBox: `0 0 ${n + 1} ${n + 1}`, role: "img"});
  make(board, "rect", {width: n + 1, height: n + 1, fill: "#e2b66e"});
  const ink = {stroke: "#3c2c18", "stroke-width": 1.2, "vector-effect": "non-scaling-stroke"};
  const small = {"font-size": Math.min(0.38, 0.022 * n + 0.1), fill: "#3c2c18", "text-anchor": "middle"};
  for (let k = 1; k <= n; k++) {
    make(board, "line", {x1: 1, x2: n, y1: k, y2: k, ...ink});
    make(board, "line", {x1: k, x2: k, y1: 1, y2: n, ...ink});
    make(board, "text", {x: k, y: n + 0.85, ...small}, data.letters[k - 1]);
    make(board, "text", {x: 0.28, y: k + 0.14, ...small}, n + 1 - k);
  }
  const circle = (parent, point, attributes) =>
    make(parent, "circle", {cx: point % n + 1, cy: Math.floor(point / n) + 1, ...attributes});
  for (const p of data.stars) circle(board, p, {r: 0.08, fill: "#3c2c18"});
  const stones = make(board, "g", {});
  const choice = data.games.length > 1 ? add(right, "select", {}) : add(right, "b", {});
  const line = add(right, "p", {}), slider = add(right, "input", {type: "range", min: 0});
  let game, at = 0, cursor = null;
  const steps = [["|<", "first", () => 0], ["<", "back", () => at - 1], [">", "on", () => at + 1],
                 [">|", "last", () => game.moves.length]];
  for (const [text, title, to] of steps) add(right, "button", {textContent: text, title, onclick: () => show(to())});
  const curve = make(right, "svg", {class: "curve", viewBox: "0 0 600 180"});
  const note = add(right, "p", {className: "note"}), link = add(right, "a", {});
  const name = (point) => point < 0 ? "pass" : data.letters[point % n] + (n - Math.floor(point / n));
  const x = (k) => 8 + 584 * k / Math.max(1, game.moves.length), y = (rate) => 10 + 160 * (1 - rate);
  function show(to) {
    at = Math.max(0, Math.min(game.moves.length, to));
    const now = Array.from(game.start, Number);
    for (const [colour, point, ...taken] of game.moves.slice(0, at)) {
      if (point >= 0) now[point] = colour;
      for (const p of taken) now[p] = 0;
    }
    stones.replaceChildren();
    now.forEach((colour, p) => {
      const fill = colour === 1 ? "#121214" : "#f6f6f2";
      if (colour) circle(stones, p, {r: 0.47, fill, stroke: "#3c2c18", "stroke-width": 0.03});
    });
    const last = at ? game.moves[at - 1] : null, best = game.better[at];
    const ring = {fill: "none", "stroke-width": 0.1};
    if (last && last[1] >= 0) circle(stones, last[1], {r: 0.2, stroke: "#d63c32", ...ring});
    if (best >= 0) circle(stones, best, {r: 0.36, stroke: "#0072b2", "stroke-dasharray": "0.2 0.12", ...ring});
    line.textContent = `move ${at} of ${game.moves.length}` +
      (last ? `: ${last[0] === 1 ? "black" : "white"} ${name(last[1])}` : "") +
      (game.rates.length > at ? `; black wins ${(100 * game.rates[at]).toFixed(1)} %` : "");
    slider.value = at;
    note.textContent = game.notes[at] || "";
    if (cursor) { cursor.setAttribute("x1", x(at)); cursor.setAttribute("x2", x(at)); }
  }
  function open(number) {
    game = data.games[number];
    slider.max = game.moves.length;
    link.textContent = game.link ? "SGF" : "";
    if (game.link) link.href = game.link;
    curve.replaceChildren();
    curve.style.display = game.rates.length ? "" : "none";
    make(curve, "line", {x1: 8, x2: 592, y1: y(0.5), y2: y(0.5), stroke: "#888888"});
    make(curve, "polyline", {points: game.rates.map((rate, k) => `${x(k)},${y(rate)}`).join(" "), fill: "none",
      stroke: "#0072b2", "stroke-width": 2.5});
    for (const k of game.marked) make(curve, "circle", {cx: x(k), cy: y(game.rates[k]), r: 5, stroke: "#d55e00",
      "stroke-width": 2.5, fill: game.moves[k - 1][0] === 1 ? "#121214" : "#f6f6f2"});
    cursor = make(curve, "line", {y1: 4, y2: 176, stroke: "#d63c32", "stroke-width": 2});
    show(0);
  }
  if (data.games.length > 1) {
    data.games.forEach((one, k) => add(choice, "option", {textContent: one.title, value: k}));
    choice.onchange = () => open(Number(choice.value));
  } else choice.textContent = data.games[0].title;
  slider.oninput = () => show(Number(slider.value));
  board.addEventListener("click", (event) => show(at + (event.shiftKey ? -1 : 1)));
  const pick = (event) => {
    const box = curve.getBoundingClientRect();
    show(Math.round(((event.clientX - box.left) / box.width * 600 - 8) / 584 * game.moves.length));
  };
  curve.addEventListener("pointerdown", pick);
  curve.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
  const keys = {ArrowLeft: () => at - 1, ArrowRight: () => at + 1, PageUp: () => at - 10, PageDown: () => at + 10,
                Home: () => 0, End: () => game.moves.length};
  document.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
    event.preventDefault();
    show(keys[event.key]());
  });
  open(0);
}
document.querySelectorAll(".go").forEach(viewer);
"""


@dataclass(frozen=True)
class Shown:
    """A game as the page shows it.

    Attributes:
        title: in the list of games.
        moves: (colour, point); colour 1 black, 2 white; n * n is a pass.
        stones: [n * n] of 0, 1, 2, with which it begins; empty if with none.
        turn: who is to move first.
        notes: number of moves made -> what is said of the position.
        better: number of moves made -> the point that would have been better than what was played then.
        rates: Black's win rate, 0 to 1, after 0, 1, ... moves; empty: no curve.
        marked: moves that the curve marks.
        link: of its file, as the page finds it.
    """

    title: str
    moves: tuple[tuple[int, int], ...]
    stones: Sequence[int] = ()
    turn: int = BLACK
    notes: Mapping[int, str] = field(default_factory=dict)
    better: Mapping[int, int] = field(default_factory=dict)
    rates: Sequence[float] = ()
    marked: Sequence[int] = ()
    link: str = ""


def board_viewer(setting: Setting, games: Sequence[Shown]) -> str:
    """A board for games of one setting, as a part of a `document`.

    Raises:
        RlabError: a move is not legal.
    """
    size = setting.size
    data = {
        "size": size,
        "letters": LETTERS[:size],
        "stars": sorted(y * size + x for y, x in stars(size)),
        "games": [
            {
                "title": game.title,
                "start": "".join(map(str, game.stones)) or "0" * size**2,
                "moves": _steps(setting, game),
                "notes": game.notes,
                "better": {made: _place(point, size) for made, point in game.better.items()},
                "rates": [round(rate, 4) for rate in game.rates],
                "marked": list(game.marked),
                "link": game.link,
            }
            for game in games
        ],
    }
    content = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="go"><svg hidden></svg><script type="application/json">{content}</script></div>'
        "<noscript><p>The board needs JavaScript, which is part of this page.</p></noscript>"
    )


def document(title: str, body: Sequence[str]) -> str:
    """A whole page whose parts may hold a `board_viewer`. It loads nothing, and runs no other script than the board's.

    Args:
        title: plain text.
        body: HTML, a part each; empty ones are left out.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'\">"
        f"<title>{escape(title)}</title><style>{STYLE}{VIEWER_STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


def _place(point: int, size: int) -> int:
    return point if point < size**2 else -1


def _steps(setting: Setting, game: Shown) -> list[list[Any]]:
    """Of each move colour, point (-1: a pass), and the points that it empties."""
    boards = Boards(1, setting, threads=1)
    begin(boards, 0, game.stones, game.turn)
    before = boards.stones()[0].ravel()
    steps = []
    for made, (colour, point) in enumerate(game.moves, 1):
        follow(boards, 0, game.moves[:made])
        after = boards.stones()[0].ravel()
        place = _place(point, setting.size)
        gone = np.flatnonzero((before != 0) & (after == 0)).tolist()
        if place >= 0 and not after[place]:
            gone.append(place)  # its own chain died, too
        steps.append([colour, place, *gone])
        before = after
    return steps
