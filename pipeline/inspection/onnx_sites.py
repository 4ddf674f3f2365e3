"""Where an ONNX graph attends: operators that are an attention, and MatMul, Softmax, MatMul.

A site in parts is a softmax whose input comes from a product of two computed values and whose
output goes into another. A product with a weight is none, so that routers of experts and heads of
classifiers are not taken for attention.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

from pipeline.onnx_files.model import UNKNOWN, Graph, Model, Node, ValueType
from pipeline.onnx_files.record import ATTENTION_OPS

PRODUCTS = frozenset({"MatMul", "Einsum", "Gemm", "FusedMatMul"})
BEFORE = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Div", "Dropout", "Expand", "Identity", "Max", "Min", "Mul"}
    | {"Neg", "Reshape", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"}
)
"""Operators that scores may pass on their way to the softmax."""

AFTER = frozenset(
    {"Cast", "Div", "Dropout", "Expand", "Identity", "IsNaN", "Mul", "Reshape", "Slice", "Squeeze"}
    | {"Transpose", "Unsqueeze", "Where"}
)
"""Operators that probabilities may pass on their way to the product with the values."""

_VIEWS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_STORED = frozenset({"Constant", "ConstantOfShape", "DequantizeLinear"})
MAX_STEPS = 24
"""Operators between softmax and product, and those that are looked through to a weight."""

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True, slots=True)
class Scope:
    """A graph with all that its nodes can see: their own values and those around them."""

    place: str
    graph: Graph
    makers: MutableMapping[str, Node]
    users: Mapping[str, list[Node]]
    types: MutableMapping[str, ValueType]
    weights: frozenset[str]
    inside: tuple[str, ...]
    """Operators that run this graph, outermost first: `If`, `Loop`."""

    def type_of(self, value: str) -> ValueType:
        """What is known of a value."""
        return self.types.get(value, UNKNOWN)

    def is_stored(self, value: str) -> bool:
        """Whether a value is a weight or constant, seen through casts, views and dequantizing."""
        for _ in range(MAX_STEPS):
            maker = self.makers.get(value)
            if value in self.weights or (maker is not None and maker.op in _STORED):
                return True
            if maker is None or maker.op not in _VIEWS or not maker.inputs:
                return False
            value = maker.inputs[0]
        return False


@dataclass(frozen=True, slots=True)
class Site:
    """One place of attention. `node` is its operator, or the softmax of one in parts.

    In parts: the products before and after, and what stands between them and the softmax.
    """

    kind: str
    scope: Scope
    node: Node
    products: tuple[Node, ...] = ()
    before: tuple[Node, ...] = ()
    after: tuple[Node, ...] = ()

    @property
    def in_parts(self) -> bool:
        """Whether it is MatMul, Softmax, MatMul."""
        return bool(self.products)

    @property
    def title(self) -> str:
        """The name of its node, and where it stands if that is not the main graph."""
        return f"{self.node.title} ({self.scope.place})" if self.scope.place else self.node.title


def scopes(model: Model) -> Iterator[Scope]:
    """The main graph and those inside of nodes."""
    yield from _scopes("", model.graph, None, ())


def _scopes(
    place: str, graph: Graph, outer: Scope | None, inside: tuple[str, ...]
) -> Iterator[Scope]:
    users: defaultdict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            users[name].append(node)
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    weights = frozenset(weight.name for weight in graph.weights)
    scope = Scope(
        place,
        graph,
        ChainMap(makers, outer.makers) if outer else makers,
        users,
        ChainMap(dict(graph.types), outer.types) if outer else dict(graph.types),
        weights | outer.weights if outer else weights,
        inside,
    )
    yield scope
    for node in graph.nodes:
        for name, inner in node.graphs.items():
            text = f"{name} of {node.op} `{node.title}`"
            where = f"{place}, {text}" if place else text
            yield from _scopes(where, inner, scope, (*inside, node.op))


def attention_sites(model: Model) -> list[Site]:
    """All sites, in the order of the file."""
    return [
        site
        for scope in scopes(model)
        for node in scope.graph.nodes
        if (site := _site(scope, node)) is not None
    ]


def _site(scope: Scope, node: Node) -> Site | None:
    domain = "ai.onnx" if node.is_standard else node.domain
    if node.op in ATTENTION_OPS.get(domain, ()):
        kind = node.op if node.is_standard else f"{node.domain} {node.op}"
        return Site(kind, scope, node)
    scores = _scores(scope, node)
    if scores is None:
        return None
    before = _backwards(scope, scores)
    after = _forwards(scope, node.outputs[0]) if before and node.outputs else None
    if not before or not after:
        return None
    products = (before[-1], after[-1])
    kind = f"MatMul, {'Softmax' if node.op == 'Softmax' else 'softmax in parts'}, MatMul"
    return Site(kind, scope, node, products, tuple(before[:-1]), tuple(after[:-1]))


def _scores(scope: Scope, node: Node) -> str | None:
    """What a softmax is taken of: Softmax itself, or the quotient of exponentials and their sum."""
    if not node.is_standard or not node.inputs:
        return None
    if node.op == "Softmax":
        return node.inputs[0]
    top, bottom = scope.makers.get(node.input(0)), scope.makers.get(node.input(1))
    if node.op != "Div" or top is None or bottom is None:
        return None
    summed = bottom.op == "ReduceSum" and bottom.input(0) == node.input(0)
    return top.input(0) if summed and top.op == "Exp" else None


def _backwards(scope: Scope, scores: str) -> list[Node] | None:
    """The shortest way back to a product of two computed values, that product last."""
    seen: set[str] = set()
    ways: list[tuple[str, list[Node]]] = [(scores, [])]
    while ways:
        value, way = ways.pop(0)
        node = scope.makers.get(value)
        if node is None or value in seen or len(way) > MAX_STEPS:
            continue
        seen.add(value)
        if node.op in PRODUCTS:
            # A query may be stored (one that is learned); keys that are stored are a router's.
            if len(node.inputs) > 1 and not scope.is_stored(node.inputs[1]):
                return [*way, node]
        elif node.is_standard and node.op in BEFORE:
            ways += [(name, [*way, node]) for name in node.inputs if name]
    return None


def _forwards(scope: Scope, probabilities: str) -> list[Node] | None:
    """The shortest way on to a product with another computed value, that product last."""
    seen: set[str] = set()
    ways: list[tuple[str, list[Node]]] = [(probabilities, [])]
    while ways:
        value, way = ways.pop(0)
        if value in seen or len(way) > MAX_STEPS:
            continue
        seen.add(value)
        for node in scope.users.get(value, ()):
            others = [name for name in node.inputs if name and name != value]
            if node.op in PRODUCTS:
                if others and not any(scope.is_stored(name) for name in others):
                    return [*way, node]
            elif node.is_standard and node.op in AFTER:
                ways += [(name, [*way, node]) for name in node.outputs if name]
    return None
