//! Points in time as people and certificates write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `at` in UTC to the second, as in `2026-11-22T16:35:00Z`.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let seconds = unix_seconds(at);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        // Before year 0 or after 9999: no calendar text, but still the truth.
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// How far apart two points are, in the two largest units: `3 days 2 h`, `5 min 10 s`.
pub(crate) fn apart(a: SystemTime, b: SystemTime) -> String {
    let gap = a.duration_since(b).unwrap_or_else(|earlier| earlier.duration());
    let seconds = gap.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1, _, _) => format!("1 day {hours} h"),
        _ => format!("{days} days {hours} h"),
    }
}

/// Whole seconds since 1970, rounded towards the past as certificates do.
pub(crate) fn unix_seconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -seconds - i64::from(before.subsec_nanos() > 0)
        }
    }
}

/// The reverse of [`unix_seconds`].
pub(crate) fn from_unix_seconds(seconds: i64) -> SystemTime {
    let gap = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { UNIX_EPOCH.checked_sub(gap) } else { UNIX_EPOCH.checked_add(gap) };
    at.unwrap_or(UNIX_EPOCH)
}

/// For rustls. A clock before 1970 is taken as 1970: everything is then not yet valid.
pub(crate) fn to_unix(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// From rustls.
pub(crate) fn from_unix(at: UnixTime) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(at.as_secs())).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_show_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (310, "5 min 10 s"),
            (7_260, "2 h 1 min"),
            (90_000, "1 day 1 h"),
            (270_000, "3 days 3 h"),
        ] {
            let later = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(apart(later, UNIX_EPOCH), text);
            assert_eq!(apart(UNIX_EPOCH, later), text);
        }
    }

    #[test]
    fn times_before_1970_survive_the_way_there_and_back() {
        for seconds in [-62_135_596_800, -1, 0, 1, 253_402_300_799] {
            assert_eq!(unix_seconds(from_unix_seconds(seconds)), seconds);
        }
        assert_eq!(rfc3339(from_unix_seconds(253_402_300_799)), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(from_unix_seconds(-1)), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(from_unix_seconds(253_402_300_800)), "253402300800 s after 1970");
    }
}
