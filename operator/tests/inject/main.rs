//! Injection, from pods to patches.

#[path = "../../../fuzz/properties/admission_review.rs"]
mod admission_review;
mod golden;
mod properties;
mod refusals;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

use restpipe_operator::inject::{InjectOptions, Links, PullPolicy, Role, Standing};

/// Knows every name but these.
struct Known;

impl Links for Known {
    fn standing(&self, _role: Role, _namespace: &str, name: &str) -> Standing {
        match name {
            "absent" | "maybe" | "false" => Standing::Absent,
            "unwatched" => Standing::NotWatched,
            "refused" => Standing::NotAccepted {
                reason: "HostnameTaken".to_owned(),
                message: "older link till has the hostname".to_owned(),
            },
            _ => Standing::Good,
        }
    }
}

fn options() -> InjectOptions {
    let image = "registry.example/restpipe:1";
    InjectOptions::new(image, Some(PullPolicy::IfNotPresent), ["10m", "32Mi", "128Mi"])
        .expect("good options")
        .with_version("1.0.0")
}

#[test]
fn questions_that_the_fuzz_target_begins_with_are_answered_as_they_should_be() {
    replay::replay("admission_review", admission_review::check);
}
