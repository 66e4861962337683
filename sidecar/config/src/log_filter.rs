//! What a log filter is.

/// The words for how much is logged, the least first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether `text` is a log filter: levels with commas between them, each for everything or, as in
/// `restpipe=debug`, for one module and those in it. A module alone is none: it would be a
/// misspelt level most of the time, and silence everything else.
#[must_use]
pub fn is_log_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let (module, level) = part.rsplit_once('=').map_or((None, part), |(m, l)| (Some(m), l));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
        module.is_none_or(|module| !module.is_empty() && module.bytes().all(plain))
            && LEVELS.contains(&level)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_levels_and_nothing_that_could_be_meant_as_one() {
        for good in ["info", "off", "info,restpipe=debug", "restpipe::link=trace", "warn,a-b=off"] {
            assert!(is_log_filter(good), "{good}");
        }
        let bad = ["", "inof", "INFO", "restpipe", "info,", ",info", "=info", "a=b=c", "a=loud"];
        for bad in bad.into_iter().chain(["info, restpipe=debug", "a[b]=info"]) {
            assert!(!is_log_filter(bad), "{bad}");
        }
    }
}
