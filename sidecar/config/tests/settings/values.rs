//! The text forms of single values, good ones and bad ones.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use restpipe_config::{
    AppAddress, BindAddress, ByteSize, Count, FilePath, Host, Hostname, HumanDuration,
    InstanceName, Invalid, List, LogFormat, NameSuffix, OrOff, ServerAddress, StatsdAddress,
    TcpAddress,
};

/// What a text becomes when it is read and written again, or why it is refused.
fn again<T: FromStr<Err = Invalid> + Display>(text: &str) -> String {
    text.parse::<T>().map_or_else(|error| format!("! {error}"), |value| value.to_string())
}

/// The texts with what becomes of them, for messages that show all at once.
fn each<T: FromStr<Err = Invalid> + Display + Debug>(cases: &[(&str, &str)]) {
    let seen: Vec<(&str, String)> =
        cases.iter().map(|(text, _)| (*text, again::<T>(text))).collect();
    let wanted: Vec<(&str, String)> =
        cases.iter().map(|(text, to)| (*text, (*to).into())).collect();
    assert_eq!(seen, wanted);
}

/// The texts are all refused with these words.
fn none<T: FromStr<Err = Invalid> + Display>(texts: &[&str], why: &str) {
    for text in texts {
        assert_eq!(again::<T>(text), format!("! {why}"), "for {text:?}");
    }
}

#[test]
fn durations_need_a_unit_and_bounds_are_told() {
    each::<HumanDuration>(&[("5s", "5s"), ("90s", "1m30s"), ("1m 30s", "1m30s"), ("0s", "0s")]);
    none::<HumanDuration>(
        &["", "5", "-1s", "5 parsecs", "s"],
        "give a duration with its unit, for example 5s, 1m30s or 250ms",
    );
    let why = "give a duration from 500ms to 1m";
    none::<HumanDuration<500, 60_000>>(&["499ms", "61s", "0s", "1month"], why);
    none::<HumanDuration<1>>(
        &["0s", "2years"],
        "give a duration from 1ms to 365days, for example 1m30s",
    );
    let span = "1m30s".parse::<HumanDuration>().map(HumanDuration::get);
    assert_eq!(span, Ok(Duration::from_secs(90)));
}

#[test]
fn sizes_take_binary_and_decimal_units() {
    each::<ByteSize>(&[
        ("64MiB", "64MiB"),
        ("64Mi", "64MiB"),
        ("10MB", "10MB"),
        ("10 mb", "10MB"),
        ("1048576", "1MiB"),
        ("1000", "1kB"),
        ("7", "7"),
        ("0", "0"),
        ("12B", "12"),
        ("18446744073709551615", "18446744073709551615"),
    ]);
    none::<ByteSize>(
        &["", "MiB", "1.5GiB", "-1", "5 apples", "18446744073709551616", "99999999TiB", "1ibb"],
        "give a size in bytes, for example 64MiB, 10MB or 1048576",
    );
    none::<ByteSize<1024>>(&["0", "1023"], "give at least 1KiB");
}

#[test]
fn counts_are_whole_and_bounded() {
    each::<Count<4096>>(&[("1", "1"), ("4096", "4096")]);
    none::<Count<4096>>(
        &["", "0", "4097", "-1", "2.5", "many"],
        "give a whole number from 1 to 4096",
    );
}

#[test]
fn listeners_take_addresses_and_unix_sockets() {
    each::<TcpAddress>(&[("0.0.0.0:0", "0.0.0.0:0"), ("[::]:7072", "[::]:7072")]);
    none::<TcpAddress>(
        &["", "7072", ":7072", "localhost:7072", "1.2.3.4", "::1:7072", "1.2.3.4:70000"],
        "give IP:PORT, for example 0.0.0.0:7072 or [::1]:7072",
    );
    each::<BindAddress>(&[
        ("127.0.0.1:7070", "127.0.0.1:7070"),
        ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ("unix:///run/x", "unix:/run/x"),
        ("localhost:7070", "! give IP:PORT or unix:/path, for example 127.0.0.1:7070"),
        ("unix:run/x", "! give an absolute path, for example unix:/run/restpipe.sock"),
        ("unix:", "! give an absolute path, for example unix:/run/restpipe.sock"),
        ("unix:/", "! give an absolute path, for example unix:/run/restpipe.sock"),
    ]);
    let long = format!("unix:/{}", "x".repeat(107));
    let why =
        "give the path of a Unix socket in at most 107 bytes, without commas or a space at its end";
    none::<BindAddress>(&[&long, "unix:/a,b", "unix:/a ", "unix:/ "], why);
}

#[test]
fn the_server_address_has_a_port_of_its_own() {
    each::<ServerAddress>(&[
        ("hub.example:443", "hub.example:443"),
        ("HUB.example", "hub.example:7072"),
        ("hub.example.:443", "hub.example.:443"),
        ("10.0.0.1", "10.0.0.1:7072"),
        ("[2001:db8::1]", "[2001:db8::1]:7072"),
        ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ("2001:db8::1", "! put an IPv6 address in brackets: [2001:db8::1]:7072"),
    ]);
    none::<ServerAddress>(
        &[
            "",
            ":443",
            "hub:",
            "hub:0",
            "hub:+80",
            "hub:65536",
            "hub:http",
            "a b:1",
            "[::1",
            "[x]:1",
            "10.0.0.256:1",
            "https://hub",
        ],
        "give HOST:PORT, for example hub.example:7072",
    );
}

#[test]
fn the_app_is_plain_http_or_a_unix_socket() {
    each::<AppAddress>(&[
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://app", "http://app:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("https://app:1", "! the app is called in plain HTTP: give http://127.0.0.1:8080"),
        ("http://app:8080/api", "! give no path or query: http://app:8080"),
        ("http://app:8080?x=1", "! give no path or query: http://app:8080"),
        ("http://app:8080#x", "! give no path or query: http://app:8080"),
        ("http://me:secret@app:8080", "! give no user or password: http://127.0.0.1:8080"),
        ("unix:app.sock", "! give an absolute path, for example unix:/run/restpipe.sock"),
    ]);
    let why = "give http://HOST:PORT or unix:/path, for example http://127.0.0.1:8080";
    none::<AppAddress>(&["", "8080", "127.0.0.1:8080", "ftp://app"], why);
    let why = "give a host and a port, for example http://127.0.0.1:8080";
    none::<AppAddress>(&["http://", "http://:80", "http://app:0", "http://a_b,c:1"], why);
}

#[test]
fn names_are_lower_case_and_never_addresses_or_wildcards() {
    each::<Hostname>(&[("FileServer", "fileserver"), ("a.b-c_d.e", "a.b-c_d.e"), ("7", "7")]);
    let label = "x".repeat(64);
    none::<Hostname>(
        &["", ".", "a.", ".a", "a..b", "-a", "a-", "*.a", "10.0.0.1", "::1", "ä", "a/b", &label],
        "give a DNS name, not an address, for example fileserver",
    );
    each::<NameSuffix>(&[
        ("", ""),
        (".clients.Hub", "clients.hub"),
        ("clients.hub", "clients.hub"),
    ]);
    let why = "give the end of a DNS name, for example clients.hub.shop.restpipe";
    none::<NameSuffix>(&[".", "..a", "a b"], why);
    each::<Host>(&[
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("A.b.", "a.b."),
    ]);
    let why = "give a DNS name or an IP address, for example hub.example or 10.0.0.1";
    none::<Host>(&["", "10.0.0.256", "1234", "a:1", "*"], why);
    none::<Host>(&["[10.0.0.1]"], "give an IPv6 address between the brackets, for example [::1]");
    each::<InstanceName>(&[("web-6f9-abc", "web-6f9-abc"), ("h/[::1]:7070", "h/[::1]:7070")]);
    let why = "give 1 to 128 visible ASCII characters, for example web-6f9-abc";
    none::<InstanceName>(&["", "a b", "ä", "a\n", &"x".repeat(129)], why);
}

#[test]
fn only_some_values_can_be_off_and_only_statsd_by_nothing() {
    each::<OrOff<StatsdAddress>>(&[
        ("", "off"),
        ("off", "off"),
        ("metrics", "metrics:8125"),
        ("a b", "! give HOST:PORT, for example hub.example:8125, or off"),
    ]);
    each::<OrOff<TcpAddress>>(&[
        ("off", "off"),
        ("", "! give IP:PORT, for example 0.0.0.0:7072 or [::1]:7072, or off"),
    ]);
    let why = "give a size in bytes, for example 64MiB, 10MB or 1048576, or off";
    each::<OrOff<ByteSize>>(&[("off", "off"), ("1kB", "1kB")]);
    none::<OrOff<ByteSize>>(&["", "none"], why);
}

#[test]
fn lists_are_separated_by_commas_and_name_the_bad_item() {
    each::<List<Hostname>>(&[
        ("", ""),
        ("a", "a"),
        ("a, B ,c", "a,b,c"),
        ("a,,b", "! item '': give a DNS name, not an address, for example fileserver"),
        ("a,*", "! item '*': give a DNS name, not an address, for example fileserver"),
    ]);
}

#[test]
fn paths_are_not_empty_and_formats_are_three() {
    each::<FilePath>(&[("/a, b", "/a, b"), ("x", "x")]);
    none::<FilePath>(&["", "a\0b"], "give a path, for example /etc/restpipe");
    each::<LogFormat>(&[("auto", "auto"), ("text", "text"), ("json", "json")]);
    none::<LogFormat>(&["", "JSON", "xml"], "give auto, text or json");
}
