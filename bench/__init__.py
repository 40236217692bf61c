"""The benchmark: what is measured, against what, and what it must reach. See docs/performance.md."""
