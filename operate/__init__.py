"""The operator's commands for a deployed stack. `make help` lists them."""
