"""What is installed, usable and fitting on this machine, each finding with its remedy. Changes nothing."""
