"""The standard ROS messages, decoded and encoded by the names of their fields. Imports no ROS."""
