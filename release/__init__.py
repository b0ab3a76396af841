"""The files of a release: built, packaged and described, in the same bytes on every machine. `make release` runs it."""
