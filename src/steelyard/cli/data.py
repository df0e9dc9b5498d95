"""`data ingest cancel derive list show head export verify diff report delete`: from raw files to versions."""

import sys
import tempfile
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from steelyard.cli.exits import ExitCode
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, write_json
from steelyard.cli.session import connect
from steelyard.cli.standard_input import KINDS, receive
from steelyard.client import Client, ClientError, Conflict
from steelyard.client.data_files import Input, find_data
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.datasets import DatasetVersionView
from steelyard.specs.ingests import IngestView
from steelyard.specs.tokens import TokenCacheView

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Files, folders, globs, URIs, or - for standard input."),
]
Name = Annotated[str, typer.Option("--name", help="Name of the dataset.")]
Ref = Annotated[str, typer.Argument(metavar="NAME[@vN]", help="A version; without @vN, the newest.")]
Split = Annotated[str | None, typer.Option("--split", help="train or validation; both if left out.")]

Decontaminate = Annotated[
    bool,
    typer.Option(
        "--decontaminate/--no-decontaminate", help="Drop rows that overlap with an evaluation suite."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Datasets: ingest, cancel, derive, list, show, head, export, verify, diff, report, delete.",
    )
    group.command("ingest")(ingest)
    group.command("cancel")(cancel)
    group.command("derive")(derive)
    group.command("delete")(delete)
    group.command("list")(list_datasets)
    group.command("show")(show)
    group.command("head")(head)
    group.command("export")(export)
    group.command("verify")(verify)
    group.command("diff")(diff)
    group.command("report")(report)
    app.add_typer(group, name="data", rich_help_panel="Data")


def ingest(
    files: Files,
    name: Name,
    spec_file: Annotated[
        Path | None, typer.Option("--spec", help="YAML or JSON with stages and their parameters.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Shape of the rows; detected if left out.")
    ] = None,
    column_map: Annotated[
        list[str] | None,
        typer.Option("--column-map", metavar="FROM=TO", help="Rename a column first; repeatable."),
    ] = None,
    max_bad: Annotated[
        float | None, typer.Option("--max-bad", help="Fraction of faulty rows that is let pass; default 0.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Put the rows to those of the newest version of the name.")
    ] = False,
    decontaminate: Decontaminate = True,
    stdin_kind: Annotated[
        str | None,
        typer.Option("--stdin-kind", help=f"What - reads: {', '.join(KINDS)}; found by looking if left out."),
    ] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn files into the next version of a dataset: validated, deduplicated, split, immutable.

    The same bytes with the same settings give the version that is there already. Ctrl-C makes no version and
    loses no work: the same command goes on where it was.
    """
    spec = _spec(spec_file, format_, column_map or [], max_bad)
    if stdin_kind is not None and stdin_kind not in KINDS:
        raise InvalidRequest(f"--stdin-kind is one of {', '.join(KINDS)}", param="--stdin-kind")
    with (
        _readable(files, stdin_kind, spec.get("column_map") or {}) as paths,
        connect(project, persistent=True) as client,
        _Bar(quiet=as_json) as bar,
        _cancelling(client, bar),
    ):
        version = client.datasets.ingest(
            paths, name, spec=spec, append_to=name if append else None, decontaminate=decontaminate,
            on_upload=bar.show_upload, on_progress=bar.show,
        )  # fmt: skip
    _tell(version, as_json)


def derive(
    name: Name,
    parent: Annotated[str | None, typer.Argument(metavar="NAME@vN", help="The version to filter.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--filter", metavar="SQL", help="Keep rows with, e.g., words > 20 AND turns >= 2."),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option("--mix", metavar="NAME@vN=WEIGHT", help="A version and its weight; repeatable."),
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="At most so many rows of a mix.")] = None,
    decontaminate: Decontaminate = True,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the next version of a dataset out of versions that are there: filtered, or mixed by weights.

    Conditions know the columns of text, and all_text, chars, words and turns.
    """
    weights = dict(_weight(pair) for pair in mix or [])
    with (
        connect(project, persistent=True) as client,
        _Bar(quiet=as_json) as bar,
        _cancelling(client, bar),
    ):
        version = client.datasets.derive(
            name, parent=parent, where=where, mix=weights, rows=rows, decontaminate=decontaminate,
            on_progress=bar.show,
        )  # fmt: skip
    _tell(version, as_json)


def cancel(
    ingest_id: Annotated[str, typer.Argument(metavar="INGEST", help="An ingest's id, ing_...")],
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop an ingest before it makes a version; what it finished is taken up by the same ingest later."""
    with connect(project) as client:
        found = client.datasets.cancel_ingest(ingest_id)
    if as_json:
        write_json(found)
    else:
        Screen().print(f"{found.id} is cancelled; no version was made.")


def delete(
    ref: Annotated[str, typer.Argument(metavar="NAME@vN", help="A version.")],
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete a version: gone where nothing refers to it, else a tombstone that no new job takes."""
    with connect(project) as client:
        found = client.datasets.delete(ref)
    if as_json:
        write_json(found)
    elif found.outcome == "gone":
        Screen().print(f"{ref} is gone.")
    else:
        Screen().print(f"{ref} is deleted; its record stays, because {found.kept_for} refers to it.")


def _tell(version: DatasetVersionView, as_json: bool) -> None:
    if as_json:
        write_json(_document(version))
        return
    screen = Screen()
    word = "Made" if version.created else "Nothing new: these are the rows of"
    screen.print(f"{word} {version.name}@v{version.version} ({version.format}), digest {version.digest}.")
    screen.print(_stage_table(version))
    _tell_left_out(screen, version)
    screen.print(f"Train on it with: dataset: {{ref: {version.name}@v{version.version}}}")


def list_datasets(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List datasets by name."""
    with connect(project) as client:
        found = client.datasets.list()
    if as_json:
        write_json(found)
        return
    table = Table("NAME", "NEWEST", box=None)
    for item in found:
        table.add_row(item.name, f"v{item.latest_version}")
    Screen().print(table if found else "No datasets yet; `steelyard data ingest FILE --name NAME` makes one.")


def show(ref: Ref, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show a version: digest, counts, what each stage kept and dropped, and its tokenized caches."""
    with connect(project) as client:
        version = client.datasets.show(ref)
        caches = client.datasets.tokenized(f"{version.name}@v{version.version}")
    if as_json:
        write_json(_document(version) | {"tokenized": [each.model_dump(mode="json") for each in caches]})
        return
    screen = Screen()
    screen.print(f"{version.name}@v{version.version}  {version.format}  {version.digest}")
    screen.print(f"train {version.rows_train} rows, validation {version.rows_validation} rows")
    screen.print(_stage_table(version))
    _tell_left_out(screen, version)
    if caches:
        screen.print(_token_table(caches))


def head(
    ref: Ref,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many rows.")] = 5,
    split: Annotated[str, typer.Option("--split", help="train or validation.")] = "train",
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the first rows of a version."""
    with connect(project) as client:
        rows = client.datasets.head(ref, limit=limit, split=split)
    if as_json:
        write_json({"data": rows})
        return
    screen = Screen()
    for row in rows:
        screen.print(yaml.safe_dump(row, allow_unicode=True, sort_keys=False).rstrip())
        screen.print("")


def export(
    ref: Ref,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; it appears when it is whole.")],
    split: Split = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the rows of a version to a file, as JSON Lines in TRL's columns."""
    partial = out.with_name(f".{out.name}.partial")
    count = 0
    try:
        with connect(project) as client, partial.open("wb") as file:
            for piece in client.datasets.rows(ref, split=split):
                count += piece.count(b"\n")
                file.write(piece)
        partial.replace(out)
    except OSError as error:
        message = f"can't write {out}: {error.strerror}; name another file"
        raise InvalidRequest(message, param="--out") from error
    finally:
        partial.unlink(missing_ok=True)
    if as_json:
        write_json({"path": str(out), "rows": count})
    else:
        Screen().print(f"Wrote {count} rows to {out}.")


def verify(ref: Ref, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Read all of a version again, and say whether it is what its digest says. Ends with 1 if it isn't."""
    with connect(project) as client:
        found = client.datasets.verify(ref)
    if as_json:
        write_json(found)
    else:
        screen = Screen()
        screen.print(f"{found.ref} is {'whole' if found.whole else 'DAMAGED'}: {found.digest}")
        for fault in found.faults:
            screen.print(fault)
    if not found.whole:
        raise typer.Exit(ExitCode.JOB_FAILED)


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A version.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another version.")],
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what sets two versions apart: rows by content, and fields of the spec."""
    with connect(project) as client:
        found = client.datasets.diff(new, against=old)
    if as_json:
        write_json(found)
        return
    screen = Screen()
    screen.print(f"{found.rows_added} rows added, {found.rows_removed} removed, {found.rows_shared} in both")
    for field, (before, after) in found.spec_changes.items():
        screen.print(f"{field}: {before} -> {after}")


def report(
    ref: Ref,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .html or .json.")],
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the report of a version's ingest: a page with pictures, or JSON."""
    form = "json" if out.suffix == ".json" else "html"
    with connect(project) as client:
        content = client.datasets.report(ref, form=form)
    try:
        out.write_bytes(content)
    except OSError as error:
        message = f"can't write {out}: {error.strerror}; name another file"
        raise InvalidRequest(message, param="--out") from error
    if as_json:
        write_json({"path": str(out), "bytes": len(content)})
    else:
        Screen().print(f"Wrote the report of {ref} to {out}.")


def _weight(pair: str) -> tuple[str, float]:
    ref, _, weight = pair.partition("=")
    try:
        return ref, float(weight or 1.0)
    except ValueError:
        raise InvalidRequest(
            f"--mix {pair!r} has no number after '='; write NAME@vN=0.5", param="--mix"
        ) from None


def _document(version: DatasetVersionView) -> dict[str, Any]:
    return version.model_dump(mode="json")


def _tell_left_out(screen: Screen, version: DatasetVersionView) -> None:
    if version.left_out:
        columns = ", ".join(f"{column} ({rows} rows)" for column, rows in version.left_out.items())
        screen.print(f"Not taken, as {version.format} has no place for it: {columns}")


def _stage_table(version: DatasetVersionView) -> Table:
    table = Table("STAGE", "IN", "KEPT", "DROPPED", "WHY", box=None)
    for stage in version.stages:
        why = ", ".join(f"{reason} {count}" for reason, count in stage.reasons.items())
        table.add_row(stage.name, str(stage.rows_in), str(stage.rows_kept), str(stage.rows_dropped), why)
    return table


def _token_table(caches: Sequence[TokenCacheView]) -> Table:
    table = Table("TOKENIZED FOR", "LENGTH", "PACKED", "ROWS", "TOKENS", "LEARNED", "LAST USED", box=None)
    for each in caches:
        table.add_row(
            each.tokenizer,
            str(each.max_length),
            "yes" if each.packing else "no",
            str(each.rows),
            str(each.tokens),
            str(each.loss_tokens),
            f"{each.last_used_at:%Y-%m-%d %H:%M}",
        )
    return table


def _spec(
    spec_file: Path | None, format_: str | None, column_map: list[str], max_bad: float | None
) -> dict[str, Any]:
    spec: dict[str, Any] = _read_spec(spec_file) if spec_file else {}
    if format_ is not None:
        spec["format"] = format_
    for pair in column_map:
        source, found, target = pair.partition("=")
        if not found:
            raise InvalidRequest(f"--column-map {pair!r} has no '='; write FROM=TO", param="--column-map")
        spec.setdefault("column_map", {})[source] = target
    if max_bad is not None:
        spec.setdefault("reading", {})["max_bad"] = max_bad
    return spec


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidRequest(f"{path} can't be read: {error.strerror}", param="--spec") from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not YAML: {error}", param="--spec") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must hold the fields of a dataset spec", param="--spec")
    return value  # pyright: ignore[reportUnknownVariableType]


@contextmanager
def _readable(names: list[str], stdin_kind: str | None, columns: Collection[str]) -> Generator[list[Input]]:
    """Yield what is meant, in order; standard input becomes a file."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs: list[Input] = [name for name in names if name != "-"]
        if "-" in names:
            find_data(inputs)  # before somebody waits for standard input
            inputs.append(receive(sys.stdin.buffer, Path(scratch), stdin_kind, columns))
        yield inputs


@contextmanager
def _cancelling(client: Client, bar: "_Bar") -> Generator[None]:
    """Have Ctrl-C stop what the platform does, and say what became of it."""
    try:
        yield
    except KeyboardInterrupt:
        bar.stop()
        _tell_cancelled(client, bar.ingest_id)
        raise


def _tell_cancelled(client: Client, ingest_id: str | None) -> None:
    screen = Screen(stderr=True)
    again = "the same command goes on where it was"
    if ingest_id is None:
        screen.print(f"Stopped; {again}.")
        return
    try:
        client.datasets.cancel_ingest(ingest_id)
    except Conflict as error:
        screen.print(f"Too late to stop: {error.message}.")
    except ClientError:
        screen.print(f"Can't reach the platform; it may go on. `steelyard data cancel {ingest_id}` stops it.")
    else:
        screen.print(f"Stopped; no version was made, and {again}.")


class _Bar:
    """The progress of an ingest, on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self.ingest_id: str | None = None
        """The ingest that is followed, once it was asked for."""
        self._told: str | None = None
        screen = Screen(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"),
            console=screen, transient=True, disable=quiet or not screen.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("uploading", total=None, note="")

    def show_upload(self, done_bytes: int, whole_bytes: int) -> None:
        """Take how much of a file was sent."""
        note = f"{min(done_bytes, whole_bytes) >> 20} of {whole_bytes >> 20} MiB"
        self._progress.update(
            self._task, description="uploading", total=whole_bytes, completed=done_bytes, note=note
        )

    def show(self, view: IngestView) -> None:
        """Take the newest state."""
        self.ingest_id = view.id
        if view.progress is None:
            self._progress.reset(self._task, total=None, description=view.state, note="")
            return
        self._progress.update(
            self._task,
            description=view.progress.stage,
            total=view.progress.total,
            completed=view.progress.done,
            note=f"{view.progress.rows} rows" if view.progress.rows else "",
        )
        if view.progress.note is not None and view.progress.note != self._told:
            self._told = view.progress.note
            self._progress.console.print(f"The ingest {view.progress.note}")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it off the screen; again, nothing happens."""
        self._progress.stop()
