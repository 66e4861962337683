//! Who may ask: no web page that a browser on this machine has open.
//!
//! A page can make a browser send requests to localhost, and by DNS rebinding
//! even read the answers (CVE-2025-66414 is one of many). The Host it sends
//! then is its own, and a browser says in Origin and Sec-Fetch-Site where a
//! request comes from.

use http::header::{HOST, ORIGIN};
use http::{HeaderName, Request};
use restpipe_config::Host;

use super::Via;
use super::problem::{Problem, ProblemCode};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Host names that are this gateway's.
#[derive(Debug)]
pub(super) struct Guard {
    /// A few; without ports, an IPv6 address in brackets.
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(more: &[Host]) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let more = more.iter().map(|host| {
            let host = host.to_string();
            // An address is configured without brackets and asked for with them.
            match bare(&host) {
                address if address.contains(':') && !address.starts_with('[') => {
                    format!("[{address}]")
                }
                name => name.to_owned(),
            }
        });
        Self { hosts: own.into_iter().chain(more).collect() }
    }

    /// Whether an authority names this gateway, at whatever port.
    fn is_own(&self, authority: &str) -> bool {
        // As most callers write it, and every call comes by here.
        let plain = |own: &String| authority.strip_prefix(own.as_str()).is_some_and(is_port);
        self.hosts.iter().any(plain) || self.is_own_in_other_letters(authority)
    }

    fn is_own_in_other_letters(&self, authority: &str) -> bool {
        let host = bare(authority);
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    pub(super) fn check<B>(&self, via: Via, request: &Request<B>) -> Result<(), Problem> {
        let host = host_of(request)?;
        if via.tcp {
            let Some(host) = host else {
                return Err(Problem::new(
                    ProblemCode::BadRequest,
                    "the request has no Host header",
                ));
            };
            let target = request.uri().authority();
            if !self.is_own(host) || !target.is_none_or(|target| self.is_own(target.as_str())) {
                let detail = format!(
                    "Host {host:?} is not this gateway's: ask by localhost, or allow it by --gateway-host"
                );
                return Err(Problem::new(ProblemCode::BadHost, detail));
            }
        }
        // On a Unix socket the proxy in front has chosen the Host; a browser
        // behind it is still told apart by its Origin.
        self.check_origin(host, request)
    }

    fn check_origin<B>(&self, host: Option<&str>, request: &Request<B>) -> Result<(), Problem> {
        let forbidden = |detail: String| Err(Problem::new(ProblemCode::Forbidden, detail));
        let headers = request.headers();
        if headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site") {
            return forbidden(
                "a web page of another site may not use the pipe (Sec-Fetch-Site: cross-site)"
                    .to_owned(),
            );
        }
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or("null");
        let named = origin.split_once("://").map(|(_, authority)| authority);
        let own = named.is_some_and(|authority| {
            host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) || self.is_own(authority)
        });
        if own {
            return Ok(());
        }
        forbidden(format!("a web page of {origin:?} may not use the pipe"))
    }
}

/// The one Host header, if there is one.
fn host_of<B>(request: &Request<B>) -> Result<Option<&str>, Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let bad = |detail| Problem::new(ProblemCode::BadRequest, detail);
    let Some(host) = hosts.next() else { return Ok(None) };
    if hosts.next().is_some() {
        return Err(bad("the request has two Host headers"));
    }
    host.to_str().map(Some).map_err(|_| bad("the Host header is not ASCII"))
}

/// Whether nothing but a port may be behind a host.
fn is_port(rest: &str) -> bool {
    match rest.as_bytes() {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// A host without its port.
fn bare(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon)
            if authority[..colon].ends_with(']')
                || !(authority[..colon].contains(':') || authority[colon..].contains(']')) =>
        {
            &authority[..colon]
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(tcp: bool, headers: &[(&str, &str)]) -> Result<(), u16> {
        let guard = Guard::new(&["pipe.example".parse().expect("a host")]);
        let mut request = Request::get("/server/time");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        guard.check(Via { tcp }, &request).map_err(|problem| problem.code.status().as_u16())
    }

    #[test]
    fn only_this_gateway_s_hosts_are_answered_on_tcp() {
        for host in ["localhost", "localhost:7070", "127.0.0.1:7070", "[::1]:7070", "PIPE.example"]
        {
            assert_eq!(check(true, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.2", "[::2]:7070", ""] {
            assert_eq!(check(true, &[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(check(true, &[]), Err(400));
        assert_eq!(check(true, &[("host", "localhost"), ("host", "localhost")]), Err(400));
        assert_eq!(check(false, &[("host", "rpclient.local")]), Ok(()));
    }

    proptest! {
        #[test]
        fn a_host_counts_at_one_look_as_it_does_at_a_closer_one(
            host in r"(localhost|LocalHost|\[::1\]|127\.0\.0\.1|pipe\.example|x)?[:\]a0-9]{0,5}"
        ) {
            let guard = Guard::new(&["pipe.example".parse().expect("a host")]);
            prop_assert_eq!(guard.is_own(&host), guard.is_own_in_other_letters(&host));
        }
    }

    #[test]
    fn web_pages_of_other_sites_are_turned_away_on_any_socket() {
        let host = ("host", "localhost:7070");
        assert_eq!(check(true, &[host, ("origin", "https://evil.example")]), Err(403));
        assert_eq!(check(true, &[host, ("origin", "null")]), Err(403));
        assert_eq!(check(true, &[host, ("sec-fetch-site", "cross-site")]), Err(403));
        assert_eq!(check(false, &[("host", "a.local"), ("origin", "http://b.local")]), Err(403));
        assert_eq!(check(false, &[("host", "a.local"), ("origin", "http://a.local")]), Ok(()));
        assert_eq!(check(true, &[host, ("origin", "http://localhost:7070")]), Ok(()));
    }
}
