"""The house: who may import whom, where imports stand, and that no file grows beyond what a reader holds in mind."""

import ast

from engine.files import ROOT

# a layer imports from itself and from those after it
LAYERS = (
    {"scripts"},
    {"train", "eval_affine", "eval_adversarial", "eval_corruption", "eval_activations"},
    {"engine"},
    {"recipes"},
    {"models", "regularizers", "data"},
)
ENTRIES = LAYERS[1]
HEAVY = {"foolbox", "matplotlib", "scipy", "sklearn", "submitit", "tensorboard", "timm", "torchvision"}
TRIES_IMPORTS = {"scripts/check_install.py"}  # to say which library is missing
LINES = 400

FOLDERS = {name for layer in LAYERS for name in layer}
CODE = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.py"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py")))
)
ALL = [*CODE, *sorted(path.relative_to(ROOT) for path in (ROOT / "tests").glob("*.py"))]


def layer(module):
    """The number of the layer that a module is in, or None."""
    return next((number for number, names in enumerate(LAYERS) if module.partition(".")[0] in names), None)


def module_of(path):
    """scripts/grid/job.py -> scripts.grid.job."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in CODE}


def tree(path):
    """The syntax tree of a file."""
    return ast.parse((ROOT / path).read_text())


def imported(path, node):
    """The full names of the modules that an import statement of a file imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = path.parts[: len(path.parts) - node.level] if node.level else ()
    base = ".".join([*package, *filter(None, [node.module])])
    return [name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names]


def imports(path, nodes=None):
    """The full names of all modules that a file imports, or some nodes of its syntax tree."""
    nodes = ast.walk(tree(path)) if nodes is None else nodes
    return {name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in imported(path, node)}


def inner_imports(path):
    """What is imported within functions of a file."""
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {name for function in functions for name in imports(path, ast.walk(function))}


def test_imports_go_downwards():
    upwards = []
    for path in CODE:
        number = layer(module_of(path))
        for name in imports(path):
            other = layer(name)
            if other is not None and (other < number or (other == number and name in ENTRIES)):
                upwards.append(f"{path} imports {name}")
    assert upwards == []


def test_there_is_no_circle():
    arrows = {name: imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    while arrows:
        leaves = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        assert leaves, f"a circle among {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}


def test_imports_stand_at_the_top_but_for_heavy_libraries():
    inner = {path: {name for name in inner_imports(path) if not HEAVY & set(name.split("."))} for path in CODE}
    assert {str(path): names for path, names in inner.items() if names and str(path) not in TRIES_IMPORTS} == {}


def test_no_file_changes_where_modules_are_looked_for():
    attributes = {path: {ast.unparse(n) for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute)} for path in ALL}
    assert [str(path) for path, names in attributes.items() if "sys.path" in names] == []


def test_no_file_is_longer_than_a_reader_holds_in_mind():
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in ALL}
    assert {name: count for name, count in lines.items() if count > LINES} == {}
