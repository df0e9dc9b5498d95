"""`open`: a browser that is signed in, on a page of the platform."""

import webbrowser
from typing import Annotated

import typer

from steelyard.cli.options import JsonFlag
from steelyard.cli.output import Screen, write_json
from steelyard.cli.session import connect


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("open", rich_help_panel="Access")(open_page)


def open_page(
    path: Annotated[
        str,
        typer.Argument(help="Path on the platform, such as the one that 'dataset_report' of a job shows."),
    ] = "/mlflow/",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or only print the link.")
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Open a page, signed in as you: MLflow, or a dataset's report. The link is good for 15 minutes."""
    with connect() as client:
        link = client.session_link(path)
    if as_json:
        write_json({"url": link})
        return
    opened = browser and webbrowser.open(link)
    screen = Screen()
    screen.print("A browser opens; if it doesn't, go to" if opened else "For your eyes alone:")
    screen.print(link, soft_wrap=True, highlight=False)
