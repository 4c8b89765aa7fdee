"""Kalman filters of many tracks at once: constant turn rate and velocity for vehicles, constant velocity for the rest.

State of a vehicle: x, y, yaw, speed along yaw, turn rate (CTRV; Schubert et al., "Comparison and evaluation of advanced
motion models for vehicle tracking", 2008). State of anybody else: x, y, vx, vy, and 0. Metres, radians, seconds, in the
fixed frame less an origin near by.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

STATES = 5
X, Y, YAW, SPEED, TURN = range(STATES)  # of a vehicle
VX, VY = 2, 3  # of anybody else

_STRAIGHT = 1e-3  # rad/s; slower turns are none
_TURN_NOISE = 0.6  # rad/s², how suddenly a vehicle's turn rate changes
_YAW_SIGMA = 0.15  # rad, of the yaw of a box
_STANDING = 0.8  # m/s; slower than this a vehicle does not turn


@numba.njit(cache=True, nogil=True)
def initial(vehicle, x, y, yaw, sigma, state, P):  # type: ignore[no-untyped-def]
    """Fill the state (5,) and covariance (5, 5) of a track seen for the first time."""
    state[:] = 0.0
    P[:] = 0.0
    state[X], state[Y] = x, y
    P[X, X] = P[Y, Y] = sigma * sigma
    if vehicle:
        state[YAW] = yaw
        P[YAW, YAW], P[SPEED, SPEED], P[TURN, TURN] = 0.2**2, 10.0**2, 0.1**2
    else:
        P[VX, VX] = P[VY, VY] = 3.0**2


def velocities(vehicle: NDArray[np.bool_], states: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 2) m/s of tracks with (T, 5) states."""
    along = states[:, SPEED, None] * np.column_stack([np.cos(states[:, YAW]), np.sin(states[:, YAW])])
    return np.where(vehicle[:, None], along, states[:, [VX, VY]])


def speed_variances(vehicle: NDArray[np.bool_], P: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) (m/s)² of the speeds of tracks with (T, 5, 5) covariances."""
    along = np.where(vehicle, SPEED, VX)
    return np.asarray(P[np.arange(len(along)), along, along])


@numba.njit(cache=True, nogil=True)
def predict_all(vehicle, states, P, dt, vehicle_acceleration, acceleration):  # type: ignore[no-untyped-def]
    """Move every track on by dt seconds. vehicle: (T,) bool; states: (T, 5); P: (T, 5, 5)."""
    F = np.empty((STATES, STATES))
    for t in range(len(states)):
        F[:] = 0.0
        for k in range(STATES):
            F[k, k] = 1.0
        if vehicle[t]:
            _turn_on(states[t], F, dt)
        else:
            F[X, VX] = F[Y, VY] = dt
            states[t, X] += dt * states[t, VX]
            states[t, Y] += dt * states[t, VY]
        P[t] = F @ P[t] @ F.T
        if vehicle[t]:
            _jolt(P[t], math.cos(states[t, YAW]), math.sin(states[t, YAW]), SPEED, dt, vehicle_acceleration)
            swing = 0.5 * dt * dt * _TURN_NOISE
            P[t, YAW, YAW] += swing * swing
            P[t, YAW, TURN] += swing * dt * _TURN_NOISE
            P[t, TURN, YAW] += swing * dt * _TURN_NOISE
            P[t, TURN, TURN] += (dt * _TURN_NOISE) ** 2
        else:
            _jolt(P[t], 1.0, 0.0, VX, dt, acceleration)
            _jolt(P[t], 0.0, 1.0, VY, dt, acceleration)


@numba.njit(cache=True, nogil=True)
def _turn_on(state, F, dt):  # type: ignore[no-untyped-def]
    """One step of a vehicle along its arc, and the Jacobian of that step."""
    yaw, v, w = state[YAW], state[SPEED], state[TURN]
    if abs(w) < _STRAIGHT:
        middle = yaw + 0.5 * w * dt
        dx, dy = v * dt * math.cos(middle), v * dt * math.sin(middle)
        F[X, TURN], F[Y, TURN] = -0.5 * dt * dy, 0.5 * dt * dx
    else:
        end = yaw + w * dt
        dx, dy = v / w * (math.sin(end) - math.sin(yaw)), v / w * (math.cos(yaw) - math.cos(end))
        F[X, TURN] = v * dt * math.cos(end) / w - dx / w
        F[Y, TURN] = v * dt * math.sin(end) / w - dy / w
    F[X, YAW], F[Y, YAW] = -dy, dx
    F[X, SPEED] = dx / v if abs(v) > 1e-6 else dt * math.cos(yaw + 0.5 * w * dt)
    F[Y, SPEED] = dy / v if abs(v) > 1e-6 else dt * math.sin(yaw + 0.5 * w * dt)
    F[YAW, TURN] = dt
    state[X] += dx
    state[Y] += dy
    state[YAW] += w * dt


@numba.njit(cache=True, nogil=True)
def _jolt(P, cos, sin, speed, dt, sigma):  # type: ignore[no-untyped-def]
    """Noise of an acceleration of `sigma`, constant over a step, along (cos, sin); `speed`: index of its velocity."""
    g = (0.5 * dt * dt * cos * sigma, 0.5 * dt * dt * sin * sigma, dt * sigma)
    index = (X, Y, speed)
    for a in range(3):
        for b in range(3):
            P[index[a], index[b]] += g[a] * g[b]


@numba.njit(cache=True, nogil=True)
def update(vehicle, state, P, x, y, yaw, sigma):  # type: ignore[no-untyped-def]
    """Take in one box: its middle, of standard deviation sigma, and of a vehicle its yaw, either end first."""
    _take_in(state, P, X, x - state[X], sigma * sigma)
    _take_in(state, P, Y, y - state[Y], sigma * sigma)
    if vehicle:
        off = (yaw - state[YAW] + 0.5 * math.pi) % math.pi - 0.5 * math.pi
        _take_in(state, P, YAW, off, _YAW_SIGMA**2)
        if abs(state[SPEED]) < _STANDING:
            _take_in(state, P, TURN, -state[TURN], 0.05**2)
        if state[SPEED] < -1.0 and P[SPEED, SPEED] < 1.0:  # it was taken for its rear
            state[SPEED] = -state[SPEED]
            state[YAW] += math.pi
            for k in range(STATES):
                P[SPEED, k] = -P[SPEED, k]
            for k in range(STATES):
                P[k, SPEED] = -P[k, SPEED]
        state[YAW] = (state[YAW] + math.pi) % (2.0 * math.pi) - math.pi


@numba.njit(cache=True, nogil=True)
def update_velocity(vehicle, state, P, vx, vy, sigma):  # type: ignore[no-untyped-def]
    """Take in a velocity, m/s, of that standard deviation; of a vehicle what of it is along its yaw."""
    if vehicle:
        along = vx * math.cos(state[YAW]) + vy * math.sin(state[YAW])
        _take_in(state, P, SPEED, along - state[SPEED], sigma * sigma)
    else:
        _take_in(state, P, VX, vx - state[VX], sigma * sigma)
        _take_in(state, P, VY, vy - state[VY], sigma * sigma)


@numba.njit(cache=True, nogil=True)
def _take_in(state, P, index, innovation, variance):  # type: ignore[no-untyped-def]
    """One scalar measurement of one component; measurements that are independent may come one after another."""
    gain = P[:, index] / (P[index, index] + variance)
    row = P[index].copy()
    for a in range(STATES):
        state[a] += gain[a] * innovation
        for b in range(STATES):
            P[a, b] -= gain[a] * row[b]
