"""The command line: mounts the commands that the parts register, and turns errors into one line and an exit code.

Nothing heavy is imported here, so that ``fxclone --help`` is quick. A part registers its commands in the entry-point
group ``fxclone.commands``; each entry point is a function that takes the typer app.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

import typer
from typer.exceptions import Abort, Exit, TyperException

from fxclone.errors import FxcloneError

INTERRUPTED = 130
COMMAND_ORDER = (
    "train",
    "capture",
    "check",
    "analyze",
    "play",
    "render",
    "evaluate",
    "effects",
    "signal",
    "devices",
    "latency",
    "info",
    "verify",
)


def build_app() -> typer.Typer:
    """Collect every registered command, in the order in which a newcomer needs them."""
    app = typer.Typer(
        name="fxclone",
        help="Playable neural copies of audio effects: train a clone, play it live, render files with it.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def top(
        version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
    ) -> None:
        if version:
            from importlib.metadata import version as installed

            typer.echo(installed("fxclone"))
            raise Exit(0)

    for point in entry_points(group="fxclone.commands"):
        try:
            register = point.load()
        except ImportError as error:
            if os.environ.get("FXCLONE_DEBUG"):
                sys.stderr.write(f"fxclone: commands of {point.value} are missing: {error}\n")
            continue
        register(app)
    app.registered_commands.sort(
        key=lambda command: _rank(command.name or str(getattr(command.callback, "__name__", "")))
    )
    return app


def _rank(name: str) -> int:
    return COMMAND_ORDER.index(name) if name in COMMAND_ORDER else len(COMMAND_ORDER)


def main() -> None:
    """Entry point of the ``fxclone`` script."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    try:
        code = build_app()(args or ["--help"], standalone_mode=False, prog_name="fxclone")
        if code == INTERRUPTED:  # typer's word for Ctrl-C
            return _fail("interrupted", INTERRUPTED)
        return int(code) if isinstance(code, int) else 0
    except FxcloneError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        return _fail(f"{error.format_message()} (try: fxclone --help)", 2)
    except Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", INTERRUPTED)
    except MemoryError:
        return _fail("out of memory; close other programs, or use a smaller model or shorter files", 1)
    except BrokenPipeError:
        # The reader of our output is gone (as with `| head`): not a failure worth a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if os.environ.get("FXCLONE_DEBUG"):
            raise
        what = f"{error.filename}: " if error.filename else ""
        return _fail(f"{what}{error.strerror or error}", 1)


def _fail(message: str, code: int) -> int:
    one_line = " ".join(message.split())
    sys.stderr.write(f"fxclone: {one_line}\n")
    return code


if __name__ == "__main__":
    main()
