"""An open-addressing hash of voxels in arrays of fixed length: the kernels below the voxel map.

A voxel's key packs its three indices, 21 bits each, wrapped: two voxels with the same key are 2^21 voxels apart,
which no map spans. Slots are probed linearly, and what is taken out is closed up by shifting back, so nothing is ever
rebuilt.
"""

from __future__ import annotations

import math

import numba
import numpy as np

EMPTY = -1
BITS = 21
HALF = 1 << (BITS - 1)
MASK = (1 << BITS) - 1
FULL_SHARE = 0.8  # of the slots; probing grows long beyond it
MOST_VOTES = np.float32(40.0)  # of a voxel for one class: however long a wall stood, what stands there now shows

_EVEN = ~(1 | 1 << BITS | 1 << (2 * BITS))
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads neighbours far apart


@numba.njit(cache=True, nogil=True, inline="always")
def pack(i, j, k):  # type: ignore[no-untyped-def]
    """The key of a voxel."""
    return ((i & MASK) << (2 * BITS)) | ((j & MASK) << BITS) | (k & MASK)


@numba.njit(cache=True, nogil=True, inline="always")
def unpack(key, shift, near):  # type: ignore[no-untyped-def]
    """One index of a key, `shift` bits up: of all that wrap to the same bits, the one next to `near`."""
    return (((key >> shift) - near + HALF) & MASK) - HALF + near


@numba.njit(cache=True, nogil=True, inline="always")
def home(key, bits):  # type: ignore[no-untyped-def]
    """The slot where the search for a key begins, of 2^bits. The eight voxels of a cube of two share a run of slots."""
    corner = (key >> (2 * BITS) & 1) << 2 | (key >> BITS & 1) << 1 | (key & 1)
    cube = np.uint64(key & _EVEN)
    mixed = (cube ^ (cube >> np.uint64(29))) * _FIBONACCI
    return np.int64(mixed >> np.uint64(67 - bits)) << 3 | corner


@numba.njit(cache=True, nogil=True, inline="always")
def find(keys, bits, key):  # type: ignore[no-untyped-def]
    """The slot that holds the key, or the empty one where it would go."""
    slot = home(key, bits)
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@numba.njit(cache=True, nogil=True)
def erase(keys, votes, seen, movable, bits, slot):  # type: ignore[no-untyped-def]
    """Empty a slot and shift back what was probed past it."""
    last = len(keys) - 1
    hole, ahead = slot, (slot + 1) & last
    while keys[ahead] != EMPTY:
        if ((ahead - home(keys[ahead], bits)) & last) >= ((ahead - hole) & last):
            keys[hole], seen[hole], movable[hole] = keys[ahead], seen[ahead], movable[ahead]
            votes[hole] = votes[ahead]
            hole = ahead
        ahead = (ahead + 1) & last
    keys[hole] = EMPTY


@numba.njit(cache=True, nogil=True)
def fade(votes, seen, movable, slot, now, fades, decay_s):  # type: ignore[no-untyped-def]
    """Let the votes for movable classes of a voxel that has any decay up to now; it is flagged while some are left."""
    if now > seen[slot]:
        factor = math.exp((seen[slot] - now) / decay_s)
        left = False
        for label in range(len(fades)):
            if fades[label]:
                votes[slot, label] *= factor
                if votes[slot, label] < 0.05:
                    votes[slot, label] = 0.0
                else:
                    left = True
        movable[slot], seen[slot] = left, now


@numba.njit(cache=True, nogil=True)
def insert(keys, votes, seen, movable, bits, points, origin, size, class_id, weight, least, now, fades, decay_s, held):  # type: ignore[no-untyped-def]
    """Each point's vote into its voxel; where a class has more than a voxel holds, all of its votes count for half from
    now on. Returns how many voxels are held now, and how many points found no room.
    """
    refused, scale = 0, 1.0 / size
    room = int(FULL_SHARE * len(keys))
    for n in range(len(points)):
        label = class_id[n]
        x, y, z = origin[0] + points[n, 0], origin[1] + points[n, 1], origin[2] + points[n, 2]
        if label >= len(fades) or not weight[n] >= least or not math.isfinite(x + y + z):
            continue
        key = pack(math.floor(x * scale), math.floor(y * scale), math.floor(z * scale))
        slot = find(keys, bits, key)
        if keys[slot] == EMPTY:
            if held >= room:
                refused += 1
                continue
            held += 1
            keys[slot], movable[slot] = key, False
            votes[slot] = 0.0
        if fades[label]:  # a vote that stays asks for nothing more than itself
            if movable[slot]:
                fade(votes, seen, movable, slot, now, fades, decay_s)
            movable[slot], seen[slot] = True, now
        total = votes[slot, label] + min(weight[n], MOST_VOTES)
        votes[slot, label] = total
        if total > MOST_VOTES:
            for other in range(len(fades)):
                votes[slot, other] *= np.float32(0.5)
    return held, refused


@numba.njit(cache=True, nogil=True)
def label(keys, votes, bits, points, origin, size, prior, class_id, probability):  # type: ignore[no-untyped-def]
    """Fill class and probability of the points whose voxel is held and has votes."""
    scale = 1.0 / size
    for n in range(len(points)):
        x, y, z = origin[0] + points[n, 0], origin[1] + points[n, 1], origin[2] + points[n, 2]
        if not math.isfinite(x + y + z):
            continue
        slot = find(keys, bits, pack(math.floor(x * scale), math.floor(y * scale), math.floor(z * scale)))
        if keys[slot] != EMPTY:
            winner, share = winner_of(votes[slot], prior)
            if share > 0.0:
                class_id[n], probability[n] = winner, share


@numba.njit(cache=True, nogil=True)
def winner_of(votes, prior):  # type: ignore[no-untyped-def]
    """The class with the most votes and its expected share under a Dirichlet prior; share 0 without any vote."""
    winner, total = 0, np.float32(0.0)
    for label in range(len(votes)):
        total += votes[label]
        if votes[label] > votes[winner]:
            winner = label
    if total <= 0.0:
        return winner, np.float32(0.0)
    return winner, np.float32((votes[winner] + prior) / (total + prior * len(votes)))


@numba.njit(cache=True, nogil=True)
def forget(keys, votes, seen, movable, bits, first, count, middle, reach, now, fades, decay_s):  # type: ignore[no-untyped-def]
    """Look through `count` slots: take out voxels beyond `reach` of `middle`, and those whose votes are all faded.

    Returns how many were taken out.
    """
    gone, slot, left = 0, first, count
    while left > 0:
        key = keys[slot]
        drop = False
        if key != EMPTY:
            i, j = unpack(key, 2 * BITS, middle[0]), unpack(key, BITS, middle[1])
            drop = abs(i - middle[0]) > reach or abs(j - middle[1]) > reach
            if not drop and movable[slot]:
                fade(votes, seen, movable, slot, now, fades, decay_s)
                drop = not movable[slot] and votes[slot].max() <= 0.0
        if drop:
            erase(keys, votes, seen, movable, bits, slot)  # what moves into this slot is looked at next
            gone += 1
            if keys[slot] != EMPTY:
                continue
        slot = (slot + 1) & (len(keys) - 1)
        left -= 1
    return gone


@numba.njit(cache=True, nogil=True)
def collect(keys, votes, middle, size, prior, least):  # type: ignore[no-untyped-def]
    """Centre, class, probability and sum of votes of every voxel with at least `least` votes."""
    held = 0
    for slot in range(len(keys)):
        held += keys[slot] != EMPTY
    points = np.empty((held, 3))
    class_id, probability, weight = np.empty(held, np.uint8), np.empty(held, np.float32), np.empty(held, np.float32)
    found = 0
    for slot in range(len(keys)):
        key = keys[slot]
        if key == EMPTY:
            continue
        total = votes[slot].sum()
        if total <= 0.0 or total < least:
            continue
        points[found, 0] = (unpack(key, 2 * BITS, middle[0]) + 0.5) * size
        points[found, 1] = (unpack(key, BITS, middle[1]) + 0.5) * size
        points[found, 2] = (unpack(key, 0, middle[2]) + 0.5) * size
        class_id[found], probability[found] = winner_of(votes[slot], prior)
        weight[found] = total
        found += 1
    return points[:found], class_id[:found], probability[:found], weight[:found]
