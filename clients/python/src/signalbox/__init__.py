"""Client for Signalbox, the job service."""
