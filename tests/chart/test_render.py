"""What the chart makes: all objects of all variants, and pods."""

import re
import unittest

import helm

CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
}
SELECTOR = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
}
LABELS = SELECTOR | {
    "app.kubernetes.io/version",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}


class EveryObject(unittest.TestCase):
    """True of all that is rendered, however it is."""

    def each(self):
        for name in helm.VARIANTS:
            for found in helm.variant(name):
                yield (name, *helm.identity(found)), found

    def test_no_object_is_rendered_twice(self):
        for name in helm.VARIANTS:
            identities = [helm.identity(found) for found in helm.variant(name)]
            self.assertEqual(len(identities), len(set(identities)), name)

    def test_rendering_again_makes_the_same(self):
        first = helm.text()
        helm.text.cache_clear()
        self.assertEqual(first, helm.text())

    def test_all_labels_are_there(self):
        for where, found in self.each():
            with self.subTest(where):
                self.assertLessEqual(LABELS, set(found["metadata"]["labels"]))

    def test_common_labels_are_everywhere_but_in_selectors(self):
        for found in helm.variant("everything"):
            self.assertEqual(found["metadata"]["labels"]["team"], "shop", helm.identity(found))
            selector = found.get("spec", {}).get("selector", {})
            self.assertNotIn("team", str(selector))

    def test_namespaces_are_said(self):
        for where, found in self.each():
            with self.subTest(where):
                namespace = found["metadata"].get("namespace")
                if found["kind"] in CLUSTER_SCOPED:
                    self.assertIsNone(namespace)
                elif found["kind"] not in ("Role", "RoleBinding"):
                    self.assertEqual(namespace, helm.NAMESPACE)

    def test_names_are_short_enough_for_a_service_whatever_the_release_is_called(self):
        for release in ("r" * 53, "a.b", "restpipe-" + "x" * 44, "pipes", "2024", "1" * 53):
            for found in helm.render(release=release):
                name = found["metadata"]["name"]
                if found["kind"] != "CustomResourceDefinition":
                    self.assertRegex(name, r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")

    def test_names_and_labels_are_text_whatever_they_look_like(self):
        # Fields with names that somebody chooses, and tables that have nothing else.
        names = {"name", "namespace", "serviceAccountName", "priorityClassName", "value"}
        tables = {"labels", "matchLabels", "annotations", "nodeSelector"}
        seen = set()

        def walk(value, path, text):
            if isinstance(value, dict):
                for key, inner in value.items():
                    is_text = key in names or path[-1:] and path[-1] in tables
                    walk(inner, (*path, key), is_text)
            elif isinstance(value, list):
                for inner in value:
                    # Of namespaces, and of arguments.
                    walk(inner, path, path[-1] in ("values", "matchNames", "args"))
            elif text:
                seen.add(value)
                self.assertIsInstance(value, str, path)

        for found in helm.render(values="numbers", release="2024", namespace="123"):
            if found["kind"] != "CustomResourceDefinition":
                walk(found, helm.identity(found), False)
                self.assertIsInstance(found.get("spec", {}).get("selector", {}), dict)
        self.assertLessEqual({"true", "2024", "123", "0x1f", "off", "7", "1"}, seen)

    def test_nothing_that_the_controller_owns_is_rendered(self):
        for where, found in self.each():
            with self.subTest(where):
                self.assertNotIn(found["kind"], ("Secret", "Lease"))
                self.assertNotIn("caBundle", str(found))

    def test_only_the_kinds_outlive_the_release(self):
        for where, found in self.each():
            with self.subTest(where):
                kept = "helm.sh/resource-policy" in found["metadata"].get("annotations", {})
                self.assertEqual(kept, found["kind"] == "CustomResourceDefinition")

    def test_the_kinds_come_with_the_release_unless_they_are_not_to(self):
        self.assertEqual(
            set(helm.of_kind(helm.render(), "CustomResourceDefinition")),
            {"restpipeservers.restpipe.io", "restpipelinks.restpipe.io"},
        )
        self.assertFalse(
            helm.of_kind(helm.render("crds.install=false"), "CustomResourceDefinition")
        )

    def test_the_version_is_the_workspaces(self):
        workspace = re.search(r'(?m)^version = "(.*)"', (helm.ROOT / "Cargo.toml").read_text())[1]
        chart = helm.documents((helm.CHART / "Chart.yaml").read_text())[0]
        self.assertEqual((chart["version"], chart["appVersion"]), (workspace, workspace))


class Pods(unittest.TestCase):
    """Pods of controller, webhook and test."""

    def each(self):
        for name in helm.VARIANTS:
            for pod, labels, annotations, spec in helm.pods(helm.variant(name)):
                yield (name, pod), labels, annotations, spec

    def test_they_are_restricted_as_the_pod_security_standards_have_it(self):
        for where, _, _, spec in self.each():
            with self.subTest(where):
                for refused in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
                    self.assertNotIn(refused, spec)
                self.assertIs(spec["securityContext"]["runAsNonRoot"], True)
                self.assertEqual(spec["securityContext"]["runAsUser"], 65532)
                self.assertEqual(
                    spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"}
                )
                for volume in spec.get("volumes", []):
                    self.assertLessEqual(set(volume), {"name", "secret"})
                for container in spec["containers"] + spec.get("initContainers", []):
                    context = container["securityContext"]
                    self.assertIs(context["allowPrivilegeEscalation"], False)
                    self.assertIs(context["readOnlyRootFilesystem"], True)
                    self.assertIs(context["runAsNonRoot"], True)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                    self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                    self.assertNotIn("privileged", context)
                    self.assertTrue(
                        all("hostPort" not in port for port in container.get("ports", []))
                    )

    def test_tokens_are_mounted_by_pods_that_say_so_and_not_by_accounts(self):
        for name in helm.VARIANTS:
            for account in helm.of_kind(helm.variant(name), "ServiceAccount").values():
                self.assertIs(account["automountServiceAccountToken"], False)
        for where, _, _, spec in self.each():
            with self.subTest(where):
                self.assertIs(spec["automountServiceAccountToken"], True)

    def test_memory_is_limited_and_cpu_is_not(self):
        for where, _, _, spec in self.each():
            with self.subTest(where):
                for container in spec["containers"]:
                    self.assertIn("memory", container["resources"]["limits"])
                    self.assertNotIn("cpu", container["resources"]["limits"])
                    self.assertEqual(set(container["resources"]["requests"]), {"cpu", "memory"})

    def test_probes_ask_the_admin_port(self):
        for name in helm.VARIANTS:
            for found in helm.of_kind(helm.variant(name), "Deployment").values():
                container = found["spec"]["template"]["spec"]["containers"][0]
                paths = {
                    kind: container[f"{kind}Probe"]["httpGet"]
                    for kind in ("startup", "liveness", "readiness")
                }
                self.assertEqual(paths["startup"], {"path": "/live", "port": "admin"})
                self.assertEqual(paths["liveness"], {"path": "/live", "port": "admin"})
                self.assertEqual(paths["readiness"], {"path": "/ready", "port": "admin"})
                self.assertIn({"name": "admin", "containerPort": 8080}, container["ports"])

    def test_selectors_find_pods_by_three_labels_that_never_change(self):
        for name in helm.VARIANTS:
            for found in helm.of_kind(helm.variant(name), "Deployment").values():
                wanted = found["spec"]["selector"]["matchLabels"]
                self.assertEqual(set(wanted), SELECTOR)
                labels = found["spec"]["template"]["metadata"]["labels"]
                self.assertLessEqual(wanted.items(), labels.items())

    def test_no_pod_asks_for_a_sidecar(self):
        for where, labels, annotations, _ in self.each():
            with self.subTest(where):
                self.assertFalse(
                    [key for key in [*labels, *annotations] if key.startswith("restpipe.io/")]
                )

    def test_pods_are_spread_by_their_own_labels_unless_told_otherwise(self):
        for found in helm.of_kind(helm.render(), "Deployment").values():
            spread = found["spec"]["template"]["spec"]["topologySpreadConstraints"]
            self.assertEqual(
                [one["topologyKey"] for one in spread],
                ["kubernetes.io/hostname", "topology.kubernetes.io/zone"],
            )
            for one in spread:
                self.assertEqual(one["labelSelector"], found["spec"]["selector"])
                self.assertEqual(one["whenUnsatisfiable"], "ScheduleAnyway")

    def test_where_they_run_is_for_all_of_them(self):
        for where, _, _, spec in self.each():
            with self.subTest(where):
                if where[0] == "everything":
                    self.assertEqual(spec["nodeSelector"]["disk"], "ssd")
                    self.assertEqual(spec["priorityClassName"], "system-cluster-critical")
                    self.assertEqual(spec["imagePullSecrets"], [{"name": "pull"}])
                    self.assertEqual(spec["tolerations"][0]["key"], "control")
                    self.assertIn("nodeAffinity", spec["affinity"])

    def test_images_are_tag_or_digest_of_a_registry_or_none(self):
        def images(*sets, **options):
            objects = helm.render(*sets, **options)
            webhook = next(
                spec for name, *_, spec in helm.pods(objects) if name.endswith("-webhook")
            )
            environment = {one["name"]: one.get("value") for one in webhook["containers"][0]["env"]}
            return (
                {spec["containers"][0]["image"] for *_, spec in helm.pods(objects)},
                environment["RESTPIPE_OPERATOR_SIDECAR_IMAGE"],
            )

        version = helm.documents((helm.CHART / "Chart.yaml").read_text())[0]["appVersion"]
        self.assertEqual(images(), ({f"restpipe-operator:{version}"}, f"restpipe:{version}"))
        self.assertEqual(
            images(values="everything"),
            (
                {"registry.example:5000/mirror/restpipe-operator@sha256:" + 64 * "a"},
                "registry.example:5000/mirror/other/restpipe:1.2.3",
            ),
        )
        self.assertEqual(
            images('sidecar.image.registry="other.example"', 'image.tag="2"')[1],
            f"other.example/restpipe:{version}",
        )


if __name__ == "__main__":
    unittest.main()
