//! Calls without a pause from inside of a pod, to see what becomes of them while something else
//! happens.

use std::time::Duration;

use serde_json::Value;

use crate::{Namespace, POD_TIME, eventually};

/// What runs in the pod: asks until it is told to stop, counts the calls that were executed and
/// answered with the wanted status, and writes down a sum with the first of the others.
const SCRIPT: &str = r#"
import http.client, json, os, sys, time
path, verb, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
good, bad, slowest = 0, [], 0.0
connection = http.client.HTTPConnection("127.0.0.1", 7070, timeout=90)
while not os.path.exists("/tmp/stop"):
    started = time.monotonic()
    try:
        connection.request(verb, path, headers={"RestPipe-Timeout": "60s", "Prefer": "wait=50"})
        answer = connection.getresponse()
        body = answer.read()
        outcome = answer.headers.get("X-Event-Outcome")
        if answer.status == wanted and outcome == "executed":
            good += 1
        else:
            bad.append([answer.status, outcome, body.decode()[:300]])
    except Exception as error:
        bad.append([0, "none", repr(error)])
        connection.close()
    slowest = max(slowest, time.monotonic() - started)
    with open("/tmp/count.new", "w") as file:
        file.write(str(good))
    os.rename("/tmp/count.new", "/tmp/count")
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
    /// Calls that were executed and answered with the wanted status.
    pub good: u64,
    /// How many were not.
    pub bad_count: u64,
    /// The first of these: status, outcome, body.
    pub bad: Vec<Value>,
    /// Seconds that the slowest took.
    pub slowest: f64,
}

impl<'a> Traffic<'a> {
    /// Starts calls in `target`, whose app container has python3, which are to be answered with
    /// 200; the first has been when this returns.
    pub fn start(namespace: &'a Namespace<'a>, target: &str, verb: &str, path: &str) -> Self {
        Self::start_for(200, namespace, target, verb, path)
    }

    /// As [`Self::start`], with another status to be answered with: 404 is what a node without an
    /// app says to a POST, which is sent again only where it is certain that nobody has begun it.
    pub fn start_for(
        wanted: u16,
        namespace: &'a Namespace<'a>,
        target: &str,
        verb: &str,
        path: &str,
    ) -> Self {
        let script = format!(
            "rm -f /tmp/stop /tmp/sum; echo 0 >/tmp/count; python3 -c '{SCRIPT}' {path} {verb} {wanted} >/tmp/log 2>&1 &"
        );
        namespace.exec(target, &["sh", "-c", &script]).ok();
        let traffic = Self { namespace, target: target.to_owned() };
        traffic.more(1);
        traffic
    }

    /// How many calls were good so far.
    fn count(&self) -> Result<u64, String> {
        let text = self.namespace.exec(&self.target, &["cat", "/tmp/count"]).result()?;
        let count = text.trim().parse::<u64>();
        Ok(count.unwrap_or_else(|error| panic!("{text:?} calls of {}: {error}", self.target)))
    }

    /// Waits until so many more calls were good.
    pub fn more(&self, calls: u64) {
        let before = eventually("calls are counted", POD_TIME, || self.count());
        eventually(&format!("{calls} more calls are answered"), POD_TIME, || {
            let count = self.count()?;
            let more = count.saturating_sub(before);
            if more >= calls { Ok(()) } else { Err(format!("{more} of {calls}")) }
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

impl Sum {
    /// Fails the test unless every call was good, and none took longer than that.
    pub fn none_failed(&self, what: &str, longest: Duration) {
        assert_eq!(self.bad_count, 0, "{what}: {self:?}");
        let slowest = self.slowest;
        assert!(slowest < longest.as_secs_f64(), "{what}: a call took {slowest} s: {self:?}");
    }
}
