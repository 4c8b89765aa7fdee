"""`seg-perception train`: train a segmentation network from a YAML file; started again, it goes on where it was."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `train`."""
    parser = subparsers.add_parser(
        "train",
        help="train a segmentation network",
        description="Train what a YAML file describes. The folder holds last.pt, best.pt and log.jsonl; the same "
        "command goes on where it was stopped or killed.",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML; see config/training/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training, new or to go on with")
    parser.add_argument("--device", default="", help="as PyTorch names it (a GPU where there is one)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, and say where the best network is."""
    from seg_perception.errors import ModelError

    try:
        from seg_perception.training.loop import train
    except ImportError as error:
        raise ModelError(f"PyTorch is needed to train: {error}; `pip install torch`") from error
    from seg_perception.evaluation.metrics import ConfusionMatrix, PanopticQuality
    from seg_perception.training.config import TrainConfig

    config = TrainConfig.load(args.config)
    result = train(
        config,
        args.out,
        ConfusionMatrix,
        new_quality=PanopticQuality,
        device=args.device,
        progress=not args.no_progress,
    )
    score = f"{result.measure} {result.best:.2%}" if config.validation else "no validation pictures"
    print(f"{result.checkpoint}: {result.iteration} steps, {score}")
    return 0
