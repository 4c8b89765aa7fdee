"""Public checkpoints: verified or refused, whole or not there, and deployed in one step."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from any_torchvision import without_operators

from seg_perception.cli.main import main
from seg_perception.errors import ConfigError, ModelError
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.labels import Taxonomy
from seg_perception.registry.download import download
from seg_perception.registry.entries import BACKBONE, Entry, add_entry, find_entry, load_entries
from seg_perception.registry.fetching import fetch

CONTENT = bytes(range(256)) * 3000
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with one file."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "weights.pth").write_bytes(CONTENT)
    return folder


@pytest.fixture
def server(served: Path) -> Iterator[str]:
    """The folder over HTTP on this machine; /short promises more than it gives, /endless does not say how much."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/short", "/endless"):
                super().do_GET()
                return
            self.send_response(200)
            if self.path == "/short":
                self.send_header("Content-Length", str(len(CONTENT) + 1))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(served))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: str, served: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "weights.pth"
    first = download(f"{server}/weights.pth", path, HASH)
    assert (first.path, first.sha256, first.fetched) == (path, HASH, True)
    assert path.read_bytes() == CONTENT
    (served / "weights.pth").unlink()
    assert not download(f"{server}/weights.pth", path, HASH[:8]).fetched


def test_a_wrong_hash_refuses_and_leaves_nothing(server: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"SHA-256 {'0' * 64} wanted, {HASH} seen"):
        download(f"{server}/weights.pth", tmp_path / "cache" / "weights.pth", "0" * 64)
    assert not list((tmp_path / "cache").iterdir())


def test_a_spoilt_file_in_the_cache_is_fetched_anew(server: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(CONTENT[:-1])
    assert download(f"{server}/weights.pth", path, HASH).fetched
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("place", "most_bytes", "sentence"),
    [
        ("/short", 1 << 30, f"cut short|{len(CONTENT)} bytes"),
        ("/endless", len(CONTENT) - 1, f"at most {len(CONTENT) - 1} bytes wanted"),
        ("/weights.pth", 1000, f"at most 1000 bytes wanted, {len(CONTENT)} seen"),
        ("/nothing.pth", 1 << 30, "cannot be fetched .*404"),
    ],
)
def test_what_does_not_arrive_as_announced_leaves_nothing(
    server: str, tmp_path: Path, place: str, most_bytes: int, sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        download(server + place, tmp_path / "cache" / "weights.pth", "", most_bytes=most_bytes)
    assert not list((tmp_path / "cache").iterdir())


def entry(url: str, **fields: object) -> Entry:
    return Entry("net", url, BACKBONE, **fields)  # type: ignore[arg-type]


def test_a_file_of_which_no_hash_is_known_needs_the_users_word(served: Path, tmp_path: Path) -> None:
    unknown = entry((served / "weights.pth").as_uri())
    with pytest.raises(ConfigError, match=r"nobody has verified a SHA-256 .* --sha256.* --unverified"):
        fetch(unknown, tmp_path)
    assert fetch(unknown, tmp_path, unverified=True).sha256 == HASH
    assert fetch(unknown, tmp_path, sha256=HASH).sha256 == HASH
    with pytest.raises(ModelError, match="wanted"):
        fetch(unknown, tmp_path / "other", sha256="0" * 8)


def test_the_users_hash_has_to_agree_with_that_of_the_list(served: Path, tmp_path: Path) -> None:
    known = entry((served / "weights.pth").as_uri(), sha256=HASH[:8])
    assert fetch(known, tmp_path, sha256=HASH).path == tmp_path / "net" / "net.pth"
    with pytest.raises(ConfigError, match=f"--sha256 {'0' * 64} contradicts {HASH[:8]}"):
        fetch(known, tmp_path, sha256="0" * 64)
    with pytest.raises(ConfigError, match="8 to 64 lower-case hexadecimal digits wanted, 'abc' seen"):
        fetch(known, tmp_path, sha256="abc")


def test_an_unverified_file_is_not_taken_over_a_plain_connection(server: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without a SHA-256 only https is taken"):
        fetch(entry(f"{server}/weights.pth"), tmp_path, unverified=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("models: {net: {layout: onnx}}", "a mapping with url and layout wanted"),
        ("models: {net: {url: 'ftp://x', layout: onnx}}", "url of https, http or file wanted, 'ftp://x' seen"),
        ("models: {net: {url: 'https://x', layout: onnx, hash: a}}", r"unknown keys \['hash'\]"),
        ("models: {net: {url: 'https://x', layout: onnx, sha256: 12345678}}", "sha256: text wanted, 12345678 seen"),
        ("models: {net: {url: 'https://x', layout: onnx, sha256: ABCDEF01}}", "lower-case hexadecimal digits wanted"),
        (
            "models: {net: {url: 'https://x', layout: onnx, mean: [1, 2]}}",
            "mean of three numbers wanted",
        ),
        ("models: {../net: {url: 'https://x', layout: onnx}}", "a name of lower-case letters"),
        ("[1, 2]", "a mapping 'models' wanted"),
    ],
)
def test_a_list_that_cannot_be_is_refused_by_name(tmp_path: Path, content: str, sentence: str) -> None:
    own = tmp_path / "models.yaml"
    own.write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        load_entries(own)


def test_an_added_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    own = tmp_path / "settings" / "models.yaml"
    mine = Entry("mine", "https://example.org/a.onnx", "onnx", "pascal_voc", "MIT", "0" * 64, (1.0, 2.0, 3.0))
    add_entry(mine, own)
    add_entry(Entry("other", "https://example.org/b.pt", "seg_perception"), own)
    assert find_entry("mine", own) == mine
    assert set(load_entries(own)) - set(load_entries(tmp_path / "none.yaml")) == {"mine", "other"}
    with pytest.raises(ConfigError, match="there is one of that name; --replace"):
        add_entry(mine, own)
    with pytest.raises(ConfigError, match=r"model 'nothing': one of .*'mine'"):
        find_entry("nothing", own)


@pytest.mark.torch
def test_the_list_that_ships_holds_what_torchvision_itself_fetches() -> None:
    with without_operators():
        models = pytest.importorskip("torchvision.models")
    urls = {weight.url for name in models.list_models() for weight in models.get_model_weights(name)}
    shipped = load_entries(Path("/nonexistent"))
    from_torchvision = [each for each in shipped.values() if "download.pytorch.org" in each.url]
    assert len(from_torchvision) == 9
    for each in from_torchvision:
        assert each.url in urls
        assert each.url.removesuffix(".pth").endswith(f"-{each.sha256}")


@pytest.mark.torch
def test_the_list_that_ships_names_layouts_and_taxonomies_that_there_are() -> None:
    pytest.importorskip("torch")
    from seg_perception.models.checkpoints import PUBLISHED

    for each in load_entries(Path("/nonexistent")).values():
        if each.layout != BACKBONE:
            assert len(Taxonomy.load(each.taxonomy).trained) in (19, 21)
            assert each.layout in PUBLISHED
        assert each.licence


@pytest.mark.torch
def test_torchvisions_classes_are_those_of_our_taxonomy() -> None:
    with without_operators():
        segmentation = pytest.importorskip("torchvision.models.segmentation")
    theirs = segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    assert Taxonomy.load("pascal_voc").names == ("background", *theirs[1:])


@pytest.mark.torch
def test_a_published_checkpoint_is_fetched_and_deployed_in_one_step(
    tmp_path: Path, published_state: Callable[[str], dict], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    torch.save(published_state("torchvision/deeplabv3_mobilenet_v3_large"), tmp_path / "weights.pth")
    places = ["--list", str(tmp_path / "models.yaml"), "--cache", str(tmp_path / "cache")]
    words = ["--layout", "torchvision/deeplabv3_mobilenet_v3_large", "--taxonomy", "pascal_voc"]
    assert main(["models", "add", "voc", str(tmp_path / "weights.pth"), *words, *places]) == 0
    assert main(["models", "fetch", "voc", "--network-size", "96x64", *places]) == 0
    deployed = Path(capsys.readouterr().out.splitlines()[-1])
    assert deployed.parent == tmp_path / "cache" / "voc"
    contract = OnnxRuntimeSegmenter(deployed).contract
    assert (contract.taxonomy, contract.num_classes, contract.network_size) == ("pascal_voc", 21, (96, 64))
    made = deployed.stat().st_mtime_ns
    assert main(["models", "fetch", "voc", "--network-size", "96x64", *places]) == 0
    assert deployed.stat().st_mtime_ns == made  # found, not made again
    (tmp_path / "weights.pth").write_bytes(b"other")
    (tmp_path / "cache" / "voc" / "voc.pth").unlink()
    assert main(["models", "fetch", "voc", *places]) == 2
    assert "nothing was kept" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "cache" / "voc").iterdir()) == [deployed.name]


def test_an_onnx_and_a_deployed_file_need_no_pytorch(
    tmp_path: Path, server: str, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = onnx.numpy_helper.from_array(np.ones((19, 3, 1, 1), np.float32), "weights")
    shapes = [onnx.helper.make_tensor_value_info(name, 1, [1, count, 8, 16]) for name, count in (("x", 3), ("y", 19))]
    node = onnx.helper.make_node("Conv", ["x", "weights"], ["y"])
    graph = onnx.helper.make_graph([node], "network", shapes[:1], shapes[1:], [weights])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), served / "net.onnx")
    digest = hashlib.sha256((served / "net.onnx").read_bytes()).hexdigest()
    places = ["--list", str(tmp_path / "models.yaml"), "--cache", str(tmp_path / "cache")]
    words = ["--layout", "onnx", "--preset", "imagenet", "--sha256", digest]
    assert main(["models", "add", "plain", f"{server}/net.onnx", *words, *places]) == 0
    assert main(["models", "fetch", "plain", *places]) == 0
    deployed = Path(capsys.readouterr().out.splitlines()[-1])
    assert OnnxRuntimeSegmenter(deployed).contract.mean[0] == pytest.approx(123.675)
    assert main(["models", "add", "ready", str(deployed), "--layout", "deployed", *places]) == 0
    assert main(["models", "fetch", "ready", *places]) == 0
    assert OnnxRuntimeSegmenter(Path(capsys.readouterr().out.splitlines()[-1])).contract.num_classes == 19
    assert main(["models", "list", *places]) == 0
    said = capsys.readouterr().out
    assert "plain\n  onnx (cityscapes), SHA-256, fetched" in said
    assert "vainf-deeplabv3plus-mobilenet\n  vainf/deeplabv3plus_mobilenet (cityscapes), no known SHA-256" in said
