"""`seg-perception view`: look at a labelled bag or a saved map, in a window, as a picture or as a Rerun recording."""

from __future__ import annotations

import argparse
from pathlib import Path

from seg_perception.bags import BagReader
from seg_perception.config import Config, parameters_beside
from seg_perception.drawing import Pixels, save
from seg_perception.errors import BagError, ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.scene.map_files import SUFFIXES, load_map
from seg_perception.viewing import open3d_window, rerun_file
from seg_perception.viewing.coloring import COLORINGS
from seg_perception.viewing.drives import LabelledDrive
from seg_perception.viewing.scenes import KEYS, Scene, Shown
from seg_perception.viewing.shown import Points
from seg_perception.viewing.splatting import splat

SIZE = (1280, 720)
TOGETHER = 10


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `view`."""
    parser = subparsers.add_parser("view", help="look at a labelled bag or a saved map")
    parser.add_argument("file", type=Path, help="bag that holds labelled clouds, or map: .ply, .pcd or .npz")
    parser.add_argument("--out", type=Path, help="write a picture (.png, .jpg) instead of opening a window")
    parser.add_argument("--rerun", type=Path, help="write a Rerun recording (.rrd) instead of opening a window")
    parser.add_argument("--color", choices=tuple(COLORINGS), default="class", help="what colours say (%(default)s)")
    parser.add_argument(
        "--from", dest="place", type=_place, metavar="X,Y,Z",
        help="where to look from, metres, as --from=-11,0,7.5: of a bag, from the vehicle, x ahead and z up; of a map, "
        "in its own frame",
    )  # fmt: skip
    parser.add_argument("--size", type=_size, default=SIZE, metavar="WxH", help="of picture or window, pixels")
    parser.add_argument("--sweep", type=_count(0), metavar="N", help="which sweep to begin with, counted from 0")
    parser.add_argument(
        "--together", type=_count(1), metavar="N",
        help=f"sweeps laid together, of earlier ones only what stands still; default: {TOGETHER}, 1 without odometry",
    )  # fmt: skip
    parser.add_argument("--topic", default="", help="labelled clouds; default: the node's, or the truth of a drive")
    parser.add_argument("--limit", type=_count(1), metavar="N", help="of sweeps in a Rerun recording")
    parser.add_argument("--config", help="YAML that names taxonomy and fixed frame; default: BAG.param.yaml, if there")
    parser.add_argument("--renderer", choices=("auto", "open3d", "numpy"), default="auto", help="that draws --out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open the file, then draw it, write it, or show it."""
    for path in (args.out, args.rerun):
        if path and not path.parent.is_dir():
            raise ConfigError(f"{path}: its folder does not exist")
    if args.file.suffix in SUFFIXES:
        if not args.file.is_file():
            raise ConfigError(f"map {args.file}: no such file")
        config = _config(args)
        taxonomy = Taxonomy.load(config.taxonomy)
        scene = Scene(taxonomy, map=Points.of_map(load_map(args.file, taxonomy)), place=args.place)
        scene.shown.color = args.color
        return _look(scene, args)
    if not args.file.exists():
        raise BagError(f"bag {args.file}: no such file or directory")
    config = _config(args)
    taxonomy = Taxonomy.load(config.taxonomy)
    with BagReader(args.file) as bag:
        drive = LabelledDrive(bag, taxonomy, args.topic, config.motion.fixed_frame)
        together = args.together or (TOGETHER if drive.moves else 1)
        index = min(together, drive.most) - 1 if args.sweep is None else args.sweep
        scene = Scene(taxonomy, drive, place=args.place, shown=Shown(args.color, index, together))
        if drive.sweep(index) is None:
            raise ConfigError(
                f"--sweep {index}: bag {args.file} gives no such sweep; it has {drive.most}, counted from 0, "
                f"and {drive.missed} of them without a transform to '{drive.frame}'"
            )
        if not drive.moves:
            print(f"frame     {drive.frame}: the bag does not say how it moves in '{config.motion.fixed_frame}'")
        return _look(scene, args)


def _look(scene: Scene, args: argparse.Namespace) -> int:
    if args.rerun:
        said = rerun_file.write(args.rerun, scene, args.limit)
        print(f"recording {args.rerun}: {said}")
    if args.out:
        pixels, by = _picture(scene, args)
        save(args.out, pixels)
        print(f"picture   {args.out}, drawn by {by}")
    if not args.out and not args.rerun:
        print("\n".join(f"{key}  {what}" for key, (what, _) in KEYS.items()))
        print("Q  close; mouse: turn, wheel: nearer, with Ctrl: move")
        open3d_window.show(scene, str(args.file), args.size)
    return 0


def _picture(scene: Scene, args: argparse.Namespace) -> tuple[Pixels, str]:
    """The picture, and who drew it."""
    drawn, view = scene.draw()
    why_not = ""
    if args.renderer != "numpy":
        try:
            return open3d_window.render(drawn, view, args.size), "Open3D"
        except ConfigError as error:
            if args.renderer == "open3d":
                raise
            why_not = f", as {error}"
    return splat(drawn, view, args.size), f"NumPy{why_not}"


def _config(args: argparse.Namespace) -> Config:
    """The configuration named, or the one beside the bag, or the defaults."""
    beside = parameters_beside(args.file)
    path = args.config or (beside if beside.is_file() else None)
    return Config.load(path) if path else Config()


def _place(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"three numbers as -11,0,7.5 wanted, {text!r} seen") from None
    return x, y, z


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"WIDTHxHEIGHT of 16 to 8192 pixels wanted, {text!r} seen")
    return int(width), int(height)


def _count(least: int):  # type: ignore[no-untyped-def]
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number from {least} wanted, {text!r} seen")
        return int(text)

    return count
