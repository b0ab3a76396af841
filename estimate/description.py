"""The function's own description of its variables, refusals, metrics, retries and daily limit: function/description.json.

A test of the function writes the file and fails when it is out of date.
"""

import json

from estimate.template import ROOT

DESCRIPTION = json.loads((ROOT / "function/description.json").read_text())
VARIABLES = {variable["name"]: variable for variable in DESCRIPTION["variables"]}
REFUSALS = {(refusal["status"], refusal["code"]) for refusal in DESCRIPTION["refusals"]}
CODES = {code for _, code in REFUSALS}
METRICS = DESCRIPTION["metrics"]
KEEPER_METRICS = DESCRIPTION["keeper_metrics"]
RETRIES = DESCRIPTION["retries"]
DAILY_LIMIT = DESCRIPTION["daily_limit"]
