"""A tree of prompts is cut where they branch, and only there."""

from __future__ import annotations

from services.epp.prefix_tree import Node, Tree
from services.openai.blocks import Blocks, pack


def prompt(*blocks: int) -> bytes:
    return pack(blocks)


def stretches(tree: Tree) -> dict[tuple[int, ...], tuple[int, int]]:
    return {tuple(Blocks(node.blocks)): (node.start, node.end) for node in tree._all()}


def grown(*prompts: tuple[int, ...]) -> Tree:
    tree = Tree()
    for one in prompts:
        tree.grow(tree.root, prompt(*one))
    return tree


def test_what_prompts_have_in_common_is_there_once():
    """The second is cut off where it differs, the third ends inside, the fourth goes on."""
    tree = grown((1, 2, 3, 4), (1, 2, 9), (1,), (1, 2, 9, 5))

    assert stretches(tree) == {(1,): (0, 1), (2,): (1, 2), (3, 4): (2, 4), (9,): (2, 3), (5,): (3, 4)}
    assert tree.blocks == 6


def test_a_walk_ends_where_nobody_went_on():
    """It says how far the last stretch is the same."""
    tree = grown((1, 2, 3, 4), (1, 2, 9))

    def walked(*blocks: int) -> tuple[list[tuple[int, ...]], int]:
        path, depth = tree.walk(prompt(*blocks))
        return [tuple(Blocks(node.blocks)) for node in path], depth

    assert walked(1, 2, 3, 8) == ([(1, 2), (3, 4)], 3)
    assert walked(1) == ([(1, 2)], 1)
    assert walked(1, 2, 7) == ([(1, 2)], 2)
    assert walked(7) == walked() == ([], 0)


def test_a_cut_leaves_both_parts_with_those_who_hold_it():
    """The end keeps being the node that ended there."""
    tree = grown((1, 2, 3))
    node = tree.walk(prompt(1))[0][0]
    node.mask, node.touched = 0b101, {0: 7, 2: 1}

    head = tree.cut(node, 1)

    assert tuple(Blocks(head.blocks)) == (1,)
    assert tuple(Blocks(node.blocks)) == (2, 3)
    assert node.parent is head
    assert (head.mask, head.touched) == (node.mask, node.touched)
    assert head.touched is not node.touched
    assert tree.cut(node, node.end) is node


def test_a_block_is_found_wherever_it_is_and_as_long_as_it_is_there():
    """Also in what is added and cut after the first question; not at another place in a prompt."""
    tree = grown((1, 2, 3, 4))

    def found(block: int, number: int) -> tuple[int, ...] | None:
        node: Node | None = tree.find(block, number)
        return None if node is None else tuple(Blocks(node.blocks))

    assert found(3, 2) == (1, 2, 3, 4)
    assert found(3, 1) is None
    tree.grow(tree.root, prompt(1, 2, 9))
    assert (found(1, 0), found(3, 2), found(9, 2)) == ((1, 2), (3, 4), (9,))
    leaf = tree.find(4, 3)
    assert leaf is not None
    tree.shorten(leaf, 3)
    assert (found(4, 3), found(3, 2)) == (None, (3,))
    tree.shorten(leaf, 2)
    assert found(3, 2) is None
    assert stretches(tree) == {(1, 2): (0, 2), (9,): (2, 3)}
