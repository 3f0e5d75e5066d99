"""Crashes, power cuts and failing disks, made on purpose; `CONTRIBUTING.md`, "Crash harness", is the map."""
