//! A JSON patch that takes nothing away.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, MoveOperation, Patch, PatchOperation};
use serde_json::{Map, Value};

/// Gathers what is added and moved.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<PatchOperation>);

impl Changes {
    /// `value` at the front of the list at `path`, which is made if it is not `there`.
    pub(super) fn first(&mut self, path: &[&str], there: bool, value: Value) {
        self.element(path, there, "0", value);
    }

    /// `value` at the end of the list at `path`, which is made if it is not `there`.
    pub(super) fn last(&mut self, path: &[&str], there: bool, value: Value) {
        self.element(path, there, "-", value);
    }

    /// What is at `place` in the list at `path` to the front of it. Places that are named later are
    /// those of the list as it is then.
    pub(super) fn move_first(&mut self, path: &[&str], place: usize) {
        let place = place.to_string();
        let [from, path] = [place.as_str(), "0"]
            .map(|place| PointerBuf::from_tokens(path.iter().copied().chain([place])));
        self.0.push(PatchOperation::Move(MoveOperation { from, path }));
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
