"""Public checkpoints by name: fetched, verified, converted and deployed in one step."""
