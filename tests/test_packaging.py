"""The house: lists that must agree, arrows that must not run up, imports that must stay light."""

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOOL = PROJECT["tool"]
PARTS = {"fxclone_training": "training", "fxclone_export": "export", "fxclone_realtime": "realtime"}
PACKAGES = {"fxclone": ROOT / "fxclone", **{name: ROOT / folder / name for name, folder in PARTS.items()}}
MAY_IMPORT = {
    "fxclone": set(),
    "fxclone_export": {"fxclone"},
    "fxclone_realtime": {"fxclone"},
    "fxclone_training": {"fxclone", "fxclone_export"},
}
MAX_LINES = 450
MODULES = [(package, path) for package, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]


def python(code):
    """What a fresh interpreter prints, as JSON; the packages come from the installation."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def imported_by(statement):
    return set(python(f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"))


def test_the_source_roots_agree():
    roots = [".", *PARTS.values()]
    assert sorted(TOOL["hatch"]["build"]["dev-mode-dirs"]) == sorted(roots)
    assert sorted(TOOL["pytest"]["ini_options"]["pythonpath"]) == sorted(roots)
    assert sorted(TOOL["ruff"]["src"]) == sorted(roots)
    assert sorted(TOOL["pyright"]["extraPaths"]) == sorted(PARTS.values())
    mypy = [path.removeprefix("$MYPY_CONFIG_FILE_DIR").removeprefix("/") or "." for path in TOOL["mypy"]["mypy_path"]]
    assert sorted(mypy) == sorted(roots)
    assert sorted(TOOL["mypy"]["packages"]) == sorted(PACKAGES)


def test_the_wheel_has_every_package_and_the_presets():
    wheel = TOOL["hatch"]["build"]["targets"]["wheel"]
    assert sorted(wheel["packages"]) == sorted(str(folder.relative_to(ROOT)) for folder in PACKAGES.values())
    assert wheel["force-include"] == {"presets": "fxclone/presets"}
    assert not (ROOT / "fxclone" / "presets").exists()
    assert len(list((ROOT / "presets").glob("*.toml"))) >= 5


def test_each_source_root_holds_one_package():
    for name, folder in PARTS.items():
        inside = [path.name for path in (ROOT / folder).iterdir() if (path / "__init__.py").is_file()]
        assert inside == [name]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package):
    assert (PACKAGES[package] / "py.typed").is_file()
    folders = {path.parent for path in PACKAGES[package].rglob("*.py")}
    assert folders
    assert all((folder / "__init__.py").is_file() for folder in folders)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module).split(".")[0]


def test_no_arrow_runs_up():
    assert len(MODULES) > 40
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package, path in MODULES
        for name in set(imports_of(path)) & set(PACKAGES)
        if name != package and name not in MAY_IMPORT[package]
    ]
    assert wrong == []


def test_only_the_roof_knows_torch():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package, path in MODULES
        for name in set(imports_of(path)) & {"torch", "numba", "safetensors"}
        if package != "fxclone_training"
    ]
    assert wrong == []


def modules_of(package):
    for path in sorted(PACKAGES[package].rglob("*.py")):
        parts = [package, *path.relative_to(PACKAGES[package]).with_suffix("").parts]
        yield ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("package", ["fxclone", "fxclone_export", "fxclone_realtime"])
def test_importing_all_of_a_floor_imports_no_torch_and_nothing_above(package):
    names = list(modules_of(package))
    assert len(names) > 3
    seen = imported_by("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names))
    assert set(names) <= seen
    assert "torch" not in seen
    assert "numba" not in seen
    assert {name for name in PACKAGES if name in seen} == {package} | MAY_IMPORT[package]


def test_importing_fxclone_is_light():
    seen = imported_by("import fxclone")
    assert {name for name in PACKAGES if name in seen} == {"fxclone"}
    assert not seen & {"torch", "onnx", "matplotlib", "pedalboard", "sounddevice"}


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["render", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    code = f"import contextlib, io, json, sys\nfrom fxclone import cli\n\
with contextlib.redirect_stdout(io.StringIO()) as said:\n    code = cli.run({words!r})\n\
print(json.dumps([code, said.getvalue(), sorted(sys.modules)]))"
    exit_code, said, modules = python(code)
    assert exit_code == 0
    assert said.strip()
    heavy = {"numpy", "torch", "scipy", "onnx", "onnxruntime", "numba", "pedalboard", "matplotlib", "sounddevice"}
    assert not heavy & set(modules)


def test_every_command_is_mounted():
    said = python(
        "import contextlib, io, json\nfrom fxclone import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()) as said:\n    cli.run(['--help'])\n"
        "print(json.dumps(said.getvalue()))"
    )
    for command in ("train", "play", "render", "evaluate", "effects", "devices", "info", "verify"):
        assert f" {command} " in said


@pytest.mark.parametrize("group", ["fxclone.commands", "fxclone.effects"])
def test_entry_points_resolve(group):
    declared = PROJECT["project"]["entry-points"][group]
    installed = {point.name: point for point in entry_points(group=group)}
    for name, target in declared.items():
        assert name in installed, f"{name} is not installed: run make setup again"
        assert installed[name].value == target
        assert installed[name].load() is not None
    scripts = {point.name: point for point in entry_points(group="console_scripts")}
    assert callable(scripts["fxclone"].load())


def test_the_installed_version_is_the_projects():
    assert (
        python("import json\nfrom importlib.metadata import version\nprint(json.dumps(version('fxclone')))")
        == (PROJECT["project"]["version"])
    )


def test_what_is_imported_is_declared():
    """Third-party imports of each floor are among its dependencies (the roof's in the extra)."""

    def names(requirements):
        return {
            entry.split(">")[0].split("=")[0].split("[")[0].strip().lower().replace("-", "_") for entry in requirements
        }

    base = names(PROJECT["project"]["dependencies"])
    extra = names(PROJECT["project"]["optional-dependencies"]["train"])
    for package, path in MODULES:
        allowed = base | set(PACKAGES) | set(sys.stdlib_module_names)
        if package in ("fxclone_training", "fxclone_export") or "plot" in path.name:
            allowed |= extra
        assert set(imports_of(path)) - allowed == set(), path


@pytest.mark.parametrize("path", [path for _, path in MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_no_pickle_no_exec_no_print():
    for _, path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert "pickle" not in set(imports_of(path)), path
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "exec", "eval"}, path


def test_top_level_of_the_repository():
    names = {path.name for path in ROOT.iterdir()}
    assert {"pyproject.toml", "fxclone", "training", "export", "realtime", "tests", "presets", "README.md"} <= names
    assert Path(ROOT / PROJECT["project"]["readme"]).is_file()
    assert all((ROOT / name).is_file() for name in PROJECT["project"]["license-files"])
