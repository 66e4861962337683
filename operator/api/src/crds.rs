//! The custom resource definitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
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

/// Longest type, reason and message of a condition, as Kubernetes has them for its own.
const CONDITION_MAX_TYPE: i64 = 316;
const CONDITION_MAX_REASON: i64 = 1024;
const CONDITION_MAX_MESSAGE: i64 = 32_768;

/// A time as Kubernetes writes it: in UTC, to the second. The API server takes more for one than
/// can be read, such as an offset of +99:99, and one status that cannot be read is in the way of
/// reading all objects of its kind.
const TIME_PATTERN: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$";

/// The last time that can be read, which leaves room for every offset before the year 10000.
const TIME_RULE: &str = "self <= timestamp('9999-12-30T22:00:00Z')";
const TIME_MESSAGE: &str = "the last time that can be read is 9999-12-30T22:00:00Z";

/// Both definitions: servers, then links.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    let (mut server, mut link) = (RestPipeServer::crd(), RestPipeLink::crd());
    for root in schemas(&mut server) {
        // Every field of a server has a default, so nobody should have to write `spec: {}`.
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
    for root in schemas(&mut server).chain(schemas(&mut link)) {
        if let Some(conditions) = field(root, &["status", "conditions"]) {
            limit_conditions(conditions);
        }
        limit_times(root);
    }
    [server, link]
}

/// The schemas of all versions.
fn schemas(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = crd.spec.versions.iter_mut();
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
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

/// The type of a condition is Kubernetes' own as well, and has no limits either.
fn limit_conditions(conditions: &mut JSONSchemaProps) {
    let Some(JSONSchemaPropsOrArray::Schema(condition)) = conditions.items.as_mut() else { return };
    let Some(fields) = condition.properties.as_mut() else { return };
    for (name, max_length) in [
        ("type", CONDITION_MAX_TYPE),
        ("reason", CONDITION_MAX_REASON),
        ("message", CONDITION_MAX_MESSAGE),
    ] {
        if let Some(text) = fields.get_mut(name) {
            text.max_length = Some(max_length);
        }
    }
    if let Some(status) = fields.get_mut("status") {
        let words = ["True", "False", "Unknown"];
        status.enum_ = Some(words.iter().map(|word| JSON(json!(word))).collect());
    }
}

/// Has every time below a schema be one that can be read.
fn limit_times(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref() == Some("date-time") {
        schema.pattern = Some(TIME_PATTERN.to_owned());
        schema.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: TIME_RULE.to_owned(),
            message: Some(TIME_MESSAGE.to_owned()),
            ..ValidationRule::default()
        }]);
    }
    for field in schema.properties.iter_mut().flat_map(|fields| fields.values_mut()) {
        limit_times(field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = schema.items.as_mut() {
        limit_times(item);
    }
}
