//! Injection, from pods to patches.

mod golden;
mod properties;
mod refusals;

use restpipe_operator::inject::{InjectOptions, Links, PullPolicy, Role, Standing};

/// Knows every name but these.
struct Known;

impl Links for Known {
    fn standing(&self, _role: Role, _namespace: &str, name: &str) -> Standing {
        match name {
            "absent" | "maybe" | "disabled" | "false" => Standing::Absent,
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
