"""What values.yaml says, and what the schema refuses."""

import json
import re
import unittest

import yaml

import helm

# --set-json, and what the refusal must name.
BAD = [
    ("contrller={}", "contrller"),
    ("controller.replica=1", "replica"),
    ('controller.replicas="2"', "/controller/replicas"),
    ("controller.replicas=-1", "/controller/replicas"),
    ("webhook.timeoutSeconds=11", "/webhook/timeoutSeconds"),
    ("webhook.timeoutSeconds=0", "/webhook/timeoutSeconds"),
    ('webhook.failurePolicy="Ignore"', "failurePolicy"),
    ('webhook.extraArgs=["log"]', "/webhook/extraArgs/0"),
    ('webhook.extraEnv=[{"value":"x"}]', "/webhook/extraEnv/0"),
    ('watchNamespaces="shop"', "/watchNamespaces"),
    ('watchNamespaces=["Shop"]', "/watchNamespaces/0"),
    ('watchNamespaces=["shop,storage"]', "/watchNamespaces/0"),
    ('watchNamespaces=["shop","shop"]', "/watchNamespaces"),
    ('image.digest="sha256:12"', "/image/digest"),
    ('image.tag="a b"', "/image/tag"),
    ('image.repository=""', "/image/repository"),
    ('image.repository="Restpipe"', "/image/repository"),
    ('image.registry="https://registry.example"', "/image/registry"),
    ('image.registry="registry.example/"', "/image/registry"),
    ('image.pullPolicy="Sometimes"', "/image/pullPolicy"),
    ('sidecar.image.digest="latest"', "/sidecar/image/digest"),
    ('sidecar.memoryLimit="128 MB"', "/sidecar/memoryLimit"),
    ('sidecar.cpuRequest="much"', "/sidecar/cpuRequest"),
    ("sidecar.cpuRequest=0", "/sidecar/cpuRequest"),
    ('sidecar.cpuLimit="1"', "cpuLimit"),
    ('logging.format="xml"', "/logging/format"),
    ('logging.level=""', "/logging/level"),
    ('logging.level="info; rm"', "/logging/level"),
    ('fullnameOverride="Pipes"', "/fullnameOverride"),
    ('fullnameOverride="' + 41 * "a" + '"', "/fullnameOverride"),
    ('imagePullSecrets=["pull"]', "/imagePullSecrets/0"),
    ('commonLabels={"a":1}', "/commonLabels/a"),
    ("crds.install=null,crds.keep=true", "keep"),
    ('networkPolicy.enabled="yes"', "/networkPolicy/enabled"),
    ('metrics.podMonitor.interval="often"', "/metrics/podMonitor/interval"),
    ('tests="off"', "/tests"),
]


def leaves(values, path=()):
    """Paths of all values that are no tables."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


class Values(unittest.TestCase):
    """values.yaml and values.schema.json."""

    def setUp(self):
        self.written = (helm.CHART / "values.yaml").read_text()
        self.values = yaml.safe_load(self.written)
        self.schema = json.loads((helm.CHART / "values.schema.json").read_text())

    def resolve(self, schema):
        while "$ref" in schema:
            schema = self.schema["definitions"][schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def test_bad_values_are_refused_by_name(self):
        for value, named in BAD:
            with self.subTest(value), self.assertRaises(helm.Refused) as refused:
                helm.text(value)
            self.assertIn(named, str(refused.exception), value)
            self.assertIn("schema", str(refused.exception), value)

    def test_an_account_that_is_neither_made_nor_named_is_refused_with_the_cure(self):
        with self.assertRaisesRegex(helm.Refused, "set one of them"):
            helm.text("webhook.serviceAccount.create=false")

    def test_every_value_is_in_the_schema_and_every_key_of_the_schema_in_the_values(self):
        def walk(values, schema, path):
            schema = self.resolve(schema)
            self.assertTrue({"type", "enum"} & set(schema), path)
            if schema.get("additionalProperties") is not False:
                return
            known = set(schema["properties"]) - ({"global", "enabled"} if not path else set())
            if path[-1:] == ("resources",):
                known &= set(values)
            self.assertEqual(set(values), known, path)
            for key in values:
                walk(values[key], schema["properties"][key], (*path, key))

        walk(self.values, self.schema, ())

    def test_no_table_of_the_schema_takes_keys_that_nobody_knows(self):
        free = {"strings", "objects"}
        for name, found in self.schema["definitions"].items():
            if found.get("type") == "object" and name not in free:
                self.assertIs(found.get("additionalProperties"), False, name)
        for name, found in self.schema["properties"].items():
            if "properties" in found:
                self.assertIs(found.get("additionalProperties"), False, name)

    def test_every_value_has_a_comment(self):
        lines = self.written.splitlines()
        for path in leaves(self.values):
            if "resources" in path or path[0] == "nodeSelector":
                path = path[: path.index("resources") + 1] if "resources" in path else path[:1]
            indent = "  " * (len(path) - 1)
            key = re.compile(rf"{indent}{path[-1]}:")
            numbers = [number for number, line in enumerate(lines) if key.match(line)]
            self.assertTrue(numbers, path)
            for number in numbers:
                before = number
                while lines[before - 1].strip().startswith("#"):
                    before -= 1
                self.assertTrue(lines[before].strip().startswith("# -- "), (path, number + 1))

    def test_a_parent_chart_may_pass_its_globals_and_its_condition(self):
        helm.text('global={"imageRegistry":"registry.example"}', "enabled=true")

    def test_helm_refuses_a_cluster_that_is_too_old(self):
        with self.assertRaisesRegex(helm.Refused, "1.33"):
            helm.helm("template", "restpipe", "charts/restpipe", "--kube-version", "1.32.9")
        helm.helm("template", "restpipe", "charts/restpipe", "--kube-version", "1.33.0-gke.1")


if __name__ == "__main__":
    unittest.main()
