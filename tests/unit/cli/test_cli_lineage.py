"""How lineage is drawn: what a name holds is never taken for markup."""

from io import StringIO

from rich.console import Console

from steelyard.cli.lineage import _tree
from steelyard.specs.lineage import LineageEdge, LineageGraph, LineageNode


def test_a_graph_is_drawn_once_a_node_and_without_markup() -> None:
    graph = LineageGraph(
        root="model:demo@1",
        hops=2,
        nodes=[
            LineageNode(id="model:demo@1", kind="model", label="demo@1"),
            LineageNode(id="job:j", kind="job", label="[red]odd[/]"),
            LineageNode(id="dataset:d@v1", kind="dataset", label="d@v1"),
        ],
        edges=[
            LineageEdge(source="job:j", target="model:demo@1", relation="trained"),
            LineageEdge(source="dataset:d@v1", target="job:j", relation="used"),
        ],
    )
    out = StringIO()
    Console(file=out, width=80, markup=False).print(_tree(graph))
    assert out.getvalue().splitlines() == [
        "model demo@1",
        "└── <- trained job [red]odd[/]",
        "    └── <- used dataset d@v1",
    ]
