"""What `helm install` tells those who have installed."""

import re
import unittest

import helm


def example(told):
    """The namespace that all commands of the example are for."""
    commands = re.findall(r"kubectl -n (\S+) (?:apply|patch|wait|exec) ", told)
    assert len(commands) == 6 and len(set(commands)) == 1, commands
    return commands[0]


class Notes(unittest.TestCase):
    """NOTES.txt."""

    def test_they_lead_on_and_say_what_stays(self):
        told = helm.notes(release="other", namespace="pipes")
        for said in (
            "kubectl -n pipes rollout status deploy/other-restpipe-controller deploy/other-restpipe-webhook",
            "helm -n pipes test other --logs",
            "restpipe.io/server",
            "curl -s http://localhost:7070/server/time",
            "kubectl -n pipes delete secret -l app.kubernetes.io/managed-by=restpipe-operator",
        ):
            self.assertIn(said, told)
        self.assertEqual(example(told), "default")
        self.assertNotIn("WARNING", told)

    def test_a_test_that_is_not_there_is_not_named(self):
        self.assertNotIn("helm -n", helm.notes("tests.enabled=false"))

    def test_the_example_is_for_the_first_namespace_that_gets_sidecars(self):
        excluded = 'webhook.excludeNamespaces=["ci"]'
        for watched, expected in (
            ('["shop","storage"]', "shop"),
            ('["restpipe-system","shop"]', "shop"),
            ('["ci","shop","storage"]', "shop"),
            ('["kube-flannel","kube-system","shop"]', "shop"),
        ):
            told = helm.notes(f"watchNamespaces={watched}", excluded)
            self.assertEqual(example(told), expected, watched)
            self.assertNotIn("in place of NAMESPACE", told, watched)

    def test_the_example_leaves_the_name_open_where_none_is_known_that_gets_sidecars(self):
        for told in (
            helm.notes('webhook.excludeNamespaces=["default"]'),
            helm.notes(namespace="default"),
            helm.notes('watchNamespaces=["restpipe-system"]'),
        ):
            self.assertEqual(example(told), "NAMESPACE")
            self.assertIn("with a namespace of your apps in place of NAMESPACE", told)
        # To leave it out is no mistake.
        self.assertNotIn("WARNING", helm.notes('webhook.excludeNamespaces=["default"]'))

    def test_they_say_how_to_get_the_kinds_where_these_do_not_come_along(self):
        command = "restpipe-operator crds | kubectl apply --server-side -f -"
        self.assertNotIn(command, helm.notes())
        told = helm.notes("crds.install=false")
        self.assertIn("It needs the kinds RestPipeServer and RestPipeLink", told)
        self.assertLess(told.index(command), told.index("rollout status"))

    def test_they_warn_of_a_release_among_apps(self):
        self.assertIn("no sidecar, and that is `default`", helm.notes(namespace="default"))

    def test_they_warn_of_watched_namespaces_without_sidecars(self):
        told = helm.notes('watchNamespaces=["shop","restpipe-system"]')
        self.assertIn("WARNING: no pod gets a sidecar in restpipe-system, also if watch", told)
        self.assertNotIn("No other is watched", told)
        told = helm.notes(
            'watchNamespaces=["ci","kube-flannel"]', 'webhook.excludeNamespaces=["ci"]'
        )
        self.assertIn("WARNING: no pod gets a sidecar in ci, kube-flannel, also if", told)
        self.assertIn("No other is watched: name one.", told)
        self.assertNotIn("WARNING", helm.notes('watchNamespaces=["shop"]'))

    def test_they_warn_where_nobody_makes_certificates(self):
        told = helm.notes("controller.replicas=0")
        self.assertIn("WARNING: controller.replicas is 0: nobody makes certificates", told)
        self.assertIn("every annotated pod is refused", told)

    def test_they_warn_where_nobody_injects(self):
        told = helm.notes("webhook.replicas=0")
        self.assertIn("WARNING: webhook.replicas is 0: every annotated pod is refused", told)

    def test_they_warn_of_monitors_that_cannot_be_made(self):
        self.assertIn("no kind PodMonitor", helm.notes("metrics.podMonitor.enabled=true"))
        self.assertIn("no kind ServiceMonitor", helm.notes("metrics.serviceMonitor.enabled=true"))


if __name__ == "__main__":
    unittest.main()
