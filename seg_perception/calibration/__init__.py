"""Does the calibration fit what the sensors saw: edges of the sweep against edges of the pictures."""
