"""Imports point one way, one file knows which middle a model has, nothing can run code out of a data file, and tests
mirror the modules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fpdm

ROOT = Path(fpdm.__file__).parent
# Models that come with the package are data; their Python files are for other programs, and only import from it.
FILES = sorted(path for path in ROOT.rglob("*.py") if "shipped" not in path.relative_to(ROOT).parts)


def module(path: Path) -> str:
    """Its dotted name, a package's `__init__` included."""
    return ".".join(("fpdm", *path.relative_to(ROOT).with_suffix("").parts))


def imports(tree: ast.AST, name: str) -> set[str]:
    """The modules of fpdm that module `name` imports anywhere, inside functions and for type checking too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level] if node.level else []
            source = ".".join([*package, *([node.module] if node.module else [])])
            # `from fpdm import models` imports a module as well.
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return {f"{found_name}." for found_name in found if found_name.split(".")[0] == "fpdm"}


def names(tree: ast.AST) -> set[str]:
    """Every identifier, argument name, attribute and string constant: what a file can mention, prose left out."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found |= set(node.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= set(node.module.split("."))
        elif isinstance(node, (ast.arg, ast.keyword)) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def dangers(tree: ast.AST) -> set[str]:
    """Ways to run code that stands in a file."""
    found = names(tree) & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "allow_pickle", "extractall"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            found |= {called} & {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load", "torch.save"}
        elif isinstance(node, ast.ImportFrom) and node.module in ("yaml", "torch"):
            found |= {
                f"{node.module}.{alias.name}" for alias in node.names if alias.name in ("load", "save", "unsafe_load")
            }
    return found


ORDER = (
    *("errors", "progress_bar", "configuration", "randomness", "signals", "memory", "files", "tensors", "outputs"),
    *("hub", "devices", "processes"),
    *("fixed_point", "models", "diffusion", "autoencoder", "data", "sampling", "drawing", "runs", "evaluation"),
    *("training", "fid", "compare", "tune", "reproduce", "inspection", "importing", "export", "pipeline"),
    *("demo", "commands", "cli", "__main__"),
)
"""Every module and package below `fpdm`; each may import those before it."""
ON_THEIR_OWN = {
    "fixed_point": set(),
    "models": {"fixed_point", "configuration"},
    "diffusion": {"configuration"},
    "drawing": {"errors", "files"},
}
"""Packages that may import these packages of ours only, because they are of use without the others."""


def test_every_part_has_its_place() -> None:
    assert sorted(ORDER) == sorted({path.relative_to(ROOT).with_suffix("").parts[0] for path in FILES} - {"__init__"})


@pytest.mark.parametrize("part", ORDER)
def test_imports_point_one_way(part: str) -> None:
    allowed = ON_THEIR_OWN.get(part, {*ORDER[: ORDER.index(part)]}) | {part, "__version__"}
    for path in FILES:
        if path.relative_to(ROOT).with_suffix("").parts[0] != part:
            continue
        for imported in imports(ast.parse(path.read_text()), module(path)):
            assert imported.split(".")[1] in allowed | {""}, f"{path} imports {imported}"


def test_only_the_transformer_and_its_middle_know_which_middle_it_is() -> None:
    secret = {"BlockStack", "FixedPointLayer", "middle_kind"}
    knowing = {ROOT / "models" / name for name in ("middle.py", "transformer.py", "config.py", "cost.py")}
    for path in FILES:
        mentioned = names(ast.parse(path.read_text())) & secret
        assert bool(mentioned) == (path in knowing), f"{path} mentions {mentioned}"


FOREIGN = ROOT / "importing" / "foreign.py"  # may read a foreign checkpoint, as weights only


def test_nothing_runs_code_out_of_a_file() -> None:
    for path in FILES:
        allowed = {"torch.load"} if path == FOREIGN else set()
        assert dangers(ast.parse(path.read_text())) <= allowed, path


def is_weights_only(call: ast.Call) -> bool:
    """Whether a call of torch.load names `weights_only=True` and no module of its own to unpickle with."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    only = given.get("weights_only")
    return isinstance(only, ast.Constant) and only.value is True and not given.keys() & {"pickle_module", None}


def reads_weights_only(tree: ast.AST) -> bool:
    """Whether torch.load is mentioned once, reading weights only, and nothing but a namespace is let in."""
    mentions = [node for node in ast.walk(tree) if isinstance(node, (ast.expr, ast.ImportFrom)) and dangers_of(node)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.func in mentions]
    allowed = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "safe_globals" in node.func.attr
    ]
    return (
        len(mentions) == len(calls) == 1
        and is_weights_only(calls[0])
        and allowed in ([], ["torch.serialization.safe_globals([argparse.Namespace])"])
    )


def dangers_of(node: ast.AST) -> bool:
    """Whether this very node mentions torch.load."""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) == "torch.load"
    return isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in {one.name for one in node.names}


def test_foreign_files_are_read_in_one_place_and_as_weights_only() -> None:
    assert reads_weights_only(ast.parse(FOREIGN.read_text()))
    assert not [path for path in FILES if path != FOREIGN and "safe_globals" in path.read_text()]


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "torch.load(path, **options)",
        "torch.load(path, weights_only=True, pickle_module=other)",
        "torch.load(path, weights_only=True)\ntorch.load(path, weights_only=True)",
        "read = torch.load\nread(path)",
        "from torch import load\nload(path, weights_only=True)",
        "torch.serialization.add_safe_globals([A])\ntorch.load(path, weights_only=True)",
        "with torch.serialization.safe_globals([A]):\n    torch.load(path, weights_only=True)",
    ],
)
def test_this_file_sees_how_foreign_files_are_read(source: str) -> None:
    assert not reads_weights_only(ast.parse(source))
    assert reads_weights_only(ast.parse("torch.load(path, weights_only=True)"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from fpdm.models import preset", {"fpdm.models.", "fpdm.models.preset."}),
        ("import fpdm.cli as c", {"fpdm.cli."}),
        ("from fpdm import sampling", {"fpdm.", "fpdm.sampling."}),
        ("def f():\n    from ..models import cost", {"fpdm.models.", "fpdm.models.cost."}),
        ("from .. import models", {"fpdm.", "fpdm.models."}),
        ("import torch", set()),
    ],
)
def test_this_file_sees_imports(source: str, found: set[str]) -> None:
    assert imports(ast.parse(source), "fpdm.fixed_point.solve") == found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "from torch import load",
        "yaml.load(text)",
        "eval(text)",
        "archive.extractall()",
    ],
)
def test_this_file_sees_dangers(source: str) -> None:
    assert dangers(ast.parse(source))


def test_this_file_lets_harmless_things_pass() -> None:
    assert not dangers(ast.parse('"""No pickle, no eval()."""\nmodel.eval()\njson.load(f)\nyaml.safe_load(text)'))


TESTS = Path(__file__).parent
OF_NO_MODULE = {
    "test_architecture.py": "rules for all modules",
    "test_boards.py": "examples/ lies outside the package",
    "test_benchmarks.py": "benchmarks/ lies outside the package",
    "test_browser_example.py": "examples/browser/ lies outside the package",
    "test_docstrings.py": "rules for all modules",
    "test_examples.py": "examples/ lies outside the package",
    "test_choosing.py": "benchmarks/ lies outside the package",
    "test_documentation.py": "links and commands of README.md and docs/",
    "test_page_commands.py": "docs/ and examples/ run from their first command to their last",
    "test_readme.py": "README.md runs from its first command to its last",
    "test_import_time.py": "rules for all modules",
    "evaluation/test_torch_fidelity.py": "all distances against another implementation",
    "faults/test_changes.py": "changed bytes in files of all commands",
    "faults/test_kills.py": "kills at random moments of all commands",
    "faults/test_long.py": "many trainings, resumptions and samples in turn",
    "faults/test_malicious.py": "files that want to run code or fill the memory",
    "faults/test_crashes.py": "kills at any file operation of all commands",
    "faults/test_surroundings.py": "full disks, vanished folders and bare environments",
    "faults/test_cases.py": "mistakes and damaged files of all commands",
    "models/test_activation_checkpointing.py": "blocks, middle and transformer together",
    "models/test_compiled.py": "block, middle and transformer together",
    "models/test_weak_answers.py": "middle, transformer and cost together",
    "runs/test_full_size.py": "four commands one after the other",
    "runs/test_latent_runs.py": "a run on latents from images to samples",
    "training/test_processes.py": "two processes that train together",
}
"""Tests of more than one module, or of none, and of what."""


def has_logic(tree: ast.AST) -> bool:
    """Whether there is a function or a method other than a property or an abstract method."""
    declared = {"property", "abstractmethod", "overload"}
    return any(
        not declared & {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )


def untested(root: Path, tests: Path) -> set[str]:
    """The modules with logic below `root` that have no test file at their place below `tests`."""
    modules = [path for path in root.rglob("*.py") if has_logic(ast.parse(path.read_text(encoding="utf-8")))]
    places = {path.relative_to(root).as_posix(): path.relative_to(root) for path in modules}
    return {name for name, place in places.items() if not (tests / place.parent / f"test_{place.name}").exists()}


def astray(root: Path, tests: Path) -> set[str]:
    """The test files below `tests` at whose place below `root` there is no module."""
    places = [path.relative_to(tests) for path in tests.rglob("test_*.py")]
    return {
        place.as_posix() for place in places if not (root / place.parent / place.name.removeprefix("test_")).exists()
    }


def test_every_module_with_logic_has_its_test_file_and_every_test_file_its_module() -> None:
    assert not untested(ROOT, TESTS)
    assert astray(ROOT, TESTS) == OF_NO_MODULE.keys()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("X = 3\n\nclass A:\n    x: int = 0", False),
        ("class A:\n    @property\n    def x(self): return 0", False),
        ("class A(abc.ABC):\n    @abc.abstractmethod\n    def x(self): ...", False),
        ("class A:\n    def __post_init__(self): pass", True),
        ("class A:\n    @functools.cached_property\n    def x(self): return 0", True),
        ("if True:\n    async def f(): pass", True),
    ],
)
def test_this_file_sees_logic(source: str, found: bool) -> None:
    assert has_logic(ast.parse(source)) == found


def test_this_file_sees_what_is_untested_and_astray(tmp_path: Path) -> None:
    for name, text in {
        "src/a.py": "def f(): pass",
        "src/room/a.py": "def f(): pass",
        "src/room/b.py": "def f(): pass",
        "src/room/constants.py": "X = 3",
        "tests/test_a.py": "",
        "tests/room/test_b.py": "",
        "tests/room/test_c.py": "",
        "tests/room/helper.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert untested(tmp_path / "src", tmp_path / "tests") == {"room/a.py"}
    assert astray(tmp_path / "src", tmp_path / "tests") == {"room/test_c.py"}
