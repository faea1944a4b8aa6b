"""Writing files so that nothing is overwritten unasked and nothing half-written is left behind."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fxclone.errors import FxcloneError, UsageError


def check_target(path: str | Path, *, force: bool) -> Path:
    """Return ``path`` if a file may be written there; to be called before any long work starts.

    Raises
    ------
    UsageError
        If it exists and ``force`` is not given, if it is a folder, or if its folder is missing or read-only.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target} is a folder; expected the name of a file to write")
    if target.exists() and not force:
        raise UsageError(f"{target} exists already; choose another name with -o, or add --force to replace it")
    folder = target.parent
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist; make it first, or choose another with -o")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"the folder {folder} cannot be written to; choose another with -o")
    return target


@contextmanager
def atomic_output(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it there on success, remove it on any failure.

    The temporary name keeps the suffix, so that writers which look at it still work. An interrupted program leaves
    ``path`` as it was.

    Raises
    ------
    UsageError
        As `check_target`.
    FxcloneError
        If the disk is full or the file cannot be written.
    """
    target = check_target(path, force=force)
    # The name comes first, so that Ctrl-C at any moment finds what to remove.
    temporary = target.parent / f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}"
    try:
        temporary.touch(mode=0o600, exist_ok=False)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if force:
            temporary.replace(target)
        else:
            try:
                os.link(temporary, target)  # unlike rename, never replaces what appeared meanwhile
            except FileExistsError:
                raise UsageError(f"{target} appeared while it was being made; add --force to replace it") from None
            except OSError:  # a file system without hard links
                temporary.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(target: Path, error: OSError) -> FxcloneError:
    what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    advice = "nothing was left there: free some space or choose another folder"
    return FxcloneError(f"could not write {target}: {what}; {advice}")
