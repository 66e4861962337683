//! Requests to an API server by `curl`: a fraction of what `kubectl` costs, for tests that make
//! thousands.

use serde_json::Value;

use crate::{Cluster, run_with_input};

/// Seconds that one request may take; more than an API server gives itself.
const PATIENCE: &str = "60";

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status; 0 if nobody answered, or not to the end.
    pub code: u16,
    /// The object, or a Status that says why not; null if nobody answered.
    pub body: Value,
    /// The `Warning` header fields.
    pub warnings: Vec<String>,
}

impl Answer {
    /// What the API server says of a failure.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Cluster {
    /// A request as the one who may do everything; `body` is JSON, or empty.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let pki = format!("{}/pki", self.directory().display());
        let (ca, cert, key) =
            (format!("{pki}/ca.crt"), format!("{pki}/admin.crt"), format!("{pki}/admin.key"));
        let url = format!("{}{path}", self.address());
        let mut args = vec!["-sS", "-m", PATIENCE, "-X", method, "--cacert", &ca];
        args.extend(["--cert", &cert, "--key", &key, "-D", "/dev/stderr"]);
        args.extend([
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            "@-",
            "-w",
            "\n%{http_code}",
        ]);
        args.push(&url);
        let ran = run_with_input("curl", &args, &[], body);
        // An answer that breaks off is none, though its head came.
        let whole = ran.status == Some(0);
        let (body, code) = ran.output.rsplit_once('\n').filter(|_| whole).unwrap_or(("", "0"));
        let warnings = ran
            .errors
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("warning:"))
            .map(|line| line[8..].trim().to_owned())
            .collect();
        Answer {
            code: code.parse().unwrap_or_default(),
            body: serde_json::from_str(body).unwrap_or_default(),
            warnings,
        }
    }

    /// Where its API server is.
    pub fn address(&self) -> String {
        let text = std::fs::read_to_string(self.kubeconfig()).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("server: "));
        line.unwrap().to_owned()
    }
}
