"""What reads from outside runs nothing of what it reads: no pickle, no YAML that builds objects, no shell."""

import ast
from pathlib import Path

import pytest

import seg_perception

PACKAGE = Path(seg_perception.__file__).parent
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
FORBIDDEN = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "yaml.unsafe_load", "yaml.full_load"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}  # without which they unpickle


def calls(module):
    """Each call in a module by its dotted name, with its keywords and the text of its arguments."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            keywords = {entry.arg: getattr(entry.value, "value", None) for entry in node.keywords}
            yield ast.unparse(node.func), keywords, ast.unparse(node)


def imported(module):
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_runs_nothing_of_what_it_reads(module):
    assert not set(imported(module)) & RUNS_WHAT_IT_READS
    for name, keywords, text in calls(module):
        assert name not in FORBIDDEN, text
        assert not keywords.get("shell"), text
        if name in SAFE:
            keyword, value = SAFE[name]
            assert keywords.get(keyword) is value, text
        if name in ("yaml.load", "yaml.load_all"):
            assert "_Loader" in text, text


def test_the_loader_of_yaml_builds_no_objects():
    from seg_perception.fusion import doubts
    from seg_perception.labels import _Loader

    for loader in (_Loader, doubts._Loader):
        assert loader.__name__ in ("SafeLoader", "CSafeLoader")
