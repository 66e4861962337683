//! The gateway's paths.
//!
//! The raw path is split first, on `//` and on `/`, and each segment decoded
//! once after, so that `%2F` stays inside its argument and nothing that an
//! escape hides can change what is addressed.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use restpipe_identity::PeerName;

/// Bytes of the longest noun and of all arguments together: they travel in
/// one frame with the headers.
const MAX_NOUN: usize = 1024;

/// Arguments of one event; a peer takes no more.
const MAX_ARGS: usize = restpipe_pipe::limits::MAX_ARGS;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// An event to a peer.
    Event(Target, EventPath),
    /// One of the node's own endpoints; the path behind `/-/`.
    Own(String),
}

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The server that this client dials.
    Server,
    /// A client of this server, by its hostname.
    Client(Arc<str>),
    /// A client of this server, by the address that it dialled from.
    Address(IpAddr),
}

/// The noun and the arguments of an event, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPath {
    /// Segments joined by `/`.
    pub noun: String,
    /// Arguments; one may hold a slash or be empty.
    pub args: Vec<String>,
}

/// Why a path is none of the gateway's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It begins with none of the gateway's words.
    #[error("the path begins with none of /server/, /client/HOSTNAME/ and /-/")]
    UnknownStart,
    /// There is no noun.
    #[error("the path names no noun: write /server/NOUN or /client/HOSTNAME/NOUN")]
    NoNoun,
    /// A segment of the noun is empty.
    #[error(
        "a segment of the noun is empty: drop the slash at its end, or begin arguments with //"
    )]
    EmptySegment,
    /// A `.` or `..`.
    #[error("`.` and `..` are no segments of a path here")]
    Dots,
    /// A slash inside a segment of the noun.
    #[error("%2F inside a noun: it may stand in arguments only, behind //")]
    SlashInNoun,
    /// A backslash.
    #[error("a backslash stands unescaped in the path: write %5C")]
    Backslash,
    /// A `%` that no two hex digits follow.
    #[error("a % in the path is not followed by two hex digits: write %25 for a % itself")]
    BadEscape,
    /// Not UTF-8.
    #[error("a segment of the path is not UTF-8 once it is decoded")]
    NotUtf8,
    /// A NUL.
    #[error("a segment of the path holds a NUL")]
    Nul,
    /// Too long.
    #[error("the noun is longer than {MAX_NOUN} bytes")]
    TooLong,
    /// Too many arguments.
    #[error("the path has more than {MAX_ARGS} arguments: put them into the body")]
    TooManyArgs,
    /// No hostname.
    #[error("{0} is neither a hostname nor an IP address")]
    BadHostname(String),
}

/// What `path`, as it stands in the request, asks for.
///
/// # Errors
/// If it is not a path of the gateway.
pub fn parse(path: &str) -> Result<Route, PathError> {
    if path.as_bytes().contains(&b'\\') {
        return Err(PathError::Backslash);
    }
    if let Some(own) = path.strip_prefix("/-/") {
        return Ok(Route::Own(own.to_owned()));
    }
    if let Some(rest) = path.strip_prefix("/server/") {
        return Ok(Route::Event(Target::Server, event_path(rest)?));
    }
    if path == "/server" || path == "/client" {
        return Err(PathError::NoNoun);
    }
    let rest = path.strip_prefix("/client/").ok_or(PathError::UnknownStart)?;
    let (host, rest) = rest.split_once('/').ok_or(PathError::NoNoun)?;
    Ok(Route::Event(target(host)?, event_path(rest)?))
}

fn target(raw: &str) -> Result<Target, PathError> {
    // A name as it should be needs no decoding.
    if let Ok(name) = PeerName::parse(raw) {
        return Ok(Target::Client(name.into()));
    }
    let host = decode(raw)?;
    match PeerName::parse(&host) {
        Ok(name) => Ok(Target::Client(name.into())),
        Err(_) => {
            let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let address = inner.unwrap_or(&host).parse();
            address
                .map(Target::Address)
                .map_err(|_| PathError::BadHostname(host.escape_debug().to_string()))
        }
    }
}

fn event_path(raw: &str) -> Result<EventPath, PathError> {
    if is_plain_noun(raw) {
        return Ok(EventPath { noun: raw.to_owned(), args: Vec::new() });
    }
    let (noun, args) = match raw.as_bytes().windows(2).position(|two| two == b"//") {
        Some(at) => (&raw[..at], Some(&raw[at + 2..])),
        None => (raw, None),
    };
    if noun.is_empty() || noun.starts_with('/') {
        return Err(PathError::NoNoun);
    }
    let noun = decode_noun(noun)?;
    check_noun(&noun)?;
    // Nothing behind the // is no argument, not an empty one.
    let args = args.filter(|args| !args.is_empty());
    let owned = |arg| decode(arg).map(Cow::into_owned);
    let args = args.map_or(Ok(Vec::new()), |args| args.split('/').map(owned).collect())?;
    if args.len() > MAX_ARGS {
        return Err(PathError::TooManyArgs);
    }
    Ok(EventPath { noun, args })
}

/// Whether a noun without arguments is seen at one look to be in order, as
/// most are: segments of letters, digits, `-` and `_`.
fn is_plain_noun(raw: &str) -> bool {
    let mut before = b'/';
    for byte in raw.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'/' if before != b'/' => {}
            _ => return false,
        }
        before = byte;
    }
    before != b'/' && raw.len() <= MAX_NOUN
}

fn decode_noun(raw: &str) -> Result<String, PathError> {
    if !raw.as_bytes().contains(&b'%') {
        return Ok(raw.to_owned());
    }
    let mut noun = String::with_capacity(raw.len());
    for segment in raw.split('/') {
        let segment = decode(segment)?;
        if segment.contains('/') {
            return Err(PathError::SlashInNoun);
        }
        if !noun.is_empty() {
            noun.push('/');
        }
        noun.push_str(&segment);
        if segment.is_empty() {
            return Err(PathError::EmptySegment);
        }
    }
    Ok(noun)
}

/// Decodes a segment once and checks it.
fn decode(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.as_bytes().contains(&b'%') {
        return check_segment(raw).map(|()| raw.into());
    }
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
            if !(hex(bytes.next()) && hex(bytes.next())) {
                return Err(PathError::BadEscape);
            }
        }
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| PathError::NotUtf8)?;
    check_segment(&decoded)?;
    Ok(decoded)
}

/// Checks a decoded segment or argument.
///
/// # Errors
/// If no path may hold it.
pub fn check_segment(segment: &str) -> Result<(), PathError> {
    if matches!(segment, "." | "..") {
        return Err(PathError::Dots);
    }
    if segment.as_bytes().contains(&0) {
        return Err(PathError::Nul);
    }
    Ok(())
}

/// Checks a decoded noun, as a peer may have sent it.
///
/// # Errors
/// If no gateway would have let it through.
pub fn check_noun(noun: &str) -> Result<(), PathError> {
    if is_plain_noun(noun) {
        return Ok(());
    }
    if noun.is_empty() {
        return Err(PathError::NoNoun);
    }
    if noun.len() > MAX_NOUN {
        return Err(PathError::TooLong);
    }
    noun.split('/').try_for_each(|segment| {
        if segment.is_empty() { Err(PathError::EmptySegment) } else { check_segment(segment) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(path: &str) -> Result<(String, Vec<String>), PathError> {
        match parse(path)? {
            Route::Event(_, EventPath { noun, args }) => Ok((noun, args)),
            Route::Own(own) => panic!("{own} is no event"),
        }
    }

    fn ok(noun: &str, args: &[&str]) -> Result<(String, Vec<String>), PathError> {
        Ok((noun.to_owned(), args.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn nouns_and_arguments_come_apart_as_the_original_wrote_them() {
        assert_eq!(event("/server/time"), ok("time", &[]));
        assert_eq!(event("/server/cat//hello%20/world"), ok("cat", &["hello ", "world"]));
        assert_eq!(event("/client/fs/time/utc//a"), ok("time/utc", &["a"]));
        assert_eq!(event("/server/time_utc"), ok("time_utc", &[]));
    }

    #[test]
    fn an_escaped_slash_stays_inside_its_argument() {
        assert_eq!(event("/server/cat//a%2Fb/c"), ok("cat", &["a/b", "c"]));
        assert_eq!(event("/server/ca%2Ft"), Err(PathError::SlashInNoun));
    }

    #[test]
    fn empty_arguments_are_arguments_and_nothing_behind_the_slashes_is_none() {
        assert_eq!(event("/server/cat///a"), ok("cat", &["", "a"]));
        assert_eq!(event("/server/cat//a//b"), ok("cat", &["a", "", "b"]));
        assert_eq!(event("/server/cat//"), ok("cat", &[]));
    }

    #[test]
    fn paths_that_hide_something_are_refused_saying_what() {
        for (path, error) in [
            ("/server/../admin", PathError::Dots),
            ("/server/%2e%2e/admin", PathError::Dots),
            ("/server/cat//..", PathError::Dots),
            ("/server//x", PathError::NoNoun),
            ("/server/", PathError::NoNoun),
            ("/client/fs", PathError::NoNoun),
            ("/server/time/", PathError::EmptySegment),
            ("/server/a%00", PathError::Nul),
            ("/server/a%zz", PathError::BadEscape),
            ("/server/a%", PathError::BadEscape),
            ("/server/%c0%af", PathError::NotUtf8),
            ("/server/a\\b", PathError::Backslash),
            ("/admin", PathError::UnknownStart),
        ] {
            assert_eq!(parse(path), Err(error), "{path}");
        }
    }

    #[test]
    fn hostnames_are_lower_cased_once_and_anything_else_is_refused() {
        let target = |host: &str| match parse(&format!("/client/{host}/time")) {
            Ok(Route::Event(target, _)) => Some(target),
            _ => None,
        };
        assert_eq!(target("FileServer"), Some(Target::Client("fileserver".into())));
        assert_eq!(
            target("10.0.0.1"),
            Some(Target::Address("10.0.0.1".parse().expect("an address")))
        );
        assert_eq!(target("[::1]"), Some(Target::Address("::1".parse().expect("an address"))));
        for bad in ["a.", "*", "..", "a_b", "%C3%BCmlaut", &"a".repeat(300)] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back_as_it_was(args in prop::collection::vec("[^\0]{0,12}", 1..4)) {
            prop_assume!(args.iter().all(|arg| arg != "." && arg != ".."));
            prop_assume!(args.len() > 1 || !args[0].is_empty());
            let encode = |arg: &String| percent_encoding::utf8_percent_encode(arg, percent_encoding::NON_ALPHANUMERIC).to_string();
            let path = format!("/server/cat//{}", args.iter().map(encode).collect::<Vec<_>>().join("/"));
            prop_assert_eq!(event(&path), Ok(("cat".to_owned(), args)));
        }

        #[test]
        fn what_looks_like_a_noun_at_one_look_is_one(raw in "[a-bZ0_/.%-]{0,8}") {
            if is_plain_noun(&raw) {
                let segments = raw.split('/');
                prop_assert!(segments.clone().all(|part| !part.is_empty() && check_segment(part) == Ok(())));
                prop_assert_eq!(decode_noun(&raw), Ok(raw));
            }
        }

        #[test]
        fn no_path_panics_and_none_yields_dots_or_nul(path in "/(server|client/a)/[a-z%0-9./\\\\]{0,24}") {
            if let Ok(Route::Event(_, EventPath { noun, args })) = parse(&path) {
                for segment in noun.split('/').chain(args.iter().map(String::as_str)) {
                    prop_assert!(segment != "." && segment != ".." && !segment.contains('\0'));
                }
            }
        }
    }
}
