use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn refusal(text: &str) -> NameError {
    PeerName::parse(text).expect_err(text)
}

#[test]
fn rfc_1123_names_are_taken_and_lower_cased_once() {
    for (text, name) in [
        ("fileserver", "fileserver"),
        ("FileServer.Example.ORG", "fileserver.example.org"),
        ("a-b.c-1.3com", "a-b.c-1.3com"),
        ("x", "x"),
        ("1001", "1001"),
    ] {
        assert_eq!(PeerName::parse(text).expect(text).as_str(), name);
    }
    let longest = [&"a".repeat(63)[..]; 4].join(".");
    assert!(PeerName::parse(&longest[..253]).is_ok());
}

#[test]
fn each_kind_of_wrong_name_has_its_own_cause() {
    let own = |text: &str| text.to_owned();
    assert_eq!(refusal(""), NameError::Empty);
    assert_eq!(refusal(&"a.".repeat(127)), NameError::TooLong(254));
    assert_eq!(refusal("a.b."), NameError::TrailingDot(own("a.b.")));
    assert_eq!(refusal("*.example.org"), NameError::Wildcard(own("*.example.org")));
    for address in ["10.0.0.1", "::1", "2001:db8::2", "0.0.0.0"] {
        assert_eq!(refusal(address), NameError::Address(own(address)));
    }
    for text in ["a..b", ".a", "."] {
        assert_eq!(refusal(text), NameError::EmptyLabel(own(text)));
    }
    let long = "a".repeat(64);
    assert_eq!(refusal(&long), NameError::LongLabel { name: long.clone(), len: 64 });
    for text in ["-a", "a-", "a.-b"] {
        assert_eq!(refusal(text), NameError::EdgeHyphen(own(text)));
    }
    for (text, found) in
        [("a_b", '_'), ("a\0b", '\0'), ("a b", ' '), ("a/b", '/'), ("a\nb", '\n'), ("a:1", ':')]
    {
        assert_eq!(refusal(text), NameError::BadCharacter { name: own(text), found });
    }
}

#[test]
fn look_alikes_from_other_alphabets_are_refused() {
    // Cyrillic a, fullwidth a, the Kelvin sign that lower-cases to k, and an ideographic full stop.
    for (text, found) in [
        ("p\u{430}y", '\u{430}'),
        ("\u{ff41}", '\u{ff41}'),
        ("\u{212a}", '\u{212a}'),
        ("a\u{3002}b", '\u{3002}'),
    ] {
        assert_eq!(refusal(text), NameError::NotAscii { name: text.to_owned(), found });
    }
}

#[test]
fn every_refusal_is_one_printable_line() {
    for text in ["", "a\nb", "a\0b", "*", "a.", "10.0.0.1", "..", "-", "\u{430}"] {
        let line = refusal(text).to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn the_hostname_is_what_stands_before_the_suffix() {
    let name = PeerName::parse("fileserver.clients.hub.shop.restpipe").expect("valid");
    let host = |suffix: &str| name.strip_suffix(suffix).map(|host| host.to_string());
    assert_eq!(host("clients.hub.shop.restpipe").as_deref(), Ok("fileserver"));
    assert_eq!(host("Clients.Hub.Shop.RestPipe").as_deref(), Ok("fileserver"));
    assert_eq!(host("").as_deref(), Ok(name.as_str()));
    for outside in [
        "clients.other.shop.restpipe",
        "ients.hub.shop.restpipe",
        "fileserver.clients.hub.shop.restpipe",
        ".clients.hub.shop.restpipe",
    ] {
        assert!(matches!(host(outside), Err(NameError::OutsideSuffix { .. })), "{outside}");
    }
}

#[test]
fn a_map_of_peers_is_searched_with_plain_text() {
    let map = HashMap::from([(PeerName::parse("Web").expect("valid"), 1)]);
    assert_eq!(map.get("web"), Some(&1));
}

#[test]
fn a_name_that_tls_would_take_for_an_address_cannot_be_a_servers() {
    let name = |text: &str| PeerName::parse(text).expect("valid");
    assert!(name("hub.shop.servers.restpipe").to_server_name().is_ok());
    assert!(matches!(name("shop.1001").to_server_name(), Err(NameError::NotAServerName(_))));
}

proptest! {
    #[test]
    fn what_looks_like_a_name_at_one_look_is_one(text in "[a-cA0-1.:-]{0,8}|[a-b.-]{60,66}") {
        if is_plain(&text) {
            prop_assert_eq!(PeerName::parse_any(&text), Ok(PeerName(text.as_str().into())));
        }
    }
}
