//! What an API server was asked for, and by whom.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;

/// The log of an API server.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
}

/// A moment in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// A request that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// `get`, `create`, `patch` and so on.
    pub verb: String,
    /// Such as `secrets` or `restpipelinks/status`.
    pub resource: String,
    /// `NAMESPACE/NAME`, either of which may be empty.
    pub object: String,
    /// The status of the answer.
    pub code: u64,
    /// Where it went, with its query.
    pub uri: String,
    /// When it came, in seconds of that day.
    pub at: f64,
    /// What admission has noted, such as which webhook has changed the object.
    pub annotations: Value,
}

impl Request {
    /// The webhooks that were called, in their order, as `ROUND CONFIGURATION MUTATED`: round 1 is
    /// of those that were called once more.
    pub fn webhooks(&self) -> Vec<String> {
        let notes = self.annotations.as_object().into_iter().flatten();
        let mut calls: Vec<(String, String)> = notes
            .filter_map(|(key, note)| {
                let place = key.strip_prefix("mutation.webhook.admission.k8s.io/round_")?;
                let (round, index) = place.split_once("_index_")?;
                let note: Value = serde_json::from_str(note.as_str()?).ok()?;
                let configuration = note["configuration"].as_str()?;
                let call = format!("{round} {configuration} {}", note["mutated"]);
                Some((format!("{round:0>4}{index:0>4}"), call))
            })
            .collect();
        calls.sort();
        calls.into_iter().map(|(_, call)| call).collect()
    }

    /// Whether it is one that changes something.
    pub fn writes(&self) -> bool {
        ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str())
    }
}

impl Audit {
    /// The log of the API whose directory this is.
    pub fn of(directory: &str) -> Self {
        Self { path: PathBuf::from(directory).join("audit.log") }
    }

    /// This moment. What is being answered now may come before or after it.
    pub fn mark(&self) -> Mark {
        Mark(std::fs::metadata(&self.path).unwrap().len())
    }

    /// What `user` has asked for since then and has been answered.
    pub fn since(&self, mark: Mark, user: &str) -> Vec<Request> {
        let mut file = std::fs::File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(mark.0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        // The last line may not be whole yet.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["user"]["username"] == user)
            .map(|event| request(&event))
            .collect()
    }

    /// What `user` has written since then, except for leases.
    pub fn writes_since(&self, mark: Mark, user: &str) -> Vec<Request> {
        let mut requests = self.since(mark, user);
        requests.retain(|one| one.writes() && one.resource != "leases");
        requests
    }
}

fn request(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let mut resource = text(&object["resource"]);
    if let Some(part) = object["subresource"].as_str() {
        resource = format!("{resource}/{part}");
    }
    Request {
        user: text(&event["user"]["username"]),
        verb: text(&event["verb"]),
        resource,
        object: format!("{}/{}", text(&object["namespace"]), text(&object["name"])),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        uri: text(&event["requestURI"]),
        at: seconds(&text(&event["requestReceivedTimestamp"])),
        annotations: event["annotations"].clone(),
    }
}

/// Seconds of the day in a time such as 2026-11-22T20:30:15.813090Z.
fn seconds(time: &str) -> f64 {
    let (_, clock) = time.split_once('T').unwrap();
    clock
        .trim_end_matches('Z')
        .split(':')
        .fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}
