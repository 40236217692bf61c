"""Generated from proto/signalbox/v1 by scripts/generate."""
