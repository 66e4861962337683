//! The two handlers that the original came with.

use std::time::SystemTime;

use restpipe_config::Role;

use super::Answer;
use crate::event::{Event, Reply, Verb};

/// Answers `time` and `cat`, in the original's very bytes.
pub(super) fn answer(role: Role, event: &Event) -> Answer {
    if !event.verb.is_safe() {
        return Answer::NoHandler;
    }
    let body = match event.noun.as_str() {
        "time" => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            format!("{{\"time_from_{role}\": {:.6}}}", now.as_secs_f64())
        }
        "cat" => {
            let joined = serde_json::Value::String(event.args.concat());
            format!("{{\"result_from_{role}\": {joined}}}")
        }
        _ => return Answer::NoHandler,
    };
    let len = body.len() as u64;
    let mut reply =
        Reply::ok("application/json", if event.verb == Verb::Head { String::new() } else { body });
    reply.body_len = Some(len);
    Answer::Reply(reply)
}
