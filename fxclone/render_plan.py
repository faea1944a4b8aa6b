"""Which file is rendered to which: names, folders that mirror folders, and no two inputs onto one output."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from fxclone.errors import UsageError
from fxclone.files import FORMAT_OF_SUFFIX, find_sounds


def plan_renders(
    inputs: Sequence[Path],
    output: Path | None,
    clone_name: str,
    *,
    output_is_folder: bool = False,
    keeps_format: Callable[[Path], bool] = lambda path: True,
) -> list[tuple[Path, Path]]:
    """Pair each input file with the file to write.

    Parameters
    ----------
    inputs : sequence of Path
        Files and folders.
    output : Path or None
        For one input file, the file to write (or a folder that exists); for several, or a folder, the folder to fill:
        its tree mirrors the inputs'. None writes ``<stem>-<clone name>`` into the current folder.
    clone_name : str
        For the default names.
    output_is_folder : bool
        Take ``output`` as a folder even for one file.
    keeps_format : callable
        Whether a file can be written in its own format; the name ends in ``.wav`` otherwise. Not asked for a target
        that is named in full.

    Raises
    ------
    UsageError
        If nothing is found, or two inputs would be written to one file.
    """
    one_file = len(inputs) == 1 and not inputs[0].is_dir()
    folder = output is not None and (output_is_folder or output.is_dir() or not one_file)
    if output is not None and not folder:
        return [(inputs[0], output)]
    if output is not None and not output.is_dir() and output.suffix.lower() in FORMAT_OF_SUFFIX:
        raise UsageError(f"{output} is the name of one file, and there are several inputs; expected a folder after -o")
    slug = re.sub(r"[^A-Za-z0-9._+-]+", "-", clone_name).strip("-.") or "clone"
    planned: list[tuple[Path, Path]] = []
    for given in inputs:
        for source in find_sounds([given]):
            if given.is_dir():
                root = output if output is not None else Path(f"{given.resolve().name}-{slug}")
                target = root / source.relative_to(given)
                if root.resolve() != given.resolve() and root.resolve() in source.resolve().parents:
                    continue  # what an earlier run wrote into a folder inside this one
            elif output is not None:
                target = output / source.name
            else:
                target = Path(f"{source.stem}-{slug}{source.suffix}")
            if not keeps_format(source):
                target = target.with_suffix(".wav")
            planned.append((source, target))
    seen: dict[Path, Path] = {}
    for source, target in planned:
        other = seen.setdefault(target.resolve(), source)
        if other is not source:
            raise UsageError(f"{other} and {source} would both be written to {target}; render them one at a time")
    if not planned:
        raise UsageError("no sound files are left to render: all of them lie in the output folder")
    return planned
