"""Whether Kubernetes knows every field: its own JSON schemas."""

import unittest

import helm

try:
    import kubernetes_validate
except ImportError:  # run.sh says so, and skips in the end.
    kubernetes_validate = None

# The oldest and the newest that the chart is for.
KUBERNETES = ("1.33", "1.37")
# Kinds of others, of which there are no schemas.
FOREIGN = ("restpipe.io/", "monitoring.coreos.com/")


@unittest.skipUnless(kubernetes_validate, "there is no kubernetes-validate")
class Schema(unittest.TestCase):
    """Strict validation of all that is rendered."""

    def check(self, objects):
        for found in objects:
            if found["apiVersion"].startswith(FOREIGN):
                continue
            for version in KUBERNETES:
                with self.subTest(version=version, object=helm.identity(found)):
                    kubernetes_validate.validate(found, version, strict=True)

    def test_the_chart_has_no_field_that_kubernetes_does_not_know(self):
        for name in helm.VARIANTS:
            self.check(helm.variant(name))

    def test_what_looks_like_a_number_is_text_where_kubernetes_wants_text(self):
        self.check(helm.render(values="numbers", release="2024", namespace="123"))

    def test_install_yaml_has_none_either(self):
        self.check(helm.documents((helm.ROOT / "manifests/install.yaml").read_text()))

    def test_the_examples_have_none_either(self):
        for path in sorted((helm.ROOT / "manifests/examples").glob("*.yaml")):
            self.check(helm.documents(path.read_text()))

    def test_a_field_that_is_not_known_would_be_found(self):
        (service,) = helm.of_kind(helm.render(), "Service").values()
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**service, "spce": {}}, KUBERNETES[-1], strict=True)


if __name__ == "__main__":
    unittest.main()
