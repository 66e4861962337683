//! Points in time as the API has them: in whole seconds, so that writing one and reading it back
//! is no change.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// `at`, to the second.
#[must_use]
pub fn time(at: SystemTime) -> Time {
    let seconds = match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    };
    // Beyond the year 9999, which no certificate of ours reaches: the nearest that can be written.
    let nearest = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Time(Timestamp::from_second(seconds).unwrap_or(nearest))
}

/// The reverse of [`time()`].
#[must_use]
pub fn system(time: &Time) -> SystemTime {
    let seconds = time.0.as_second();
    let gap = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { UNIX_EPOCH.checked_sub(gap) } else { UNIX_EPOCH.checked_add(gap) };
    at.unwrap_or(UNIX_EPOCH)
}

/// Reads RFC 3339.
#[must_use]
pub fn parse(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(|at| system(&Time(at)))
}

/// How long until `at`; at least a second, so that no plan is made in a loop.
#[must_use]
pub fn until(at: SystemTime, now: SystemTime) -> Duration {
    at.duration_since(now).unwrap_or_default().max(Duration::from_secs(1))
}

/// The earlier of two, where there are any.
#[must_use]
pub fn earlier(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<SystemTime> {
    a.into_iter().chain(b).min()
}
