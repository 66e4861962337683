"""Who may do what: exactly what the operator needs, written out once more."""

import unittest

import helm

KINDS = ("restpipelinks", "restpipeservers")
READ = ("get", "list", "watch")

CONTROLLER = {
    ("restpipe.io", KINDS, (), READ),
    ("restpipe.io", ("restpipelinks/status", "restpipeservers/status"), (), ("get", "patch")),
    ("", ("secrets", "services"), (), ("create", "get", "list", "patch", "watch")),
    ("", ("pods",), (), READ),
    ("events.k8s.io", ("events",), (), ("create", "patch")),
}
NAMESPACES = ("", ("namespaces",), (), READ)
CONTROLLER_OWN = {
    ("", ("secrets",), (), ("create", "delete", "get", "list", "patch", "watch")),
    ("coordination.k8s.io", ("leases",), (), ("create", "get", "patch", "update")),
}
CONTROLLER_WEBHOOK = {
    (
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations",),
        ("restpipe-webhook",),
        ("get", "patch"),
    )
}
WEBHOOK = {("restpipe.io", KINDS, (), READ)}
# What `restpipe-operator check` asks for: see operator/src/cli/check.
CHECK = {("restpipe.io", KINDS, (), ("list",)), ("", ("pods",), (), ("list",))}
CHECK_OWN = {
    ("apps", ("deployments",), ("restpipe-controller", "restpipe-webhook"), ("get",)),
    ("coordination.k8s.io", ("leases",), ("restpipe-controller",), ("get",)),
}
CHECK_CLUSTER = {
    (
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        ("restpipelinks.restpipe.io", "restpipeservers.restpipe.io"),
        ("get",),
    ),
    (
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations",),
        ("restpipe-webhook",),
        ("get",),
    ),
}


def rules(role):
    """A role's rules in one order."""
    return {
        (
            "+".join(rule["apiGroups"]),
            tuple(sorted(rule["resources"])),
            tuple(sorted(rule.get("resourceNames", []))),
            tuple(sorted(rule["verbs"])),
        )
        for rule in role["rules"]
    }


def granted(objects, account):
    """What an account may do: {namespace, or "*" for everywhere: rules}."""
    roles = {helm.identity(found): found for found in objects if found["kind"].endswith("Role")}
    result = {}
    for binding in objects:
        if not binding["kind"].endswith("RoleBinding"):
            continue
        for subject in binding["subjects"]:
            assert subject["kind"] == "ServiceAccount" and subject["namespace"] == helm.NAMESPACE
            if subject["name"] != account:
                continue
            namespace = binding["metadata"].get("namespace", "")
            reference = binding["roleRef"]
            role = roles[reference["kind"], namespace, reference["name"]]
            result.setdefault(namespace or "*", set()).update(rules(role))
    return result


class Rights(unittest.TestCase):
    """Rights of the accounts."""

    maxDiff = None

    def test_the_controller_has_what_it_needs_and_no_more(self):
        self.assertEqual(
            granted(helm.render(), "restpipe-controller"),
            {
                "*": CONTROLLER | {NAMESPACES} | CONTROLLER_WEBHOOK,
                helm.NAMESPACE: CONTROLLER_OWN,
            },
        )

    def test_the_webhook_reads_the_two_kinds_and_nothing_else(self):
        self.assertEqual(granted(helm.render(), "restpipe-webhook"), {"*": WEBHOOK})

    def test_with_watched_namespaces_there_are_rights_in_these_only(self):
        objects = helm.render('watchNamespaces=["shop","storage"]')
        self.assertEqual(
            granted(objects, "restpipe-controller"),
            {
                "shop": CONTROLLER,
                "storage": CONTROLLER,
                helm.NAMESPACE: CONTROLLER_OWN,
                "*": CONTROLLER_WEBHOOK,
            },
        )
        self.assertEqual(
            granted(objects, "restpipe-webhook"), {"shop": WEBHOOK, "storage": WEBHOOK}
        )

    def test_a_release_in_a_watched_namespace_has_both_roles_there(self):
        objects = helm.render(values="watched")
        self.assertEqual(
            granted(objects, "restpipe-controller")[helm.NAMESPACE], CONTROLLER | CONTROLLER_OWN
        )

    def test_with_watched_namespaces_the_one_cluster_role_is_for_the_webhook_configuration(self):
        objects = helm.render(
            'watchNamespaces=["shop"]', "rbac.aggregateToUserRoles=false", "tests.enabled=false"
        )
        self.assertEqual(
            list(helm.of_kind(objects, "ClusterRole")), ["restpipe-controller-webhook"]
        )

    def test_the_check_has_what_it_reads_and_no_more(self):
        self.assertEqual(
            granted(helm.render(), "restpipe-check"),
            {"*": CHECK | CHECK_CLUSTER, helm.NAMESPACE: CHECK_OWN},
        )
        self.assertEqual(
            granted(helm.render('watchNamespaces=["shop","storage"]'), "restpipe-check"),
            {
                "shop": CHECK,
                "storage": CHECK,
                helm.NAMESPACE: CHECK_OWN,
                "*": CHECK_CLUSTER,
            },
        )

    def test_the_check_has_rights_only_while_it_runs(self):
        for name in helm.VARIANTS:
            for found in helm.variant(name):
                if "-check" in found["metadata"]["name"]:
                    self.assertTrue(helm.is_hook(found), helm.identity(found))

    def test_nobody_has_wildcards_or_may_raise_rights(self):
        for name in helm.VARIANTS:
            for role in helm.variant(name):
                if role["kind"] not in ("Role", "ClusterRole"):
                    continue
                for group, resources, _, verbs in rules(role):
                    self.assertNotIn("*", (group, *resources, *verbs), name)
                    self.assertFalse({"escalate", "bind", "impersonate"} & set(verbs), name)

    def test_all_accounts_of_pods_are_made_or_named(self):
        for name in helm.VARIANTS:
            objects = helm.variant(name)
            made = set(helm.of_kind(objects, "ServiceAccount"))
            for pod, _, _, spec in helm.pods(objects):
                self.assertIn(spec["serviceAccountName"], made | {"theirs"}, (name, pod))

    def test_users_roles_are_for_our_kinds_and_bound_to_nobody(self):
        objects = helm.render()
        roles = helm.of_kind(objects, "ClusterRole")
        aggregated = {
            name
            for name, role in roles.items()
            if any("aggregate-to" in label for label in role["metadata"]["labels"])
        }
        self.assertEqual(aggregated, {"restpipe-view", "restpipe-edit"})
        for name in aggregated:
            self.assertEqual({group for group, *_ in rules(roles[name])}, {"restpipe.io"})
        bound = {
            one["roleRef"]["name"] for one in helm.of_kind(objects, "ClusterRoleBinding").values()
        }
        self.assertFalse(bound & aggregated)


if __name__ == "__main__":
    unittest.main()
