"""Which chat templates cannot run on, whatever they are given: they need no process of their own.

A copy of a process that holds a model takes longer to make than a short prompt takes to read. Most
templates go through the messages once and say them: the work of such a program is bounded by its
length and theirs. What is not known here to be of that kind is not trusted.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

LISTS = frozenset({"messages", "tools", "documents"})  # that are given
SAID = frozenset({"role", "content"})  # what messages hold; of anything else they have nothing
FUNCTIONS = frozenset({"namespace", "raise_exception"})
METHODS = frozenset({"strip", "lstrip", "rstrip", "startswith", "endswith", "split"})
FILTERS = frozenset({"trim", "length", "first", "last", "tojson", "string"})
ESCAPING = frozenset({"tojson", "string", "split"})  # with which a text may double, once a use
HARMLESS = (
    *(nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Assign, nodes.Continue),
    *(nodes.Break, nodes.Const, nodes.Name, nodes.NSRef, nodes.Getattr, nodes.Getitem),
    *(nodes.Slice, nodes.Add, nodes.Sub, nodes.Neg, nodes.Concat, nodes.CondExpr, nodes.Keyword),
    *(nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand, nodes.Test),
)


@functools.lru_cache(maxsize=8)
def is_bounded(template: str) -> bool:
    """Whether what a template does is bounded by its length, times messages, times characters."""
    reader = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        tree = reader.parse(template)
        return (
            all(_is_harmless(node) for node in tree.find_all(nodes.Node))
            and all(_escapes_once(node) for node in tree.find_all((nodes.Output, nodes.Assign)))
            and _grows_by_addition(tree)
            and _goes_through_lists(tree)
        )
    except Exception:  # it cannot be read, which is said where it is run
        return False


def _is_harmless(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in FILTERS and not (node.args or node.kwargs)
    if isinstance(node, nodes.Call):
        asked = node.node
        if node.dyn_args or node.dyn_kwargs:
            return False
        is_method = isinstance(asked, nodes.Getattr) and asked.attr in METHODS
        return is_method or (isinstance(asked, nodes.Name) and asked.name in FUNCTIONS)
    if isinstance(node, nodes.Mod):  # of a text it is a format, with whatever widths
        return isinstance(node.left, nodes.Getattr) and _name_of(node.left.node) == "loop"
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(isinstance(item, nodes.Const) for item in node.items)
    return isinstance(node, HARMLESS)


def _escapes_once(statement: nodes.Node) -> bool:
    """Whether no text is escaped, or taken apart, and what that gives again."""
    if isinstance(statement, nodes.Output):
        return all(_num_escaping(node) <= 1 for node in statement.nodes)
    return _num_escaping(statement) <= 1


def _num_escaping(node: nodes.Node) -> int:
    return sum(_uses(one) in ESCAPING for one in (node, *node.find_all(nodes.Node)))


def _uses(node: nodes.Node) -> str | None:
    """Return the filter or method that an expression applies."""
    if isinstance(node, nodes.Filter):
        return node.name
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        return node.node.attr
    return None


def _grows_by_addition(tree: nodes.Template) -> bool:
    """Whether what names keep grows by what was given, and never by what they keep."""
    kept = {_name_of(assign.target) for assign in tree.find_all(nodes.Assign)}
    if None in kept:
        return False
    for assign in tree.find_all(nodes.Assign):
        value = (assign.node, *assign.node.find_all(nodes.Node))
        used = sum(_name_of(node) in kept for node in value)
        repeats = any(isinstance(n, nodes.Concat) or _uses(n) in ESCAPING for n in value)
        if used > 1 or (used and repeats):
            return False
    return True


def _goes_through_lists(tree: nodes.Template) -> bool:
    """Whether loops are over messages, and those within them over what no message has."""
    assigns = list(tree.find_all(nodes.Assign))
    kept = {_name_of(assign.target) for assign in assigns}
    lists = {*LISTS, *kept}
    while wrong := {
        _name_of(a.target)
        for a in assigns
        if _name_of(a.target) in lists and not _is_list(a.node, lists)
    }:
        lists -= wrong
    for loop in _outer_loops(tree.body):
        if loop.recursive or not _is_list(loop.iter, lists):
            return False
        given = _name_of(loop.target)
        if given is None or given in kept:
            return False
        if not all(_is_missing(inner.iter, given) for inner in _outer_loops(loop.body)):
            return False
    return True


def _outer_loops(body: Sequence[nodes.Node]) -> Iterator[nodes.For]:
    """Yield the loops that stand in no other one."""
    for node in body:
        if isinstance(node, nodes.For):
            yield node
            yield from _outer_loops(node.else_)
        else:
            yield from _outer_loops(list(node.iter_child_nodes()))


def _is_list(node: nodes.Node, lists: set[str | None]) -> bool:
    """Whether an expression is a list that was given, or a part of one."""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _is_list(node.node, lists)
    return isinstance(node, nodes.Name) and node.name in lists


def _is_missing(node: nodes.Node, message: str) -> bool:
    """Whether an expression asks a message for what it does not have, such as `tool_calls`."""
    if isinstance(node, nodes.Getattr):
        return _name_of(node.node) == message and node.attr not in SAID
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return _name_of(node.node) == message and node.arg.value not in SAID
    return False


def _name_of(node: nodes.Node) -> str | None:
    return node.name if isinstance(node, nodes.Name | nodes.NSRef) else None
