"""`perception_node`: converts, calls, publishes.

One thread, the executor's, takes messages in and hands them to the `Intake`, which looks no further than their stamps
and a few points of a sweep. A second one, the `Worker`, does everything that takes time, and publishes. configure loads
the network, activate subscribes.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Float64MultiArray

from seg_perception import folders
from seg_perception.compiling import telling_of_compiling
from seg_perception.config import Config
from seg_perception.errors import BackendLostError, ConfigError, SegPerceptionError
from seg_perception.inference.loading import idle_settings, load_segmenters
from seg_perception.inference.nvml import gpu_states
from seg_perception.inference.segmenter import Segmenter
from seg_perception.intake import Intake
from seg_perception.pipeline import warm_up
from seg_perception.ros import conversions, dds, diagnostics, qos
from seg_perception.ros.answering import answer_always
from seg_perception.ros.inputs import Inputs
from seg_perception.ros.log_bridge import bridged
from seg_perception.ros.namesakes import NAME_TAKEN, Namesakes
from seg_perception.ros.outputs import Outputs
from seg_perception.ros.params import NodeOfOverrides, Parameters
from seg_perception.ros.problems import INTERNAL, ProblemLog
from seg_perception.ros.scene_services import SceneServices
from seg_perception.ros.start import StopSignals
from seg_perception.ros.taking import TakingExecutor
from seg_perception.ros.wake_latency import CAUSE, WakeLatency
from seg_perception.ros.worker import Worker
from seg_perception.scene_step import SceneStep

log = logging.getLogger("seg_perception.ros.node")  # also where this file is run as __main__

NAME = "perception_node"
SPIN_S = 0.1  # how long a signal may wait to be seen
HOPELESS_S = 10.0  # an executor that does nothing but fail for so long ends the node, for a supervisor to start it anew


class PerceptionNode(NodeOfOverrides):
    """The lifecycle of the pipeline. Each transition undoes exactly what its counterpart did.

    interruptible: the block in which it is configured. It may raise KeyboardInterrupt; the node is to be closed then.
    """

    def __init__(self, interruptible: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        super().__init__(NAME)
        self._interruptible = interruptible
        self._whole_life = ExitStack()
        self._configured = ExitStack()
        self._active = ExitStack()
        self._whole_life.enter_context(bridged(self.get_logger()))
        self._settings = Parameters(self)
        self._is_configured = False
        self._problems = ProblemLog()  # another one with each activation
        self._intake: Intake | None = None  # while active
        self._reporter: _Reporter | None = None  # while active
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._whole_life.enter_context(SceneServices(self, self._scene))
        answer_always(self)

    @property
    def autostart(self) -> bool:
        """Whether the node is to configure and activate by itself."""
        return self._settings.autostart

    def _scene(self) -> SceneStep | None:
        """That of the intake, while active."""
        intake = self._intake
        return intake.scene if intake else None

    def start(self) -> bool:
        """Configure and activate, as a lifecycle manager would."""
        transitions = (self.trigger_configure, self.trigger_activate)
        return all(transition() == TransitionCallbackReturn.SUCCESS for transition in transitions)

    def leave_if_lost(self) -> None:
        """Go inactive, and say so, where the backend is lost: no label will come of it any more."""
        if self._intake is not None and self._intake.statistics.causes.get(BackendLostError.cause):
            log.error(
                "what runs the network is lost: going inactive; activate again when it is back (clean up to reload)"
            )
            self.trigger_deactivate()

    def outlive(self, error: Exception) -> None:
        """Count and log what a callback raised that is none of ours, as rclpy's does for a /clock before 1970."""
        if self._intake is not None:
            self._intake.statistics.count(INTERNAL)
        if self._problems.say(INTERNAL, f"a callback that is not ours: {error!r}", logging.ERROR):
            log.debug("%s", "".join(traceback.format_exception(error)))

    def close(self) -> None:
        """Let go of everything, whatever state the node is in."""
        for resources in (self._active, self._configured, self._whole_life):
            resources.close()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load and warm the network, create the publishers."""
        with self._interruptible(), telling_of_compiling():
            return self._guarded("configure", self._configure, self._configured)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, subscribe."""
        return self._guarded("activate", lambda: self._activate(state), self._active)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the sweep at hand, and forget what waited. The network stays loaded."""
        self._active.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and the publishers."""
        self._configured.close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        return self._release()

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node is then unconfigured, and may be configured again."""
        return self._release()

    def _release(self) -> TransitionCallbackReturn:
        self._active.close()
        self._configured.close()
        return TransitionCallbackReturn.SUCCESS

    def _guarded(self, what: str, action: Callable[[], None], resources: ExitStack) -> TransitionCallbackReturn:
        """Run a transition; if it fails, say why, undo what it had done, and stay in the state before."""
        try:
            action()
        except SegPerceptionError as error:
            log.error("cannot %s: %s", what, error)
            resources.close()
            return TransitionCallbackReturn.FAILURE
        except Exception:
            log.error("cannot %s, an error that should not be:\n%s", what, traceback.format_exc())
            resources.close()
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        config = self._settings.config()
        if not config.cameras:
            raise ConfigError("parameter cameras: at least one camera name wanted, none seen")
        self._configured.callback(self._set_configured, False)
        self._set_configured(True)
        log.info("configuring")
        start_s = time.monotonic()
        fallbacks: list[str] = []
        segmenters = load_segmenters(config, measure=True, on_fallback=fallbacks.append)
        for segmenter in dict.fromkeys(segmenters.values()):
            self._configured.callback(segmenter.close)
        pipeline = Intake(config, segmenters, ProblemLog()).pipeline
        self._config, self._segmenters = config, segmenters
        self._inference = _running(config, segmenters, fallbacks)
        warm_up(config, segmenters)
        of_cameras = {name: network.taxonomy for name, network in pipeline.networks.items()}
        self._outputs = self._configured.enter_context(Outputs(self, config, pipeline.taxonomy, of_cameras))
        models = {camera.name: config.inference_of(camera).model for camera in config.cameras}
        log.info("configured in %.1f s: cameras and their models %s", time.monotonic() - start_s, models)

    def _activate(self, state: LifecycleState) -> None:
        super().on_activate(state)
        self._problems = problems = ProblemLog()
        intake = Intake(self._config, self._segmenters, problems)
        self._intake = intake
        self._active.callback(self._let_go)
        self._active.callback(intake.close)
        awake = self._active.enter_context(WakeLatency(self._config.node.wake_latency_us))
        if awake.refusal is not None:
            intake.statistics.count(CAUSE)
            problems(CAUSE, f"node.wake_latency_us: {awake.refusal}")
        worker = Worker(intake, self._outputs, problems)
        inputs = Inputs(self, self._config, intake, worker)
        self._reporter = reporter = _Reporter(self, self._config, self._inference, inputs, worker, problems, awake)
        # Closed in the reverse order: nothing comes in any more before the worker stops.
        for part in (reporter, worker, inputs):
            self._active.enter_context(part)
        self._outputs.publish_label_info(self.get_clock().now().nanoseconds)
        log.info("active: listening to %s", ", ".join(inputs.topics))

    def _reconfigure(self, config: Config) -> None:
        """Go on with settings that differ in live ones only. Raises ConfigError, and then nothing has changed."""
        self._outputs.reconfigure(config)
        self._config = config
        if self._intake is not None and self._reporter is not None:
            self._intake.reconfigure(config)
            self._reporter.reconfigure(config)

    def _let_go(self) -> None:
        """Of what remembers the drive."""
        self._intake = self._reporter = None

    def _set_configured(self, is_configured: bool) -> None:
        self._is_configured = is_configured

    def _on_set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        ours = [change for change in changes if change.name in self._settings.names]
        if not ours:
            return SetParametersResult(successful=True)
        try:
            config = self._settings.accept(ours, only_live=self._is_configured)
            if self._is_configured:
                self._reconfigure(config)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


class _Reporter:
    """Publishes /diagnostics and ~/statistics while in the `with` block, on a steady clock."""

    def __init__(
        self,
        node: LifecycleNode,
        config: Config,
        inference: Mapping[str, str],
        inputs: Inputs,
        worker: Worker,
        problems: ProblemLog,
        awake: WakeLatency,
    ) -> None:
        self._awake = awake
        self._node, self._inputs, self._worker, self._problems = node, inputs, worker, problems
        self._period_s, self._limits = config.output.diagnostics_period_s, config.diagnostics
        self._inference = inference
        self._namesakes = Namesakes(node)
        self._before = self._observe()
        self._stack = ExitStack()

    def __enter__(self) -> _Reporter:
        self._publisher = self._node.create_publisher(DiagnosticArray, "/diagnostics", qos.output())
        self._stack.callback(self._node.destroy_publisher, self._publisher)
        self._statistics = self._node.create_publisher(Float64MultiArray, "~/statistics", qos.output())
        self._stack.callback(self._node.destroy_publisher, self._statistics)
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(self._period_s, self._tick, clock=clock)
        self._stack.callback(self._node.destroy_timer, self._timer)
        return self

    def __exit__(self, *_: object) -> None:
        self._tick()
        self._stack.close()

    def reconfigure(self, config: Config) -> None:
        """Go on with these settings."""
        self._limits = config.diagnostics
        self._timer.timer_period_ns = round(config.output.diagnostics_period_s * 1e9)

    def _observe(self) -> diagnostics.Observation:
        last = self._worker.last_report
        intake = self._worker.intake
        return diagnostics.Observation(
            at_s=time.monotonic(),
            summary=intake.statistics.summary(intake.pipeline.taxonomy.names),
            cameras=self._inputs.camera_states(last),
            last_words=self._problems.last_words,
            motion=last.motion if last else "",
            motion_fallback=last.motion_fallback if last else "",
            transforms={edge.child: str(edge) for edge in intake.tree.edges()},
            inference=self._inference,
            inputs=self._inputs.states(),
            gpus=gpu_states(),
            scene=intake.scene.state,
            awake=self._awake,
        )

    def _tick(self) -> None:
        try:
            self._report()
        except Exception as error:  # a report that fails must not take the node with it
            self._worker.bug("diagnostics", error)

    def _report(self) -> None:
        self._inputs.watch()
        if namesake := self._namesakes.sentence():
            self._worker.intake.statistics.count(NAME_TAKEN)
            self._problems(NAME_TAKEN, namesake)
        now = self._observe()
        self._problems.risen(self._before.summary["causes"], now.summary["causes"])
        name = self._node.get_fully_qualified_name().lstrip("/")
        message = DiagnosticArray(status=diagnostics.statuses(name, self._before, now, self._limits))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        if self._statistics.get_subscription_count():
            self._statistics.publish(conversions.named_numbers(diagnostics.figures(self._before, now)))
        self._before = now


def _running(config: Config, segmenters: Mapping[str, Segmenter], fallbacks: Sequence[str]) -> dict[str, str]:
    """What really runs, for diagnostics; of each camera by name, where they do not share one network. fallbacks: why
    `auto` took no TensorRT."""
    shared = len(set(segmenters.values())) == 1
    values: dict[str, str] = {}
    for camera in config.cameras[: 1 if shared else None]:
        segmenter = segmenters[camera.name]
        said = {
            "backend": segmenter.backend,
            "model": config.inference_of(camera).model,
            "source": segmenter.contract.source_name,
            "output": segmenter.contract.output,
        }
        values |= {key if shared else f"{camera.name}.{key}": value for key, value in said.items()}
    idle = idle_settings(config.inference, segmenters.values())
    said = {"no_tensorrt": " | ".join(fallbacks), "settings_without_effect": ", ".join(idle)}
    return values | {key: value for key, value in said.items() if value}


def main(args: list[str] | None = None, stop: StopSignals | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code: 0, or 1 where it could not start."""
    stop = stop or StopSignals()
    dds.prepare()
    folders.keep_logs()
    try:
        # Our own handlers: with rclpy's, the context is gone before the node can leave in order.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = PerceptionNode(stop.at_once)
    except Exception as error:  # a parameter file that cannot be read, a name that is none: rclpy has no common base
        print(f"{NAME}: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = TakingExecutor()
    executor.add_node(node)
    try:
        if node.autostart and not node.start():
            return 1
        fails_since_s = math.inf
        while not stop.seen:
            try:
                executor.spin_once(timeout_sec=SPIN_S)
                fails_since_s = math.inf
            except ExternalShutdownException:
                raise
            except Exception as error:
                fails_since_s = min(fails_since_s, time.monotonic())
                if time.monotonic() > fails_since_s + HOPELESS_S:
                    raise
                node.outlive(error)
            node.leave_if_lost()
        return 0
    except KeyboardInterrupt:
        log.info("told to stop while configuring")
        return 0
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
