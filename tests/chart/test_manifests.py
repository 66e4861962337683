"""manifests/ for those without Helm, and the examples."""

import os
import re
import subprocess
import unittest

import helm

MANIFESTS = helm.ROOT / "manifests"
EXAMPLES = sorted((MANIFESTS / "examples").glob("*.yaml"))
SETTABLE = {
    "restpipe.io/link",
    "restpipe.io/server",
    "restpipe.io/app-port",
    "restpipe.io/gateway-port",
    "restpipe.io/log-level",
    "restpipe.io/cpu-request",
    "restpipe.io/memory-request",
    "restpipe.io/memory-limit",
}


class Install(unittest.TestCase):
    """install.yaml and kustomization.yaml."""

    def setUp(self):
        self.objects = helm.documents((MANIFESTS / "install.yaml").read_text())

    def test_install_yaml_is_what_the_chart_renders(self):
        done = subprocess.run(
            [MANIFESTS / "render.sh", "--stdout"], capture_output=True, text=True, check=True
        )
        self.assertEqual(
            (MANIFESTS / "install.yaml").read_text(),
            done.stdout,
            "run `make manifests`: install.yaml is not what the chart renders",
        )

    def test_its_namespace_comes_first_and_is_restricted(self):
        first = self.objects[0]
        self.assertEqual(helm.identity(first), ("Namespace", "", helm.NAMESPACE))
        self.assertEqual(
            first["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted"
        )

    def test_it_is_the_release_without_its_hooks_and_without_helm(self):
        release = {
            helm.identity(found) for found in helm.render(apis=()) if not helm.is_hook(found)
        }
        self.assertEqual({helm.identity(found) for found in self.objects[1:]}, release)
        for found in self.objects:
            self.assertNotIn("helm.sh/chart", found["metadata"]["labels"])
            self.assertNotIn("app.kubernetes.io/managed-by", found["metadata"]["labels"])

    def test_kustomize_takes_it(self):
        done = subprocess.run(
            [os.environ["KUBECTL"], "kustomize", MANIFESTS],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(helm.documents(done.stdout)), len(self.objects))


class Examples(unittest.TestCase):
    """manifests/examples: that they hold together.

    Cluster tests have an API server say whether it would take each of them, and run hello.yaml.
    """

    def each(self):
        for path in EXAMPLES:
            yield path.name, helm.documents(path.read_text())

    def test_there_are_the_ones_that_the_documentation_names(self):
        self.assertEqual(
            [path.stem for path in EXAMPLES],
            ["external", "hello", "job", "nodeport", "own-ca", "two-namespaces"],
        )

    def test_no_object_is_there_twice_and_all_say_their_namespace(self):
        for path, objects in self.each():
            with self.subTest(path):
                identities = [helm.identity(found) for found in objects]
                self.assertEqual(len(identities), len(set(identities)))
                for kind, namespace, _ in identities:
                    self.assertTrue(namespace or kind == "Namespace")

    def test_they_conform_to_the_kinds(self):
        schemas = {}
        for crd in helm.of_kind(helm.render(), "CustomResourceDefinition").values():
            (version,) = crd["spec"]["versions"]
            schemas[crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
        for path, objects in self.each():
            with self.subTest(path):
                for found in objects:
                    if found["kind"] in schemas:
                        self.conforms(found, schemas[found["kind"]], found["kind"])

    def conforms(self, value, schema, path):
        """What CEL adds is for the API server to say."""
        kind = schema.get("type")
        if kind == "object":
            properties = schema.get("properties", {})
            other = schema.get("additionalProperties")
            open_ended = schema.get("x-kubernetes-preserve-unknown-fields", False)
            for key in schema.get("required", []):
                self.assertIn(key, value, path)
            for key, inner in value.items():
                if key in properties:
                    self.conforms(inner, properties[key], f"{path}.{key}")
                elif isinstance(other, dict):
                    self.conforms(inner, other, f"{path}.{key}")
                elif path not in ("RestPipeServer", "RestPipeLink") or key not in (
                    "apiVersion",
                    "kind",
                    "metadata",
                ):
                    self.assertTrue(open_ended, f"{path} has no {key}")
        elif kind == "array":
            for number, inner in enumerate(value):
                self.conforms(inner, schema["items"], f"{path}[{number}]")
        elif kind == "string":
            self.assertIsInstance(value, str, path)
            if "pattern" in schema:
                self.assertTrue(re.search(schema["pattern"], value), path)
        elif kind == "integer":
            self.assertIsInstance(value, int, path)
        if "enum" in schema:
            self.assertIn(value, schema["enum"], path)

    def test_annotated_pods_name_what_is_there(self):
        declared = set()
        for _, objects in self.each():
            declared |= {helm.identity(found) for found in objects}
        for path, objects in self.each():
            with self.subTest(path):
                namespaces = {
                    found["metadata"]["name"]: found["metadata"]["namespace"]
                    for found in objects
                    if "namespace" in found["metadata"]
                }
                for name, _, annotations, spec in helm.pods(objects):
                    ours = {
                        key: value
                        for key, value in annotations.items()
                        if key.startswith("restpipe.io/")
                    }
                    self.assertLessEqual(set(ours), SETTABLE)
                    roles = [
                        key for key in ours if key in ("restpipe.io/link", "restpipe.io/server")
                    ]
                    self.assertEqual(len(roles), 1)
                    kind = {
                        "restpipe.io/link": "RestPipeLink",
                        "restpipe.io/server": "RestPipeServer",
                    }[roles[0]]
                    self.assertIn((kind, namespaces[name], ours[roles[0]]), declared)
                    self.assertEqual([one["name"] for one in spec["containers"]], ["app"])

    def test_what_an_export_writes_is_not_written_by_hand_beside_it(self):
        path = MANIFESTS / "examples/external.yaml"
        (deployment,) = helm.documents(path.read_text())
        # A link in it would take fields from the exported one, which are for ever.
        self.assertEqual(deployment["kind"], "Deployment")
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        commands = path.read_text()
        (exported,) = re.findall(r"restpipe-operator export link/(\S+) --namespace (\S+)", commands)
        namespace = deployment["metadata"]["namespace"]
        self.assertEqual(exported, (annotations["restpipe.io/link"], namespace))
        # And it is to be had from the example of the server that it names.
        objects = helm.documents((MANIFESTS / "examples/nodeport.yaml").read_text())
        links = {helm.identity(found): found for found in objects}
        self.assertIn("export", links["RestPipeLink", exported[1], exported[0]]["spec"])

    def test_links_name_servers_that_let_them_in(self):
        everything = {}
        for _, objects in self.each():
            everything.update({helm.identity(found): found for found in objects})
        for (kind, namespace, name), link in everything.items():
            server = link["spec"]["server"] if kind == "RestPipeLink" else {}
            if "name" not in server:
                continue
            home = server.get("namespace", namespace)
            found = everything["RestPipeServer", home, server["name"]]
            let_in = found.get("spec", {}).get("clients", {}).get("namespaces", {"from": "Same"})
            if let_in["from"] == "Same":
                self.assertEqual(home, namespace, name)
            elif let_in["from"] == "Selector":
                labels = everything["Namespace", "", namespace]["metadata"]["labels"]
                self.assertLessEqual(let_in["selector"]["matchLabels"].items(), labels.items())


if __name__ == "__main__":
    unittest.main()
