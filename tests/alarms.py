"""A small CloudWatch: which state an alarm of template.yaml has in each minute of a scenario, and what it sends.

It follows AWS's pages "Alarm evaluation window", "CloudWatch statistics definitions" and "Configuring how CloudWatch alarms
treat missing data". An alarm is evaluated every minute, over periods that end with that minute. What it leaves out:
CloudWatch also looks at some periods before these, so a real alarm can end, or find that all data is missing, a few minutes
later than here.
"""

import re


def statistic(name, values):
    """One statistic of a period's values; None if there are none."""
    if not values:
        return None
    rank = re.fullmatch(r"PR\((\d+):(\d+)\)", name)
    if rank:
        # Percent of the values above the lower bound, up to the upper one.
        return 100 * sum(int(rank[1]) < value <= int(rank[2]) for value in values) / len(values)
    return {"Sum": sum, "SampleCount": len}[name](values)


class Alarm:
    """An alarm with the parameters of a stack.

    A scenario is, for each metric, the values of each minute. A metric is known by its name and its dimension Code, if any:
    {("Requests", "ok"): [[1, 1], [], [1]]} are two tokens in the first minute and one in the third.
    """

    def __init__(self, properties, parameters):
        self.properties, self.parameters = properties, parameters
        queries = properties.get("Metrics")
        if not queries:
            metric = {name: properties[name] for name in ("Namespace", "MetricName", "Dimensions")}
            stat = {"Metric": metric, "Period": properties["Period"], "Stat": properties.get("Statistic", "none")}
            queries = [{"Id": "value", "MetricStat": stat}]
        self.stats = {query["Id"]: query["MetricStat"] for query in queries if "MetricStat" in query}
        [self.returned] = [query for query in queries if query.get("ReturnData", True)]
        [self.period] = {stat["Period"] // 60 for stat in self.stats.values()}
        self.periods = int(self.value(properties["EvaluationPeriods"]))
        self.threshold = float(self.value(properties["Threshold"]))
        # CloudWatch's own limit for periods under an hour.
        assert self.period * self.periods <= 1440

    def value(self, written):
        """A property's value, with parameters filled in."""
        if isinstance(written, dict) and "Ref" in written:
            return self.parameters[written["Ref"]]
        if isinstance(written, dict):
            return re.sub(r"\$\{(\w+)\}", lambda name: str(self.parameters[name[1]]), written["Fn::Sub"])
        return written

    def metrics(self):
        """The metrics that it watches, as a scenario names them."""
        for stat in self.stats.values():
            codes = [one["Value"] for one in stat["Metric"]["Dimensions"] if one["Name"] == "Code"]
            yield stat["Metric"]["MetricName"], *codes

    def datapoint(self, scenario, end):
        """The value of the period that ends before this minute; None if a metric has no data in it that FILL does not fill."""
        found = {}
        for name, metric in zip(self.stats, self.metrics(), strict=True):
            minutes = scenario.get(metric, [])[max(0, end - self.period) : max(0, end)]
            found[name] = statistic(self.value(self.stats[name]["Stat"]), [one for minute in minutes for one in minute])
        expression = self.returned.get("Expression", "value")
        filled = set(re.findall(r"FILL\((\w+), ", expression))
        if None in [value for name, value in found.items() if name not in filled]:
            return None
        functions = {
            "IF": lambda condition, then, otherwise: then if condition else otherwise,
            "FILL": lambda value, instead: instead if value is None else value,
        }
        return eval(expression, {"__builtins__": {}}, functions | found)

    def breaches(self, value):
        if self.properties["ComparisonOperator"] == "LessThanThreshold":
            return value < self.threshold
        assert self.properties["ComparisonOperator"] == "GreaterThanThreshold"
        return value > self.threshold

    def state(self, scenario, minute):
        values = [self.datapoint(scenario, minute + 1 - self.period * ago) for ago in range(self.periods)]
        missing = {"missing": None, "notBreaching": False, "breaching": True}[self.properties["TreatMissingData"]]
        breaching = [missing if value is None else self.breaches(value) for value in values]
        if set(breaching) == {None}:
            return "INSUFFICIENT_DATA"
        return "ALARM" if breaching.count(True) >= self.properties.get("DatapointsToAlarm", self.periods) else "OK"

    def sent(self, scenario):
        """The messages that it sends: minute, and state that it changed to. A new alarm has no data."""
        actions = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
        before, messages = "INSUFFICIENT_DATA", []
        for minute in range(max(map(len, scenario.values()))):
            state = self.state(scenario, minute)
            if state != before and actions[state] in self.properties:
                messages.append((minute, state))
            before = state
        return messages
