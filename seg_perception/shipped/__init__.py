"""What comes with the package: a network, and a drive to see it on. `card.yaml` says how both were made."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
MODEL = _FOLDER / "street.onnx"
"""DeepLabV3+ MobileNetV2, trained on simulated drives alone; float32."""
MODEL_INT8 = _FOLDER / "street_int8.onnx"
"""The same, quantised for a CPU."""
CARD = _FOLDER / "card.yaml"
"""How the network was made, what it scores, and what it cannot do."""
DRIVE = _FOLDER / "drive.mcap"
"""Five simulated seconds: a camera, a LiDAR of 32 beams, odometry, and the truth of each point."""
