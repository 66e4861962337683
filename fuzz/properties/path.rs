//! Any path, against a model of the rules that was written for itself: a byte at a time.

use restpipe::gateway::path::{EventPath, Route, parse};

/// Segments of a noun, and arguments; `None` if the path is none.
fn model(rest: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let end = rest.windows(2).position(|pair| pair == b"//");
    let noun = &rest[..end.unwrap_or(rest.len())];
    let args = end.map(|end| &rest[end + 2..]).filter(|args| !args.is_empty());
    let split = |bytes: &[u8]| {
        bytes.split(|byte| *byte == b'/').map(segment).collect::<Option<Vec<String>>>()
    };
    let noun = split(noun)?;
    if noun.iter().any(|segment| segment.is_empty() || segment.contains('/')) {
        return None;
    }
    if noun.join("/").len() > 1024 {
        return None;
    }
    let args = args.map_or(Some(Vec::new()), split)?;
    (args.len() <= 1024).then_some((noun, args))
}

fn segment(raw: &[u8]) -> Option<String> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < raw.len() {
        if raw[at] == b'%' {
            let digits = std::str::from_utf8(raw.get(at + 1..at + 3)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(raw[at]);
            at += 1;
        }
    }
    let text = String::from_utf8(out).ok()?;
    (!text.contains('\0') && text != "." && text != "..").then_some(text)
}

/// `rest` is what stands behind `/server/`.
pub(crate) fn check(rest: &str) {
    let path = format!("/server/{rest}");
    let expected = if rest.contains('\\') { None } else { model(rest.as_bytes()) };
    let got = match parse(&path) {
        Ok(Route::Event(_, EventPath { noun, args })) => {
            Some((noun.split('/').map(str::to_owned).collect::<Vec<_>>(), args))
        }
        Ok(Route::Own(own)) => panic!("{own} is no event"),
        Err(_) => None,
    };
    assert_eq!(got, expected, "{path}");

    // A hostname's rules are its own crate's; what is behind it obeys the same ones.
    if let Ok(Route::Event(_, EventPath { noun, args })) = parse(&format!("/client/{rest}")) {
        assert!(!noun.is_empty() && args.iter().all(|arg| !arg.contains('\0')));
    }
}
