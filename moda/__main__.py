"""`python -m moda`, the same as `moda`."""

from moda.cli import main

main()
