//! Calls without a pause from inside of a pod, to see what becomes of them while something else
//! happens.

use serde_json::Value;

use crate::{Namespace, POD_TIME, eventually};

/// What runs in the pod: asks until it is told to stop, and writes one line of JSON for every
/// call that was not answered with 200, then a sum.
const SCRIPT: &str = r#"
import http.client, json, os, sys, time
path, verb = sys.argv[1], sys.argv[2]
good, bad, slowest = 0, [], 0.0
connection = http.client.HTTPConnection("127.0.0.1", 7070, timeout=90)
while not os.path.exists("/tmp/stop"):
    started = time.time()
    try:
        connection.request(verb, path, headers={"RestPipe-Timeout": "60s", "Prefer": "wait=50"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            good += 1
        else:
            bad.append([answer.status, answer.headers.get("X-Event-Outcome"), body.decode()[:300]])
    except Exception as error:
        bad.append([0, "none", repr(error)])
        connection.close()
    slowest = max(slowest, time.time() - started)
    with open("/tmp/count", "w") as file:
        file.write(str(good))
    time.sleep(0.005)
with open("/tmp/sum.new", "w") as file:
    json.dump({"good": good, "bad": bad[:50], "bad_count": len(bad), "slowest": slowest}, file)
os.rename("/tmp/sum.new", "/tmp/sum")
"#;

/// Calls that go on in a pod.
#[derive(Debug)]
pub struct Traffic<'a> {
    namespace: &'a Namespace<'a>,
    target: String,
}

/// What became of the calls.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Calls that were answered with 200.
    pub good: u64,
    /// How many were not.
    pub bad_count: u64,
    /// The first of these: status, outcome, body.
    pub bad: Vec<Value>,
    /// Seconds that the slowest took.
    pub slowest: f64,
}

impl<'a> Traffic<'a> {
    /// Starts calls in `target`, whose app container has python3; the first has been answered
    /// when this returns.
    pub fn start(namespace: &'a Namespace<'a>, target: &str, verb: &str, path: &str) -> Self {
        let script = format!(
            "rm -f /tmp/stop /tmp/sum /tmp/count; python3 -c '{SCRIPT}' {path} {verb} >/tmp/log 2>&1 &"
        );
        namespace.exec(target, &["sh", "-c", &script]).ok();
        let traffic = Self { namespace, target: target.to_owned() };
        traffic.more(1);
        traffic
    }

    /// How many calls were good so far.
    pub fn count(&self) -> u64 {
        let ran = self.namespace.exec(&self.target, &["cat", "/tmp/count"]);
        ran.output.trim().parse().unwrap_or(0)
    }

    /// Waits until so many more calls were good.
    pub fn more(&self, calls: u64) {
        let wanted = self.count() + calls;
        eventually(&format!("{calls} more calls are answered"), POD_TIME, || {
            let count = self.count();
            if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
        });
    }

    /// Ends them.
    pub fn stop(self) -> Sum {
        self.namespace.exec(&self.target, &["touch", "/tmp/stop"]).ok();
        let text = eventually("calls have ended", POD_TIME, || {
            self.namespace.exec(&self.target, &["cat", "/tmp/sum"]).result()
        });
        let sum: Value = serde_json::from_str(&text).unwrap();
        Sum {
            good: sum["good"].as_u64().unwrap(),
            bad_count: sum["bad_count"].as_u64().unwrap(),
            bad: sum["bad"].as_array().cloned().unwrap(),
            slowest: sum["slowest"].as_f64().unwrap(),
        }
    }
}
