"""The parts that are not alike: webhook, arguments, what is switched."""

import unittest

import helm


def container(objects, component):
    """The one container of a Deployment."""
    found = next(
        found
        for found in helm.of_kind(objects, "Deployment").values()
        if found["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    return found["spec"]["template"]["spec"]["containers"][0]


def configuration(*sets, **options):
    """The MutatingWebhookConfiguration and its one webhook."""
    (found,) = helm.of_kind(helm.render(*sets, **options), "MutatingWebhookConfiguration").values()
    (webhook,) = found["webhooks"]
    return found, webhook


class Webhook(unittest.TestCase):
    """What the API server is told to ask the webhook."""

    maxDiff = None

    def test_it_is_asked_about_new_annotated_pods_only(self):
        found, webhook = configuration()
        self.assertEqual(found["metadata"]["name"], "restpipe-webhook")
        conditions = {one["name"]: one["expression"] for one in webhook.pop("matchConditions")}
        self.assertEqual(
            conditions,
            {
                # Nor about those that say that they want none: they do not wait for the webhook either.
                "annotated": "has(object.metadata.annotations)"
                " && ['restpipe.io/link', 'restpipe.io/server'].exists(key,"
                " key in object.metadata.annotations && object.metadata.annotations[key] != 'disabled')",
                "no-mirror-pod": "!has(object.metadata.annotations)"
                " || !('kubernetes.io/config.mirror' in object.metadata.annotations)",
                # Never an error, with which an annotated pod would be refused: only what is in a
                # namespace is asked about (`scope` below), and the request says in which.
                "no-kube-namespace": "!request.namespace.startsWith('kube-')",
            },
        )
        self.assertEqual(
            webhook,
            {
                "name": "inject.restpipe.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": {
                        "name": "restpipe-webhook",
                        "namespace": helm.NAMESPACE,
                        "path": "/inject",
                        "port": 443,
                    }
                },
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "reinvocationPolicy": "IfNeeded",
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                        "scope": "Namespaced",
                    }
                ],
                "namespaceSelector": {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/metadata.name",
                            "operator": "NotIn",
                            "values": [
                                "kube-system",
                                "kube-public",
                                "kube-node-lease",
                                helm.NAMESPACE,
                            ],
                        }
                    ]
                },
            },
        )

    def test_watched_namespaces_are_the_only_ones(self):
        _, webhook = configuration(values="watched")
        self.assertIn(
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "In",
                "values": ["shop", "storage", helm.NAMESPACE],
            },
            webhook["namespaceSelector"]["matchExpressions"],
        )

    def test_namespaces_can_be_left_out(self):
        _, webhook = configuration(values="everything")
        (left_out,) = webhook["namespaceSelector"]["matchExpressions"]
        self.assertEqual(
            left_out["values"],
            ["kube-system", "kube-public", "kube-node-lease", helm.NAMESPACE, "ci"],
        )

    def test_it_waits_for_its_certificate(self):
        deployment = helm.of_kind(helm.render(), "Deployment")["restpipe-webhook"]["spec"][
            "template"
        ]["spec"]
        self.assertEqual(
            deployment["volumes"],
            [
                {
                    "name": "tls",
                    "secret": {"secretName": "restpipe-webhook-tls", "defaultMode": 0o440},
                }
            ],
        )
        self.assertEqual(deployment["securityContext"]["fsGroup"], 65532)
        self.assertEqual(
            deployment["containers"][0]["volumeMounts"],
            [{"name": "tls", "mountPath": "/tls", "readOnly": True}],
        )

    def test_it_outlives_the_connections_that_api_servers_have(self):
        found = helm.of_kind(helm.render(), "Deployment")["restpipe-webhook"]["spec"]
        longest = 15 + 10
        self.assertGreater(found["template"]["spec"]["terminationGracePeriodSeconds"], longest)
        self.assertEqual(found["strategy"]["rollingUpdate"]["maxUnavailable"], 0)

    def test_its_service_leads_to_its_port(self):
        service = helm.of_kind(helm.render(), "Service")["restpipe-webhook"]["spec"]
        self.assertEqual(
            (service["ports"][0]["port"], service["ports"][0]["targetPort"]), (443, "webhook")
        )
        ports = {
            port["name"]: port["containerPort"]
            for port in container(helm.render(), "webhook")["ports"]
        }
        self.assertEqual(ports, {"webhook": 9443, "admin": 8080})


class Parts(unittest.TestCase):
    """Arguments and switches."""

    def test_the_controller_is_told_the_names_of_its_release(self):
        arguments = container(helm.render(release="other"), "controller")["args"]
        for name in (
            "--lease-name=other-restpipe-controller",
            "--webhook-service=other-restpipe-webhook",
            "--webhook-configuration=other-restpipe-webhook",
            "--webhook-tls-secret=other-restpipe-webhook-tls",
            "--webhook-ca-secret=other-restpipe-webhook-ca",
        ):
            self.assertIn(name, arguments)
        self.assertFalse([one for one in arguments if one.startswith("--watch")])
        self.assertEqual(arguments[0], "controller")

    def test_watched_namespaces_are_arguments_of_both(self):
        for component in ("controller", "webhook"):
            self.assertIn(
                "--watch-namespaces=shop,storage,restpipe-system",
                container(helm.render(values="watched"), component)["args"],
            )

    def test_the_webhook_is_told_of_the_sidecar(self):
        arguments = container(helm.render(values="everything"), "webhook")["args"]
        for one in (
            "--sidecar-pull-policy=Never",
            "--cpu-request=1",
            "--memory-request=64Mi",
            "--memory-limit=1Gi",
            "--log=debug,hyper=info",
            "--log-format=text",
            "--more=1",
        ):
            self.assertIn(one, arguments)

    def test_amounts_without_a_unit_stay_as_they_are_written(self):
        arguments = container(
            helm.render(
                "sidecar.cpuRequest=2",
                "sidecar.memoryRequest=1048576",
                "sidecar.memoryLimit=134217728",
            ),
            "webhook",
        )["args"]
        for one in ("--cpu-request=2", "--memory-request=1048576", "--memory-limit=134217728"):
            self.assertIn(one, arguments)

    def test_pods_know_their_name_and_namespace(self):
        for component in ("controller", "webhook"):
            environment = {one["name"]: one for one in container(helm.render(), component)["env"]}
            for name, path in (
                ("POD_NAME", "metadata.name"),
                ("POD_NAMESPACE", "metadata.namespace"),
            ):
                self.assertEqual(environment[name]["valueFrom"], {"fieldRef": {"fieldPath": path}})

    def test_budgets_are_for_more_than_one_pod(self):
        self.assertEqual(
            set(helm.of_kind(helm.render(), "PodDisruptionBudget")), {"restpipe-webhook"}
        )
        both = helm.of_kind(helm.render("controller.replicas=2"), "PodDisruptionBudget")
        self.assertEqual(set(both), {"restpipe-webhook", "restpipe-controller"})
        for budget in both.values():
            del budget["spec"]["selector"]
            self.assertEqual(
                budget["spec"],
                {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
            )
        self.assertFalse(
            helm.of_kind(helm.render("podDisruptionBudget.enabled=false"), "PodDisruptionBudget")
        )

    def test_monitors_need_their_api_and_their_switch(self):
        on = ("metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true")
        monitors = ("ServiceMonitor", "PodMonitor")
        for sets, apis, count in ((on, helm.MONITORS, 1), (on, (), 0), ((), helm.MONITORS, 0)):
            objects = helm.render(*sets, apis=apis)
            for kind in monitors:
                self.assertEqual(len(helm.of_kind(objects, kind)), count, (sets, apis))

    def test_sidecars_are_scraped_where_they_may_be(self):
        on = "metrics.podMonitor.enabled=true"
        (everywhere,) = helm.of_kind(helm.render(on), "PodMonitor").values()
        self.assertEqual(everywhere["spec"]["namespaceSelector"], {"any": True})
        (some,) = helm.of_kind(helm.render(on, values="watched"), "PodMonitor").values()
        self.assertIn("shop", some["spec"]["namespaceSelector"]["matchNames"])


if __name__ == "__main__":
    unittest.main()
