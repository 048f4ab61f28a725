"""Prompts as a tree of stretches: what many prompts have in common is there once, and a stretch costs as much as a block.

A node is blocks that follow each other, as packed hashes, and who holds them: all of them, since a node is cut in two
where a prompt branches off or a holder's part ends. A walk compares whole stretches, so that it takes as many steps as
a prompt has turns and branches, however long it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from services.openai.blocks import WIDTH, pack


class Node:
    """Blocks number `start` to `end` of the prompts that go through here."""

    __slots__ = ("blocks", "children", "end", "mask", "parent", "start", "touched")

    def __init__(self, blocks: bytes, start: int, parent: Node | None) -> None:
        self.blocks = blocks
        self.start = start
        self.end = start + len(blocks) // WIDTH
        self.parent = parent
        self.children: dict[bytes, Node] = {}
        """By their first block."""
        self.mask = 0
        """Who holds it, one bit for each slot; never more than hold its parent."""
        self.touched: dict[int, int] = {}
        """Slot → when it was last used there, by that slot's count."""


class Tree:
    """All prompts of one pool that somebody holds."""

    def __init__(self) -> None:
        self.root = Node(b"", 0, None)
        self.blocks = 0
        """Different blocks in the tree."""
        self._nodes: dict[int, Node] | None = None
        """Block → its node or one behind it that it was cut from; None until it is first asked for."""

    def walk(self, prompt: bytes) -> tuple[list[Node], int]:
        """Return the nodes on a prompt's way, and how many of its blocks are there; the last may go another way on."""
        at, children, path = 0, self.root.children, []
        while (child := children.get(prompt[at : at + WIDTH])) is not None:
            path.append(child)
            end = WIDTH * child.end
            if prompt[at:end] != child.blocks:
                return path, child.start + _common(prompt[at:end], child.blocks)
            at, children = end, child.children
        return path, at // WIDTH

    def grow(self, node: Node, prompt: bytes) -> Node:
        """Continue `node` with a prompt's blocks behind it; return the node that ends with the last of them."""
        start = node.end
        while True:
            at = WIDTH * (node.end - start)
            if at == len(prompt):
                return node
            child = node.children.get(prompt[at : at + WIDTH])
            if child is None:
                return self._add(node, prompt[at:])
            stretch = prompt[at : at + len(child.blocks)]
            node = (
                child
                if stretch == child.blocks
                else self.cut(child, child.start + _common(stretch, child.blocks))
            )

    def cut(self, node: Node, end: int) -> Node:
        """Return a node that ends with block number `end`, inside of `node` or at its end; `node` keeps the rest."""
        if end >= node.end:
            return node
        length, parent = WIDTH * (end - node.start), node.parent
        head = Node(node.blocks[:length], node.start, parent)
        head.mask, head.touched = node.mask, dict(node.touched)
        if parent is not None:
            parent.children[head.blocks[:WIDTH]] = head
        node.blocks, node.start, node.parent = node.blocks[length:], end, head
        head.children[node.blocks[:WIDTH]] = node
        return head

    def shorten(self, node: Node, end: int) -> None:
        """Take the blocks from number `end` on off a node without children; all of it goes with its first."""
        length, parent = WIDTH * (end - node.start), node.parent
        self.blocks -= node.end - end
        if self._nodes is not None:
            for block in _numbers(node.blocks[length:]):
                self._nodes.pop(block, None)
        if not length and parent is not None:
            del parent.children[node.blocks[:WIDTH]]
        node.blocks, node.end = node.blocks[:length], end

    def find(self, block: int, number: int) -> Node | None:
        """Return the node in which `block` is number `number` of a prompt; None without one.

        Where other replicas tell of prompts they do not tell the beginning again. Only then it must be known where
        every single block is.
        """
        node = self._known().get(block)
        while node is not None and node.start > number:
            node = node.parent
        if node is None or number >= node.end:
            return None
        at = WIDTH * (number - node.start)
        return node if node.blocks[at : at + WIDTH] == pack((block,)) else None

    def where(self, block: int) -> tuple[Node, int] | None:
        """Return the node with `block` and the number of the one after it; None where it is not known."""
        node, packed = self._known().get(block), pack((block,))
        while node is not None:
            at = node.blocks.rfind(packed)
            while at % WIDTH and at >= 0:  # the end of one block and the beginning of the next
                at = node.blocks.rfind(packed, 0, at + WIDTH - 1)
            if at >= 0:
                return node, node.start + at // WIDTH + 1
            node = node.parent
        return None

    def _known(self) -> dict[int, Node]:
        if self._nodes is None:
            self._nodes = {block: node for node in self._all() for block in _numbers(node.blocks)}
        return self._nodes

    def _add(self, parent: Node, blocks: bytes) -> Node:
        node = parent.children[blocks[:WIDTH]] = Node(blocks, parent.end, parent)
        self.blocks += node.end - node.start
        if self._nodes is not None:
            self._nodes.update(dict.fromkeys(_numbers(blocks), node))
        return node

    def _all(self) -> Iterator[Node]:
        left = list(self.root.children.values())
        while left:
            node = left.pop()
            left += node.children.values()
            yield node


def _common(one: bytes, other: bytes) -> int:
    """Return how many blocks two stretches begin with alike."""
    low, high = 0, min(len(one), len(other)) // WIDTH
    while low < high:
        middle = (low + high + 1) // 2
        if one[: WIDTH * middle] == other[: WIDTH * middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _numbers(blocks: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(blocks) // WIDTH}Q", blocks)
