"""GPU figures of the driver: nothing where there is no driver, and what is read can be true."""

from seg_perception.inference import nvml


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    monkeypatch.setattr(nvml, "_LIBRARY", "libno-such-driver.so.1")
    nvml._nvml.cache_clear()
    try:
        assert nvml.gpu_states() == []
    finally:
        nvml._nvml.cache_clear()


def test_what_is_read_can_be_true():
    for gpu in nvml.gpu_states():
        assert gpu.name
        assert gpu.memory_used is None or 0 <= gpu.memory_used <= gpu.memory_total
        assert gpu.temperature_c is None or 0 <= gpu.temperature_c < 150
