"""The checks of `make doctor` and the lines of `make status`. They read, and never change the stack."""
