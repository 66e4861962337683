//! A JSON patch out of `add` alone.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value};

/// Gathers what is added.
#[derive(Debug, Default)]
pub(super) struct Adds(Vec<PatchOperation>);

impl Adds {
    /// `value` at the front of the list at `path`, which is made if it is not `there`.
    pub(super) fn first(&mut self, path: &[&str], there: bool, value: Value) {
        self.element(path, there, "0", value);
    }

    /// `value` at the end of the list at `path`, which is made if it is not `there`.
    pub(super) fn last(&mut self, path: &[&str], there: bool, value: Value) {
        self.element(path, there, "-", value);
    }

    fn element(&mut self, path: &[&str], there: bool, place: &str, value: Value) {
        if there {
            let path = path.iter().copied().chain([place]);
            self.add(PointerBuf::from_tokens(path), value);
        } else {
            self.add(PointerBuf::from_tokens(path.iter().copied()), Value::Array(vec![value]));
        }
    }

    /// `entries` into the map at `path`, which is made if there is none.
    pub(super) fn entries(
        &mut self,
        path: &[&str],
        map: Option<&Map<String, Value>>,
        entries: &[(&str, &str)],
    ) {
        if entries.is_empty() {
            return;
        }
        if map.is_none() {
            let all = entries.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
            self.add(PointerBuf::from_tokens(path.iter().copied()), Value::Object(all.collect()));
            return;
        }
        for (key, value) in entries {
            let path = path.iter().copied().chain([*key]);
            self.add(PointerBuf::from_tokens(path), Value::from(*value));
        }
    }

    fn add(&mut self, path: PointerBuf, value: Value) {
        self.0.push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// All of it.
    pub(super) fn patch(self) -> Patch {
        Patch(self.0)
    }
}
