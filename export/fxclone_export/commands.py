"""``fxclone verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""

    @app.command()
    def verify(
        model: Annotated[Path, typer.Argument(help="The clone file (.onnx).")],
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Prove a clone file: its self-test, and that it is causal, streams, resets and stays finite."""
        import json

        from fxclone.clone import load_clone
        from fxclone.errors import CloneFileError
        from fxclone_export.battery import check_stream
        from fxclone_export.verify import fresh_streams

        clone = load_clone(model)
        checks = check_stream(fresh_streams(clone), channels_in=clone.channels_in, sample_rate=clone.sample_rate)
        failed = [check.name for check in checks if not check.passed]
        if as_json:
            rows = [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in checks]
            typer.echo(json.dumps({"model": str(model), "passed": not failed, "checks": rows}))
        else:
            typer.echo(f"ok      self-test                (differs by {clone.self_test_error():.2g})")
            for check in checks:
                typer.echo(f"{'ok    ' if check.passed else 'FAILED'}  {check.name:24} ({check.detail})")
        if failed:
            raise CloneFileError(f"{model} fails {len(failed)} of {len(checks)} checks: {', '.join(failed)}")
