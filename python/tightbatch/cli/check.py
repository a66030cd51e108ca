"""``tightbatch check``: whether the batches of a loader agree about their rows."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback as traces
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from .failure import CommandError, calling, no_file, one_line, shown, suggest, with_article
from .output import check_output, many, progress, say, write_json

SHOWN = 20  # findings in full
OURS = Path(__file__).parent.parent


@contextmanager
def running(name: str, traceback: bool) -> Iterator[None]:
    """Say in one line what went wrong in the user's code, and where."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, CommandError):
        raise
    except (Exception, SystemExit) as error:
        if traceback:
            traces.print_exc()
        if isinstance(error, SyntaxError):  # it names the place itself
            frames = traces.StackSummary()
        else:
            frames = traces.extract_tb(error.__traceback__)
        place = ""
        for frame in frames:
            file = Path(frame.filename)
            if not file.name.startswith("<") and OURS not in file.parents:
                place = f" ({shown(frame.filename)}, line {frame.lineno})"
        hint = "" if traceback else "; --traceback shows the rest"
        told = f"{type(error).__name__}: {one_line(error, 200)}"
        raise CommandError(f"{name} failed with {told}{place}{hint}") from None


def find_loader(name: str, traceback: bool) -> Any:
    """Import what ``module:name`` or ``file.py:name`` names, and call it if it is a function."""
    module, _, attribute = name.rpartition(":")
    if not module or not attribute:
        raise CommandError(
            f"{one_line(name, 60)!r} names no loader; expected module:name or file.py:name, such "
            "as train:loader"
        )
    with running(one_line(name, 60), traceback):
        found: Any = _import(module)
        for part in attribute.split("."):
            if not hasattr(found, part):
                names = [one for one in vars(found) if not one.startswith("_")]
                raise CommandError(f"{module} has no {part!r}: {suggest(part, names)}")
            found = getattr(found, part)
        if isinstance(found, Mapping):  # a batch
            return [found]
        if callable(found) and not (hasattr(found, "__iter__") and not isinstance(found, type)):
            found = found()
    if not isinstance(found, Iterable) and not hasattr(found, "__getitem__"):
        kind = with_article(type(found).__name__)
        raise CommandError(
            f"{one_line(name, 60)} is {kind}; expected a loader, or a function that makes one"
        )
    return found


def _import(module: str) -> Any:
    if not module.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            raise CommandError(f"there is no module {one_line(module, 60)!r} here or installed")
        return importlib.import_module(module)
    path = Path(module)
    if not path.is_file():
        raise no_file(path, lambda one: one.suffix == ".py")
    sys.path.insert(0, str(path.parent.resolve()))  # what it imports beside itself
    return importlib.import_module(path.stem)


def check(
    loader: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A loader, or a function that makes one: train:loader or ./train.py:make_loader.",
            show_default=False,
        ),
    ],
    batches: Annotated[
        int, typer.Option(metavar="N", min=1, help="Batches that are looked at.")
    ] = 100,
    max_position: Annotated[
        int | None,
        typer.Option(metavar="N", help="Positions of the model: max_position_embeddings."),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(metavar="N", help="Ids of the model: vocab_size.")
    ] = None,
    ignore_index: Annotated[
        int, typer.Option(metavar="N", help="The label that the loss ignores.")
    ] = -100,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="A kind of finding to leave out; may be repeated."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every finding to FILE; - prints JSON alone."),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the whole error of your own code.")
    ] = False,
) -> int:
    """Check that all columns of a loader's batches agree about where rows begin and end.

    Your module is imported, as Python imports it: what it does outside of functions is done.
    """
    check_output(json, "--json")
    settings = {
        "max_position": max_position,
        "vocab_size": vocab_size,
        "ignore_index": ignore_index,
        "skip": tuple(skip or ()),
    }
    found = look(loader, batches, settings, traceback)
    if json is not None:
        write_json(found, json)
    if str(json) != "-":
        _print(found)
    return 1 if found["count"] else 0


def look(name: str, most: int, settings: dict[str, Any], traceback: bool) -> dict[str, Any]:
    """Check the first batches of a loader."""
    from .. import check_batch

    loader = find_loader(name, traceback)
    options = {key: f"--{key.replace('_', '-')}" for key in settings}
    findings: list[dict[str, Any]] = []
    columns: dict[str, str] = {}
    notes: list[str] = []
    total, done = 0, 0
    with progress(most, "checking") as update, running(one_line(name, 60), traceback):
        for done, batch in enumerate(islice(iter(loader), most), 1):
            try:
                with calling(**options):
                    report = check_batch(batch, raises=False, **settings)
            except CommandError as error:
                text = str(error)
                is_setting = text.startswith(("--", "skip "))
                raise CommandError(text if is_setting else f"batch {done - 1}: {text}") from None
            total += report.count
            columns |= report.columns
            notes += [note for note in report.notes if note not in notes]
            for one in report:
                findings.append({"batch": done - 1, "kind": one.kind, "text": str(one)})
            update(done)
    if not done:
        raise CommandError(f"{one_line(name, 60)} gives no batches")
    return {
        "batches": done,
        "count": total,
        "columns": columns,
        "kinds": dict(Counter(one["kind"] for one in findings)),
        "findings": findings,
        "notes": notes,
    }


def _print(found: dict[str, Any]) -> None:
    for one in found["findings"][:SHOWN]:
        say(f"batch {one['batch']}: {one['text']}")
    if len(found["findings"]) > SHOWN:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in found["kinds"].items())
        say(f"... and {found['count'] - SHOWN:,} more; of all: {kinds}")
    for note in found["notes"]:
        say(f"note: {note}")
    seen = ", ".join(f"{one_line(key, 40)} ({kind})" for key, kind in found["columns"].items())
    batches = f"{found['batches']} batch{'' if found['batches'] == 1 else 'es'}"
    result = many(found["count"], "fault") if found["count"] else "nothing wrong"
    say(f"{batches}: {result}. Looked at: {seen or 'no column: none has a name that is known'}")
