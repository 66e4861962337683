"""The parts that are not alike: webhook, arguments, what is switched, notes."""

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
                "annotated": "has(object.metadata.annotations) && ('restpipe.io/link' in object.metadata.annotations"
                " || 'restpipe.io/server' in object.metadata.annotations)",
                "no-mirror-pod": "!has(object.metadata.annotations)"
                " || !('kubernetes.io/config.mirror' in object.metadata.annotations)",
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
    """Arguments, switches, notes."""

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
        self.assertFalse(
            helm.of_kind(helm.render("podDisruptionBudget.enabled=false"), "PodDisruptionBudget")
        )

    def test_the_webhooks_port_is_open_to_all_and_metrics_to_whom_it_may_concern(self):
        policies = helm.of_kind(helm.variant("everything"), "NetworkPolicy")
        webhook, metrics = policies["our-pipes-webhook"]["spec"]["ingress"]
        self.assertEqual(webhook, {"ports": [{"port": "webhook", "protocol": "TCP"}]})
        self.assertEqual(set(metrics), {"ports", "from"})
        for policy in policies.values():
            self.assertEqual(policy["spec"]["policyTypes"], ["Ingress"])
        self.assertFalse(helm.of_kind(helm.variant("little"), "NetworkPolicy"))

    def test_monitors_need_their_api_and_their_switch(self):
        on = ("metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true")
        monitors = ("ServiceMonitor", "PodMonitor")
        for sets, apis, count in ((on, helm.MONITORS, 1), (on, (), 0), ((), helm.MONITORS, 0)):
            objects = helm.render(*sets, apis=apis)
            for kind in monitors:
                self.assertEqual(len(helm.of_kind(objects, kind)), count, (sets, apis))

    def test_the_service_monitor_finds_the_services_of_both(self):
        objects = helm.variant("everything")
        (monitor,) = helm.of_kind(objects, "ServiceMonitor").values()
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [
            name
            for name, one in helm.of_kind(objects, "Service").items()
            if wanted <= one["metadata"]["labels"].items()
        ]
        self.assertEqual(found, ["our-pipes-controller-metrics", "our-pipes-webhook-metrics"])

    def test_sidecars_are_scraped_where_they_may_be(self):
        on = "metrics.podMonitor.enabled=true"
        (everywhere,) = helm.of_kind(helm.render(on), "PodMonitor").values()
        self.assertEqual(everywhere["spec"]["namespaceSelector"], {"any": True})
        (some,) = helm.of_kind(helm.render(on, values="watched"), "PodMonitor").values()
        self.assertIn("shop", some["spec"]["namespaceSelector"]["matchNames"])

    def test_notes_lead_on_and_say_what_stays(self):
        told = helm.notes(release="other", namespace="pipes")
        for said in (
            "kubectl -n pipes rollout status deploy/other-restpipe-controller deploy/other-restpipe-webhook",
            "helm -n pipes test other --logs",
            "restpipe.io/server",
            "curl -s http://localhost:7070/server/time",
            "kubectl -n pipes delete secret -l app.kubernetes.io/managed-by=restpipe-operator",
        ):
            self.assertIn(said, told)
        self.assertNotIn("WARNING", told)

    def test_notes_warn(self):
        self.assertIn("no sidecar, and that is `default`", helm.notes(namespace="default"))
        self.assertIn("every annotated pod is refused", helm.notes("webhook.replicas=0"))
        self.assertIn("no kind PodMonitor", helm.notes("metrics.podMonitor.enabled=true"))
        self.assertIn("no kind ServiceMonitor", helm.notes("metrics.serviceMonitor.enabled=true"))
        self.assertIn("kubectl -n shop apply", helm.notes('watchNamespaces=["shop"]'))


if __name__ == "__main__":
    unittest.main()
