"""`verify reproduce lineage`: whether a model is what was sealed, how it was made, and making it again."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from steelyard.cli.exits import ExitCode, exit_code_of_states
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.session import connect
from steelyard.cli.waiting import watch_to_end
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.lineage import LineageEdge, LineageGraph, ModelVerification

_PANEL = "Models"
_COLOURS = {"ok": "green", "differs": "red", "missing": "red", "changed_since": "yellow"}
_KINDS = ("model", "job", "dataset")

ModelRef = Annotated[str, typer.Argument(metavar="MODEL@V", help="A registered version, such as demo@1.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify", rich_help_panel=_PANEL)(verify)
    app.command("reproduce", rich_help_panel=_PANEL)(reproduce)
    app.command("lineage", rich_help_panel=_PANEL)(show_lineage)
    app.command("card", rich_help_panel=_PANEL)(show_card)


def verify(model: ModelRef, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Compute every digest of a model's lineage anew and name what differs. Exit codes: 0 whole, 1 not."""
    name, version = parse_model(model)
    with connect(project) as client:
        found = client.lineage.verify(name, version)
    if as_json:
        write_json(found)
    else:
        _print_verification(found)
    if not found.verified:
        raise typer.Exit(ExitCode.JOB_FAILED)


def reproduce(
    model: ModelRef,
    detach: Annotated[bool, typer.Option("--detach", help="Submit and don't wait.")] = False,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the job that made a model once more, and compare the weights.

    Exit codes: 0 bit-identical, 1 not, or the job failed. Nothing is registered.
    """
    name, version = parse_model(model)
    with connect(project, persistent=True) as client:
        job = client.lineage.reproduce(name, version)
        if detach:
            write_json(job) if as_json else Screen().print(f"Submitted {job.id}.")
            return
        (ended,) = watch_to_end(client, [job.id], as_json=as_json)
        if code := exit_code_of_states([ended.state]):
            Screen(stderr=True).print(f"{job.id} {ended.state}: {printable(ended.status_message or '')}")
            raise typer.Exit(code)
        result = client.lineage.compare(name, version, job.id)
    if as_json:
        write_json(result)
    elif result.identical:
        Screen().print(
            Text.assemble(("Bit-identical", "green"), f": {model} = {job.id}, {result.found_digest}")
        )
    else:
        differing = ", ".join(map(printable, result.differing_files))
        Screen().print(Text.assemble(("Not the same", "red"), f": {differing} differ."))
    if not result.identical:
        raise typer.Exit(ExitCode.JOB_FAILED)


def show_lineage(
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="MODEL@V, or job:ID, or dataset:NAME@vN, or model:NAME@V.")
    ],
    hops: Annotated[int, typer.Option("--hops", min=0, max=6, help="How far to look.")] = 2,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what went into something and what came of it."""
    kind, separator, rest = ref.partition(":")
    if not separator:
        kind, rest = "model", ref
    if kind not in _KINDS:
        raise InvalidRequest(f"{kind!r} isn't one of {', '.join(_KINDS)}", param="REF")
    with connect(project) as client:
        graph = client.lineage.graph(kind, rest, hops=hops)
    if as_json:
        write_json(graph)
        return
    Screen().print(_tree(graph))


def show_card(model: ModelRef, project: ProjectName = None) -> None:
    """Print a model's card, in Markdown."""
    name, version = parse_model(model)
    with connect(project) as client:
        typer.echo(client.lineage.card(name, version))


def parse_model(ref: str) -> tuple[str, int]:
    """Split `NAME@V`.

    Raises:
        InvalidRequest: it has another form.
    """
    name, _, number = ref.rpartition("@")
    number = number.removeprefix("v")
    if not name or not (number.isascii() and number.isdigit()):
        raise InvalidRequest(f"{ref!r} isn't NAME@VERSION, such as demo@1", param="MODEL@V")
    return name, int(number)


def _print_verification(found: ModelVerification) -> None:
    table = Table("CHECK", "RESULT", "DIGEST", "", box=None)
    for check in found.checks:
        digest = (check.found or check.sealed or "").removeprefix("sha256:")[:16]
        mark = Text(check.status.replace("_", " "), style=_COLOURS[check.status])
        table.add_row(printable(check.subject), mark, digest, printable(check.message))
    screen = Screen()
    screen.print(table)
    verdict = ("is what was sealed", "green") if found.verified else ("is not what was sealed", "red")
    screen.print(Text.assemble(f"{printable(found.name)}@{found.version} ", verdict, "."))


def _tree(graph: LineageGraph) -> Tree:
    """Draw a graph from its root; what was drawn above isn't drawn again."""
    labels = {
        node.id: Text.assemble(f"{node.kind} ", (printable(node.label), "bold")) for node in graph.nodes
    }
    drawn = {graph.root}
    tree = Tree(labels[graph.root])
    frontier = [(graph.root, tree)]
    while frontier:
        name, branch = frontier.pop(0)
        for edge in graph.edges:
            other = _other_end(edge, name)
            if other is None or other in drawn or other not in labels:
                continue
            drawn.add(other)
            words = edge.relation.replace("_", " ")
            arrow = f"<- {words}" if edge.target == name else f"-> {words}"
            label = Text.assemble((f"{arrow} ", "dim"), labels[other])
            frontier.append((other, branch.add(label)))
    return tree


def _other_end(edge: LineageEdge, name: str) -> str | None:
    if edge.source == name:
        return edge.target
    return edge.source if edge.target == name else None
