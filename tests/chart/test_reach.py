"""What reaches which pod: that selectors find it, and that ports are those it listens on."""

import unittest

import helm

MONITORED = ("metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true")


def wanted(found):
    """The labels that an object selects pods by; None if it selects none."""
    spec = found.get("spec", {})
    match found["kind"]:
        case "Service":
            return spec["selector"]
        case "PodDisruptionBudget":
            selector = spec["selector"]
        case "NetworkPolicy":
            selector = spec["podSelector"]
        case _:
            return None
    # With anything else beside them, labels would not say it all.
    assert set(selector) == {"matchLabels"}, selector
    return selector["matchLabels"]


def those_with(labels, pods):
    """Names of the pods that have these labels."""
    return [name for name, theirs, *_ in pods if labels.items() <= theirs.items()]


def container_ports(objects):
    """Each pod's ports, by their names."""
    return {
        pod: {
            port["name"]: port["containerPort"] for port in spec["containers"][0].get("ports", [])
        }
        for pod, _, _, spec in helm.pods(objects)
    }


class Selectors(unittest.TestCase):
    """Budgets, policies, Services and monitors."""

    def test_each_finds_the_pods_of_the_one_deployment_that_it_is_for(self):
        for name in helm.VARIANTS:
            objects = helm.variant(name)
            for found in objects:
                labels = wanted(found)
                if labels is not None:
                    deployment = found["metadata"]["name"].removesuffix("-metrics")
                    with self.subTest(name, object=helm.identity(found)):
                        self.assertTrue(labels)
                        self.assertEqual(those_with(labels, helm.pods(objects)), [deployment])

    def test_there_is_one_of_each_for_both(self):
        both = {"our-pipes-controller", "our-pipes-webhook"}
        objects = helm.variant("everything")
        self.assertEqual(set(helm.of_kind(objects, "PodDisruptionBudget")), both)
        self.assertEqual(set(helm.of_kind(objects, "NetworkPolicy")), both)
        self.assertEqual(
            set(helm.of_kind(objects, "Service")),
            {"our-pipes-webhook"} | {f"{name}-metrics" for name in both},
        )

    def test_none_finds_pods_of_another_release(self):
        others = list(helm.pods(helm.render(*MONITORED, release="other")))
        self.assertTrue(others)
        for found in helm.render(*MONITORED):
            labels = wanted(found)
            if labels is not None:
                self.assertEqual(those_with(labels, others), [], helm.identity(found))

    def test_the_service_monitor_finds_the_services_for_metrics_and_no_other(self):
        for name in ("everything", "numbers"):
            objects = helm.variant(name)
            (monitor,) = helm.of_kind(objects, "ServiceMonitor").values()
            # Without a namespaceSelector it looks in its own namespace.
            self.assertEqual(set(monitor["spec"]), {"selector", "endpoints"})
            self.assertEqual(set(monitor["spec"]["selector"]), {"matchLabels"})
            labels = monitor["spec"]["selector"]["matchLabels"].items()
            services = helm.of_kind(objects, "Service")
            found = {
                service
                for service, one in services.items()
                if labels <= one["metadata"]["labels"].items()
            }
            self.assertEqual(found, {one for one in services if one.endswith("-metrics")})
            self.assertEqual(len(found), 2)

    def test_the_pod_monitor_is_for_sidecars_and_not_for_our_own_pods(self):
        objects = helm.render(*MONITORED)
        (monitor,) = helm.of_kind(objects, "PodMonitor").values()
        self.assertEqual(
            monitor["spec"]["selector"],
            {"matchExpressions": [{"key": "restpipe.io/role", "operator": "Exists"}]},
        )
        for pod, labels, *_ in helm.pods(objects):
            self.assertNotIn("restpipe.io/role", labels, pod)


class Ports(unittest.TestCase):
    """Of containers, policies, Services and monitors."""

    def test_containers_name_the_ports_that_their_processes_listen_on_at_every_address(self):
        for name in helm.VARIANTS:
            objects = helm.variant(name)
            ports = container_ports(objects)
            for pod, _, _, spec in helm.pods(objects):
                (container,) = spec["containers"]
                listens = {
                    {"--listen": "webhook"}.get(flag, flag.removeprefix("--")): address
                    for flag, _, address in (one.partition("=") for one in container["args"])
                    if flag in ("--listen", "--admin")
                }
                with self.subTest(name, pod=pod):
                    # [::] is all addresses, with or without IPv6; 0.0.0.0 lacks those of IPv6.
                    self.assertEqual(
                        listens, {port: f"[::]:{number}" for port, number in ports[pod].items()}
                    )

    def test_they_are_these(self):
        self.assertEqual(
            container_ports(helm.render()),
            {
                "restpipe-controller": {"admin": 8080},
                "restpipe-webhook": {"webhook": 9443, "admin": 8080},
                "restpipe-check": {},
            },
        )

    def test_policies_let_in_what_is_served_and_nothing_else(self):
        def policies(objects):
            found = helm.of_kind(objects, "NetworkPolicy")
            for one in found.values():
                # Tested above.
                del one["spec"]["podSelector"]
            return {name: one["spec"] for name, one in found.items()}

        # The port's name is the container's. What leaves is not limited: the API server, DNS,
        # and for the controller servers and the admin ports of sidecars are anywhere.
        called = {"ports": [{"port": "webhook", "protocol": "TCP"}]}
        admin = {"ports": [{"port": "admin", "protocol": "TCP"}]}
        self.assertEqual(
            policies(helm.render()),
            {
                "restpipe-controller": {"policyTypes": ["Ingress"], "ingress": [admin]},
                "restpipe-webhook": {"policyTypes": ["Ingress"], "ingress": [called, admin]},
            },
        )
        # The API server may always come in; metrics are for whom they concern.
        monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
        admin = {**admin, "from": [{"namespaceSelector": monitoring}]}
        self.assertEqual(
            policies(helm.variant("everything")),
            {
                "our-pipes-controller": {"policyTypes": ["Ingress"], "ingress": [admin]},
                "our-pipes-webhook": {"policyTypes": ["Ingress"], "ingress": [called, admin]},
            },
        )
        self.assertFalse(helm.of_kind(helm.variant("little"), "NetworkPolicy"))

    def test_services_lead_to_ports_that_their_pods_have(self):
        objects = helm.render(*MONITORED)
        ports = container_ports(objects)
        leads = {}
        for name, service in helm.of_kind(objects, "Service").items():
            (port,) = service["spec"]["ports"]
            target = ports[name.removesuffix("-metrics")][port["targetPort"]]
            leads[name] = (port["name"], port["port"], target)
        self.assertEqual(
            leads,
            {
                "restpipe-webhook": ("https", 443, 9443),
                "restpipe-webhook-metrics": ("admin", 8080, 8080),
                "restpipe-controller-metrics": ("admin", 8080, 8080),
            },
        )

    def test_monitors_ask_the_ports_where_metrics_are(self):
        objects = helm.render(*MONITORED)
        (services,) = helm.of_kind(objects, "ServiceMonitor").values()
        (endpoint,) = services["spec"]["endpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]), ("admin", "/metrics"))
        (sidecars,) = helm.of_kind(objects, "PodMonitor").values()
        (endpoint,) = sidecars["spec"]["podMetricsEndpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]), ("restpipe-admin", "/metrics"))
        injected = (helm.ROOT / "operator/src/inject/container.rs").read_text()
        self.assertIn(f'"name": "{endpoint["port"]}"', injected)


if __name__ == "__main__":
    unittest.main()
