"""What values.yaml says, and what the schema refuses."""

import concurrent.futures
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
    ('sidecar.memoryLimit="128m"', "/sidecar/memoryLimit"),
    ('sidecar.memoryRequest="32m"', "/sidecar/memoryRequest"),
    ('sidecar.memoryRequest="32Mib"', "/sidecar/memoryRequest"),
    ("sidecar.memoryRequest=0", "/sidecar/memoryRequest"),
    ('sidecar.cpuRequest="much"', "/sidecar/cpuRequest"),
    ("sidecar.cpuRequest=0", "/sidecar/cpuRequest"),
    ('sidecar.cpuRequest="0"', "/sidecar/cpuRequest"),
    ('sidecar.cpuRequest="0m"', "/sidecar/cpuRequest"),
    ('sidecar.cpuRequest="0.000"', "/sidecar/cpuRequest"),
    ('sidecar.cpuRequest="0.1m"', "/sidecar/cpuRequest"),
    ('sidecar.cpuRequest="0.0005"', "/sidecar/cpuRequest"),
    ('sidecar.cpuRequest="32Mi"', "/sidecar/cpuRequest"),
    ('sidecar.cpuLimit="1"', "cpuLimit"),
    ('logging.format="xml"', "/logging/format"),
    ('logging.level=""', "/logging/level"),
    ('logging.level="info; rm"', "/logging/level"),
    ('logging.level="inof"', "/logging/level"),
    ('logging.level="info,hyper=loud"', "/logging/level"),
    ('logging.level="info,"', "/logging/level"),
    ('fullnameOverride="Pipes"', "/fullnameOverride"),
    ('fullnameOverride="1st"', "/fullnameOverride"),
    ('fullnameOverride="' + 41 * "a" + '"', "/fullnameOverride"),
    ('imagePullSecrets=["pull"]', "/imagePullSecrets/0"),
    ('commonLabels={"a":1}', "/commonLabels/a"),
    ("crds.install=null,crds.keep=true", "keep"),
    ('networkPolicy.enabled="yes"', "/networkPolicy/enabled"),
    ('metrics.podMonitor.interval="often"', "/metrics/podMonitor/interval"),
    ('tests="off"', "/tests"),
]

# --set-json of `sidecar`, and what the refusal says: amounts that no pattern can tell.
TOO_LITTLE = [
    ('{"memoryRequest":"1023Ki"}', "sidecar.memoryRequest is 1023Ki: give at least 1Mi"),
    ('{"memoryRequest":"0.9Mi"}', "sidecar.memoryRequest is 0.9Mi: give at least 1Mi"),
    ('{"memoryRequest":1048575}', "sidecar.memoryRequest is 1048575: give at least 1Mi"),
    ('{"memoryRequest":"1M"}', "sidecar.memoryRequest is 1M: give at least 1Mi"),
    (
        '{"memoryRequest":"4Mi","memoryLimit":"8Mi"}',
        "sidecar.memoryLimit is 8Mi, with which no sidecar starts: give at least 16Mi",
    ),
    (
        '{"memoryRequest":"4Mi","memoryLimit":16777215}',
        "sidecar.memoryLimit is 16777215, with which no sidecar starts: give at least 16Mi",
    ),
    (
        '{"memoryRequest":"129Mi"}',
        "sidecar.memoryRequest is 129Mi and sidecar.memoryLimit is 128Mi: lower the one or raise the other",
    ),
    (
        '{"memoryRequest":"1Gi","memoryLimit":"1G"}',
        "sidecar.memoryRequest is 1Gi and sidecar.memoryLimit is 1G: lower the one or raise the other",
    ),
]

# Values that the webhook takes, and the chart should.
GOOD = [
    *(f'sidecar={{"cpuRequest":{cpu}}}' for cpu in ("1", '"1m"', '"0.001"', '"0.5"', '"1.25"')),
    'sidecar={"memoryRequest":"1Mi","memoryLimit":"16Mi"}',
    'sidecar={"memoryRequest":1048576,"memoryLimit":16777216}',
    'sidecar={"memoryRequest":"102.4Mi","memoryLimit":"0.1Gi"}',
    'sidecar={"memoryRequest":"128Mi","memoryLimit":134217728}',
    'sidecar={"memoryRequest":"1G","memoryLimit":"1Gi"}',
    'logging.level="off"',
    'logging.level="restpipe_operator::webhook=trace,info"',
    'fullnameOverride="p"',
    'nameOverride="1st"',
]


def leaves(values, path=()):
    """Paths of all values that are no tables."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def another(value, schema, path, resolve):
    """A value that the schema takes and that is not `value`."""
    schema = resolve(schema)
    if path[-1] in OTHERS:
        return OTHERS[path[-1]]
    if "enum" in schema:
        return next(one for one in schema["enum"] if one != value)
    kind = schema["type"]
    if kind == "boolean":
        return not value
    if kind == "integer":
        return value + 1
    if kind == "string":
        return (value or "") + "x"
    if kind == "array":
        return [another(None, schema["items"], (*path, 0), resolve)]
    # An object: with the keys that it must have, or with any.
    properties = schema.get("properties", {})
    return {
        key: another(None, properties.get(key, {"type": "string"}), (*path, key), resolve)
        for key in schema.get("required", ["x"])
    }


# What other values need so that they can show: monitors, and names of accounts that are not made.
RICH = {
    "metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
    "controller": {"serviceAccount": {"name": "ours"}},
    "webhook": {"serviceAccount": {"name": "ours"}},
}

# Other values, by the last key, where a pattern wants something certain.
OTHERS = {
    "digest": "sha256:" + 64 * "a",
    "level": "debug",
    "interval": "7s",
    "extraArgs": ["--x"],
    **dict.fromkeys(("cpu", "cpuRequest"), "7m"),
    **dict.fromkeys(("memory", "memoryRequest", "memoryLimit"), "70Mi"),
}


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

    def test_amounts_that_the_webhook_would_not_start_with_are_refused_with_the_cure(self):
        for value, said in TOO_LITTLE:
            with self.subTest(value), self.assertRaises(helm.Refused) as refused:
                helm.text(f"sidecar={value}")
            self.assertIn(said, str(refused.exception), value)

    def test_the_least_amounts_are_the_webhooks(self):
        source = (helm.ROOT / "operator/src/inject/options.rs").read_text()
        self.assertEqual(
            dict(re.findall(r'const LEAST_(\w+): .*"(\w+)"\);', source)),
            {"REQUEST": "1Mi", "LIMIT": "16Mi"},
        )

    def test_what_the_webhook_takes_is_not_refused(self):
        for value in GOOD:
            with self.subTest(value):
                helm.text(value)

    def test_every_value_changes_what_is_rendered(self):
        before = json.dumps(RICH)

        def changes(path):
            value, rich, schema = self.values, RICH, self.schema
            for key in path:
                schema = self.resolve(schema)
                schema = schema.get("properties", {}).get(key) or schema["additionalProperties"]
                value, rich = value[key], rich.get(key, {})
            other = another(rich or value, schema, path, self.resolve)
            for key in reversed(path):
                other = {key: other}
            return helm.text(before, json.dumps(other)) != helm.text(before)

        paths = list(leaves(self.values))
        # helm is a process of its own each time: two at once.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            changed = dict(zip(paths, pool.map(changes, paths), strict=True))
        self.assertEqual([path for path, does in changed.items() if not does], [])

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
