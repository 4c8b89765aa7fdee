"""The samples of a training, each a function of seed and number alone, so that a resumed training sees the same."""

from __future__ import annotations

import signal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seg_perception.training.augmentation import augment
from seg_perception.training.config import TrainConfig
from seg_perception.training.datasets import VOID, Joined, Sample
from seg_perception.training.targets import instance_targets

_BALANCE_SAMPLES = 300  # pictures that class weights are counted on


class SampleStream(Dataset):
    """Sample number k of the training, augmented: every epoch goes through all pictures in an order of its own."""

    def __init__(self, source: Joined, config: TrainConfig, is_thing: NDArray[np.bool_] | None) -> None:
        """is_thing: (256,) by train id, for a network that learns things; None for others."""
        self._source = source
        self._config = config
        self._is_thing = is_thing
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self._config.schedule.iterations * self._config.schedule.batch_size

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        epoch, place = divmod(number, len(self._source))
        if epoch != self._epoch:
            shuffle = np.random.default_rng((self._config.seed, 0, epoch))
            self._epoch, self._order = epoch, shuffle.permutation(len(self._source))
        rng = np.random.default_rng((self._config.seed, 1, number))
        sample = augment(self._source[int(self._order[place])], self._config.augmentation, rng)
        return self._tensors(sample)

    def _tensors(self, sample: Sample) -> dict[str, Tensor]:
        tensors = {
            "pixels": torch.from_numpy(np.moveaxis(sample.pixels, 2, 0).copy()),
            "labels": torch.from_numpy(sample.labels),
        }
        if self._is_thing is not None:
            targets = instance_targets(sample, self._is_thing)
            for name in ("centre", "offset", "known", "things"):
                tensors[name] = torch.from_numpy(getattr(targets, name))
        return tensors


class Pictures(Dataset):
    """Whole pictures and their labels, as they are, and their instances where they have any."""

    def __init__(self, source: Joined) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self._source[index]
        pixels = torch.from_numpy(np.moveaxis(sample.pixels, 2, 0).copy())
        tensors = {"pixels": pixels, "labels": torch.from_numpy(sample.labels)}
        if sample.instances is not None:
            tensors["instances"] = torch.from_numpy(sample.instances.astype(np.int32))
        return tensors


def batches(stream: SampleStream, config: TrainConfig, start: int) -> DataLoader:
    """Batches of `stream` from iteration `start` to the last."""
    size = config.schedule.batch_size
    return _loader(stream, range(start * size, len(stream)), size, config.run.workers)


def one_by_one(pictures: Pictures, workers: int) -> DataLoader:
    """Every picture once, each a batch, for they may differ in size."""
    return _loader(pictures, range(len(pictures)), 1, workers)


def _loader(dataset: Dataset, order: range, size: int, workers: int) -> DataLoader:
    """Workers are started afresh, not forked: a fork of OpenCV's or OpenMP's threads waits for them forever."""
    started = {"multiprocessing_context": "spawn", "worker_init_fn": _quiet_worker, "persistent_workers": True}
    return DataLoader(
        dataset,
        batch_size=size,
        sampler=order,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        **(started if workers else {}),  # type: ignore[arg-type]
    )


def count_pixels(source: Joined, classes: int) -> Tensor:
    """(C,) pixels of each class, over at most 300 pictures spread evenly."""
    counts = np.zeros(256, np.int64)
    chosen = np.unique(np.linspace(0, len(source) - 1, min(len(source), _BALANCE_SAMPLES)).astype(int))
    for index in chosen:
        counts += np.bincount(source[int(index)].labels.ravel(), minlength=256)
    counts[VOID] = 0
    return torch.from_numpy(counts[:classes])


def _quiet_worker(_number: int) -> None:
    """One thread a worker, for they are many; signals to the whole group are for the main process to deal with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
