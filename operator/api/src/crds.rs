//! The custom resource definitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::{RestPipeLink, RestPipeServer};

/// Requirements or labels that a selector may have.
const SELECTOR_MAX_ITEMS: i64 = 16;

/// Values that one requirement of a selector may have.
const SELECTOR_MAX_VALUES: i64 = 64;

/// Longest key of a label, with its prefix.
const LABEL_MAX_KEY: i64 = 317;

/// Longest value of a label.
const LABEL_MAX_VALUE: i64 = 63;

/// Longest value of an annotation, bytes: clouds have some that hold lists. All annotations of an
/// object together are limited to 256 KiB by Kubernetes.
const ANNOTATION_MAX_VALUE: i64 = 4096;

/// Both definitions: servers, then links.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    let mut server = RestPipeServer::crd();
    // Every field of a server has a default, so nobody should have to write `spec: {}`.
    for version in &mut server.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let Some(root) = root else { continue };
        root.required = None;
        if let Some(spec) = root.properties.as_mut().and_then(|fields| fields.get_mut("spec")) {
            spec.default = Some(JSON(json!({})));
        }
        if let Some(selector) = field(root, &["spec", "clients", "namespaces", "selector"]) {
            limit_selector(selector);
        }
        if let Some(annotations) = field(root, &["spec", "service", "annotations"]) {
            limit_values(annotations, ANNOTATION_MAX_VALUE);
        }
    }
    [server, RestPipeLink::crd()]
}

/// The schema of a field within a field.
fn field<'a>(root: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(root, |schema, name| schema.properties.as_mut()?.get_mut(*name))
}

/// Limits the values of a map of strings.
fn limit_values(map: &mut JSONSchemaProps, max_length: i64) {
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = map.additional_properties.as_mut() {
        value.max_length = Some(max_length);
    }
}

/// The type of a label selector is Kubernetes' own and says nothing of what is too much; nor that
/// there are four operators.
fn limit_selector(selector: &mut JSONSchemaProps) {
    let Some(fields) = selector.properties.as_mut() else { return };
    if let Some(labels) = fields.get_mut("matchLabels") {
        labels.max_properties = Some(SELECTOR_MAX_ITEMS);
        limit_values(labels, LABEL_MAX_VALUE);
    }
    let Some(expressions) = fields.get_mut("matchExpressions") else { return };
    expressions.max_items = Some(SELECTOR_MAX_ITEMS);
    let Some(JSONSchemaPropsOrArray::Schema(expression)) = expressions.items.as_mut() else {
        return;
    };
    let Some(fields) = expression.properties.as_mut() else { return };
    if let Some(key) = fields.get_mut("key") {
        key.max_length = Some(LABEL_MAX_KEY);
    }
    if let Some(operator) = fields.get_mut("operator") {
        let operators = ["In", "NotIn", "Exists", "DoesNotExist"];
        operator.enum_ = Some(operators.iter().map(|name| JSON(json!(name))).collect());
    }
    if let Some(values) = fields.get_mut("values") {
        values.max_items = Some(SELECTOR_MAX_VALUES);
        if let Some(JSONSchemaPropsOrArray::Schema(value)) = values.items.as_mut() {
            value.max_length = Some(LABEL_MAX_VALUE);
        }
    }
}
