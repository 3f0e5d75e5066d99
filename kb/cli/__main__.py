"""`python -m kb.cli` is `kb`."""

from kb.cli import main

main()
