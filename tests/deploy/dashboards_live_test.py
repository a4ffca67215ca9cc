"""Every dashboard expression, every recording rule and what autoscalers ask, asked of a real
Prometheus that scrapes two loaded servers: each must parse, and be answered with data."""

import json
import math
import re
import time
import unittest

import yaml

import helm_chart
from live_prometheus import (DENSE, JOB, MODELS, NAMESPACE, READ_ME, ROOT, RULES, Lab, pod_of,
                             skip_unless_installed)

BOARDS = ROOT / "deploy/chart/pregate/dashboards"
LOAD_SECONDS = 12
PATIENCE_SECONDS = 30  # on a machine that does much else, scrapes are late
VALUES = {"namespace": NAMESPACE, "job": JOB, "model": ".*", "pod": ".*", "__rate_interval": "20s"}

# Expressions that have no data while nothing is wrong, by title, and why.
EMPTY_IN_PEACE = {
    "Alerts": ('ALERTS{alertname=~"Pregate.*",alertstate="firing"}',
               "marks on the graphs for an alert that fires: none does"),
}


def boards():
    for path in sorted(BOARDS.glob("*.json")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8"))


def expressions():
    """(board, panel, expression) of all that a dashboard asks, variables included as they are."""
    for name, board in boards():
        for panel in board["panels"]:
            for target in panel.get("targets") or ():
                yield name, panel["title"], target["expr"]
        for annotation in board["annotations"]["list"]:
            yield name, annotation["name"], annotation["expr"]


def substituted(expression):
    """As Grafana asks it, everything chosen."""
    for name, value in VALUES.items():
        expression = expression.replace(f"${name}", value)
    if "$" in expression:
        raise ValueError(f"a variable that no dashboard has: {expression}")
    return expression


def finite(samples):
    return [(labels, value) for labels, value in samples if math.isfinite(value)]


class DashboardsLiveTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.lab = cls.enterClassContext(Lab())
        cls.prometheus = cls.lab.prometheus
        cls.loads = cls.lab.load(dense_clients=24, read_me_clients=12)
        cls.addClassCleanup(lambda: [load.stop() for load in cls.loads])
        time.sleep(LOAD_SECONDS)

    def answer(self, expression):
        """The finite samples that it has now."""
        try:
            return finite(self.prometheus.query(expression))
        except ValueError as error:
            return self.fail(f"{expression}: {error}")

    def eventually(self, condition):
        """Whether it comes true while the load goes on."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def test_the_servers_are_scraped_and_loaded(self):
        self.assertTrue(self.eventually(lambda: len(self.answer("up == 1")) == 2))
        for load in self.loads:
            self.assertGreater(load.answered, 10)
        self.assertGreater(self.loads[0].refused, 0)

    def test_every_expression_of_the_dashboards_is_answered_with_data(self):
        asked = 0
        for board, panel, expression in expressions():
            asked += 1
            if panel in EMPTY_IN_PEACE and expression == EMPTY_IN_PEACE[panel][0]:
                self.answer(expression)
                continue
            with self.subTest(board=board, panel=panel, expression=expression):
                asks = substituted(expression)
                self.assertTrue(self.eventually(lambda asks=asks: self.answer(asks)))
        self.assertGreater(asked, 70)

    def test_an_expression_without_data_is_found(self):
        self.assertFalse(self.answer("pregate_no_such_series"))
        self.assertFalse(self.answer("pregate_build_info * 0 / 0"))
        with self.assertRaises(ValueError):
            self.prometheus.query("sum(")

    def test_every_recorded_series_has_data_of_both_models_or_of_the_one_with_experts(self):
        groups = yaml.safe_load((RULES / "recording.yaml").read_text(encoding="utf-8"))["groups"]
        for rule in (rule for group in groups for rule in group["rules"]):
            with self.subTest(record=rule["record"]):
                models = [READ_ME] if "expert" in rule["record"] else MODELS
                wanted = {(NAMESPACE, JOB, model) for model in models}

                def found(record=rule["record"]):
                    return {tuple(labels[key] for key in ("namespace", "job", "model"))
                            for labels, _ in self.answer(record)}
                self.assertTrue(self.eventually(lambda found=found, wanted=wanted: found() == wanted),
                                found())
        for group in self.prometheus.get("rules")["groups"]:
            for rule in group["rules"]:
                self.assertEqual(rule["health"], "ok", rule)

    def test_variables_offer_what_is_there(self):
        offered = {"namespace": [NAMESPACE], "job": [JOB], "model": list(MODELS),
                   "pod": [pod_of(model) for model in MODELS]}
        for name, board in boards():
            for variable in board["templating"]["list"]:
                if variable["type"] != "query":
                    continue
                asks = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                values = self.prometheus.get(f"label/{asks.group(2)}/values",
                                             **{"match[]": substituted(asks.group(1))})
                self.assertEqual(values, offered[variable["name"]], name)

    def test_a_choice_narrows_every_panel(self):
        """With a model that is not there nothing is shown, but what says that it is of all."""
        shown = [panel for board, panel, expression in expressions()
                 if self.answer(substituted(expression.replace("$model", "absent")))]
        self.assertEqual(shown, ["Alerts"])

    def scalers(self, kind):
        """What the chart renders for both models with an autoscaler of a kind, by model."""
        source = {"path": "/models/model.gguf"}
        manifests = helm_chart.render({
            "models": [{"name": model, "source": source} for model in MODELS],
            "defaults": {"autoscaling": {"type": kind, "maxReplicas": 4}}})
        deployments = [one["metadata"]["name"]
                       for one in helm_chart.of_kind(manifests, "Deployment")]
        # The lab's pods are called as those of these Deployments.
        self.assertEqual([pod_of(model).rsplit("-", 2)[0] for model in MODELS], deployments)
        scalers = {"keda": "ScaledObject", "hpa": "HorizontalPodAutoscaler"}
        return dict(zip(MODELS, helm_chart.of_kind(manifests, scalers[kind])))

    def test_keda_is_told_how_many_wait_for_its_own_model(self):
        queries = {model: scaler["spec"]["triggers"][0]["metadata"]["query"]
                   for model, scaler in self.scalers("keda").items()}
        self.assertTrue(self.eventually(lambda: self.answer(f"({queries[DENSE]}) > 0")))
        for model, query in queries.items():
            samples = self.answer(query)
            self.assertEqual(len(samples), 1, query)  # KEDA takes one value
            waiting = f'pregate_num_requests_waiting{{pod="{pod_of(model)}"}}'
            self.assertEqual(len(self.answer(f"({query}) == scalar({waiting})")), 1, query)

    def test_the_autoscalers_metric_is_there_for_each_pod(self):
        for model, scaler in self.scalers("hpa").items():
            metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
            # What adapters of the metrics API ask for a metric of pods.
            samples = self.answer(f'sum by (pod) ({metric}{{namespace="{NAMESPACE}",'
                                  f'pod=~"{pod_of(model)}"}})')
            self.assertEqual([labels["pod"] for labels, _ in samples], [pod_of(model)])


if __name__ == "__main__":
    skip_unless_installed()
    unittest.main()
