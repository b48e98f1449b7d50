"""Go by the letter of its rules: slow, and so short that it can be checked by eye."""

from __future__ import annotations

Position = tuple[int, ...]


def neighbours(point: int, size: int) -> list[int]:
    y, x = divmod(point, size)
    around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    return [b * size + a for b, a in around if 0 <= a < size and 0 <= b < size]


def reached(position: Position, size: int, point: int) -> tuple[set[int], set[int]]:
    """(points of the same colour that are connected with this one, colours beside them)."""
    same, beside, todo = {point}, set(), [point]
    while todo:
        for there in neighbours(todo.pop(), size):
            if position[there] != position[point]:
                beside.add(position[there])
            elif there not in same:
                same.add(there)
                todo.append(there)
    return same, beside


def after(position: Position, size: int, point: int, colour: int) -> tuple[Position, bool]:
    """(the position after a stone, whether that was suicide): the other's chains without liberty go, then one's own."""
    board = list(position)
    board[point] = colour
    for whose in (3 - colour, colour):
        dead = [p for p in range(size * size) if board[p] == whose and 0 not in reached(tuple(board), size, p)[1]]
        for p in dead:
            board[p] = 0
    return tuple(board), board[point] == 0


def score(position: Position, size: int) -> int:
    total = 0
    for p in range(size * size):
        owner = {position[p]} if position[p] else reached(position, size, p)[1]
        total += (owner == {1}) - (owner == {2})
    return total


class Game:
    """One game; positions that have been are a set of tuples."""

    def __init__(self, size: int, ko: str, suicide: bool):
        self.size, self.ko, self.suicide = size, ko, suicide
        self.position: Position = (0,) * (size * size)
        self.turn = 1
        self.before: Position | None = None
        self.seen = {self._key(self.position, 1)}

    def _key(self, position: Position, turn: int) -> tuple[Position, int]:
        return position, turn if self.ko == "situational" else 0

    def legal(self, point: int) -> bool:
        if point == self.size**2:
            return True
        if self.position[point]:
            return False
        position, died = after(self.position, self.size, point, self.turn)
        if died and not self.suicide:
            return False
        if self.ko == "simple":  # taking back the one stone that took one: the position before the last move again
            return position != self.before or died
        return self._key(position, 3 - self.turn) not in self.seen

    def play(self, point: int) -> None:
        self.before = None if point == self.size**2 else self.position
        if point < self.size**2:
            self.position = after(self.position, self.size, point, self.turn)[0]
        self.turn = 3 - self.turn
        self.seen.add(self._key(self.position, self.turn))
