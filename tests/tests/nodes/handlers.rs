//! Who answers an event: a directory of executables or an app, and the hooks
//! beside them.

use std::net::TcpListener;
use std::path::Path;

use http::Method;
use restpipe::{Exception, Registry, Verb};
use restpipe_config::NodeArgs;
use restpipe_tests::app::{App, Asked, Say};
use restpipe_tests::binary::{Node, eventually};
use restpipe_tests::http::{Ask, get};
use restpipe_tests::nodes::{Pair, Way};
use restpipe_tests::site::{CLIENT, HUB, Site};
use serde_json::Value;

/// A pair whose server has the handlers in `handlers`.
fn with_handlers(site: &Site) -> (Node, Node) {
    let handlers = site.path("handlers");
    std::fs::create_dir_all(&handlers).expect("a directory");
    site.pair_of(|server| server.flag("--handlers", &handlers), |client| client)
}

/// A pair whose server has an app.
fn with_app(site: &Site, app: &App) -> (Node, Node) {
    site.pair_of(|server| server.flag("--app", app.url()), |client| client)
}

fn return_code(answer: &restpipe_tests::http::Answer) -> (u16, &str) {
    (answer.status, answer.header("x-event-return-code").unwrap_or_default())
}

#[test]
fn an_executable_gets_arguments_body_and_surroundings_and_its_output_is_the_answer() {
    let site = Site::new();
    site.script("handlers/get_args", r#"printf '%s|' "$#" "$@""#);
    site.script("handlers/post_upper", "echo Content-Type: text/plain\necho\ntr a-z A-Z");
    site.script(
        "handlers/get_env",
        r#"echo "$RESTPIPE_FROM $RESTPIPE_VERB $RESTPIPE_NOUN $RESTPIPE_QUERY""#,
    );
    site.script("handlers/put_type", r#"printf '%s' "$CONTENT_TYPE""#);
    let (_server, client) = with_handlers(&site);
    let at = client.gateway();

    for (path, args) in [
        ("//a%2Fb/c", "2|a/b|c|"),
        ("//a/bc", "2|a|bc|"),
        ("///a", "2||a|"),
        ("//", "0|"),
        ("", "0|"),
    ] {
        assert_eq!(get(at, &format!("/server/args{path}")).text(), args, "G7, G8: {path}");
    }
    let answer = get(at, "/server/args//a%20b/%2F//x;y");
    assert_eq!(answer.text(), "4|a b|/||x;y|", "no shell takes the arguments apart");
    assert_eq!(answer.header("content-type"), Some("application/json"), "as in the original");
    assert_eq!(answer.outcome(), (200, "executed", "-"));
    assert_eq!(return_code(&answer), (200, "0"));

    let big = "body ".repeat(100_000);
    let answer = Ask::new("POST", "/server/upper").body(big.clone()).send(at);
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.text(), big.to_uppercase());

    let answer = get(at, "/server/env?a=b%20c");
    assert_eq!(answer.text(), format!("{CLIENT} GET env a=b%20c\n"));
    let put = Ask::new("PUT", "/server/type").header("Content-Type", "text/x-own").body("1");
    assert_eq!(put.send(at).text(), "text/x-own");
}

#[test]
fn nouns_and_verbs_that_differ_are_answered_by_files_that_differ() {
    let site = Site::new();
    site.script("handlers/get_time_utc", "printf '\"with a slash\"'");
    site.script("handlers/get_time__utc", "printf '\"with an underscore\"'");
    site.script("handlers/delete_time_utc", "printf '\"deleted\"'");
    site.file("handlers/get_plain", "#!/bin/sh\necho not executable\n");
    std::fs::create_dir(site.path("handlers/get_dir")).expect("a directory");
    site.script("get_outside", "echo outside");
    let (_server, client) = with_handlers(&site);
    let at = client.gateway();
    assert_eq!(get(at, "/server/time/utc").text(), "\"with a slash\"", "G9");
    assert_eq!(get(at, "/server/time_utc").text(), "\"with an underscore\"", "G9");
    assert_eq!(Ask::new("DELETE", "/server/time/utc").send(at).text(), "\"deleted\"");
    for noun in
        ["plain", "dir", "none", "..%5Cget_outside", "%2e%2e%2e/outside", "time utc", "time"]
    {
        let noun = noun.replace(' ', "%20");
        let answer = get(at, &format!("/server/{noun}"));
        assert_eq!(return_code(&answer), (404, "255"), "{noun}");
        assert_eq!(answer.json()["exception"]["class"], "NoHandler", "{noun}");
        assert_eq!(answer.header("x-event-outcome"), Some("executed"));
    }
    // One that comes later is there at once.
    site.script("handlers/get_later", "echo 1");
    assert_eq!(get(at, "/server/later").status, 200);
}

#[test]
fn a_failing_executable_is_an_exception_and_its_stderr_stays_unless_it_is_let_out() {
    let site = Site::new();
    site.script("handlers/get_fail", "echo secret detail >&2\necho the reason >&2\nexit 3");
    site.script("handlers/get_silent", "exit 1");
    site.script("handlers/get_huge", "yes traceback line | head -c 1000000 >&2\nexit 1");
    let handlers = site.path("handlers");
    for tracebacks in [false, true] {
        let (server, client) = site.pair_of(
            |server| {
                let server = server.flag("--handlers", &handlers);
                if tracebacks { server.switch("--tracebacks") } else { server }
            },
            |client| client,
        );
        let answer = get(client.gateway(), "/server/fail");
        assert_eq!(return_code(&answer), (500, "251"));
        assert_eq!(answer.outcome(), (500, "executed", "-"));
        let exception = &answer.json()["exception"];
        let message = exception["message"].as_str().expect("a message");
        assert!(message.starts_with("the reason") && message.contains('3'), "{message}");
        assert_eq!(exception["class"], "HandlerFailed");
        assert_eq!(answer.text().contains("secret detail"), tracebacks);
        server.log().line(&["handler failed", "the reason"]);
        assert_eq!(return_code(&get(client.gateway(), "/server/silent")), (500, "251"));
        let huge = get(client.gateway(), "/server/huge");
        assert_eq!(return_code(&huge), (500, "251"));
        // The end of it, where the error stands, less what is blank there.
        let end = if tracebacks { 4_000..=4_096 } else { 0..=0 };
        let traceback = huge.json()["exception"]["traceback"].as_str().map(str::len);
        assert!(traceback.is_some_and(|len| end.contains(&len)), "G14: {traceback:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_traceback_of_a_handler_in_rust_stays_unless_it_is_let_out_and_ends_at_16_kib() {
    let registry = Registry::new().on(Verb::Get, "fail", |_| async {
        let mut exception = Exception::new("Long", "it took its time");
        // Each character is three bytes, and none of them is cut.
        exception.traceback = "…".repeat(10_000);
        Err(exception)
    });
    for (tracebacks, characters) in [(false, 0), (true, 16 * 1024 / 3)] {
        let args = NodeArgs { tracebacks: Some(tracebacks), ..NodeArgs::default() };
        let pair = Pair::connected(args, registry.clone()).await;
        let answer = pair.ask(Way::ToServer, Method::GET, "fail", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-event-return-code")), (500, "251"));
        let said = answer.json();
        assert_eq!(said["exception"]["message"], "it took its time");
        let traceback = said["exception"]["traceback"].as_str().expect("a text");
        assert_eq!(traceback.chars().count(), characters, "G14");
        pair.stopped().await;
    }
}

#[test]
fn an_executable_that_cannot_be_run_or_says_too_much_is_an_exception() {
    let site = Site::new();
    site.script("handlers/get_much", "head -c 2000000 /dev/zero");
    let broken = site.script("handlers/get_broken", "");
    let install = std::process::Command::new("sed")
        .args(["-i", "1s,.*,#!/no/such/shell,"])
        .arg(&broken)
        .status();
    assert!(install.expect("sed runs").success());
    let (_server, client) = with_handlers(&site);
    for (noun, cause) in [("much", "serve large replies from an app"), ("broken", "No such file")] {
        let answer = get(client.gateway(), &format!("/server/{noun}"));
        assert_eq!(return_code(&answer), (500, "251"), "{noun}");
        let message = answer.json()["exception"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(cause), "{noun}: {message}");
    }
}

#[test]
fn an_executable_is_killed_when_the_caller_s_time_is_over() {
    let site = Site::new();
    let gate = site.gate("gate");
    let note = site.path("started");
    site.script(
        "handlers/post_wait",
        &format!(
            "echo $$ > {0}.new\nmv {0}.new {0}\nread line < {1}",
            note.display(),
            gate.path.display()
        ),
    );
    let (_server, client) = with_handlers(&site);
    let answer =
        Ask::new("POST", "/server/wait").header("RestPipe-Timeout", "500ms").send(client.gateway());
    assert_eq!(answer.outcome(), (504, "unknown", "false"));
    assert_eq!(answer.code(), "peer-timeout");
    let pid = std::fs::read_to_string(&note).expect("it had begun").trim().to_owned();
    eventually("the handler is gone", || !Path::new("/proc").join(&pid).exists());
}

fn echo(asked: &Asked) -> Say {
    let headers: serde_json::Map<String, Value> =
        asked.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let body = serde_json::json!({
        "line": asked.line,
        "headers": headers,
        "body": String::from_utf8_lossy(&asked.body),
    });
    Say::json(&body.to_string())
}

#[test]
fn an_app_on_tcp_or_a_unix_socket_gets_the_event_as_http() {
    let site = Site::new();
    // RestPipe has no use for it, whatever it is.
    let key = "k".repeat(300);
    for app in [App::tcp(echo), App::unix(&site.path("app.sock"), echo)] {
        let (server, client) = with_app(&site, &app);
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let seen = Ask::new("PATCH", "/server/time/utc//a%2Fb/c%20d?q=1&r=%20")
            .header("Content-Type", "text/x-own")
            .header("Authorization", "Bearer x")
            .header("X-Own", "1")
            .header("Idempotency-Key", &key)
            .header("traceparent", trace)
            .body("the body")
            .send(client.gateway())
            .json();
        assert_eq!(seen["line"], "PATCH /time/utc/a%2Fb/c%20d?q=1&r=%20 HTTP/1.1");
        assert_eq!(seen["body"], "the body");
        let headers = &seen["headers"];
        for (name, value) in [
            ("restpipe-from", CLIENT),
            ("restpipe-noun", "time/utc"),
            ("traceparent", trace),
            ("content-type", "text/x-own"),
            ("authorization", "Bearer x"),
            ("x-own", "1"),
            ("idempotency-key", key.as_str()),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        let deadline = headers["restpipe-deadline"].as_str().expect("a deadline");
        assert!(deadline.len() >= 20 && deadline.ends_with('Z'), "{deadline}");
        // Without a trace it gets one of its own.
        let headers = get(client.gateway(), "/server/x").json()["headers"].clone();
        assert_eq!(headers["traceparent"].as_str().map(str::len), Some(55));
        drop((server, client));
    }
    // The other way round the server is the one who asks.
    let app = App::tcp(echo);
    let (server, _client) = site.pair_of(|server| server, |client| client.flag("--app", app.url()));
    let seen = get(server.gateway(), "/client/fs/x").json();
    assert_eq!(seen["headers"]["restpipe-from"], HUB);
}

#[test]
fn nobody_but_the_pipe_itself_speaks_for_it() {
    let site = Site::new();
    let app = App::tcp(|_| {
        Say::answer(
            "200 OK",
            &[
                ("x-event-outcome", "not-sent"),
                ("x-event-retriable", "true"),
                ("restpipe-from", "root"),
                ("x_event_outcome", "refused"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("x-end", "2"),
            ],
            "1",
        )
    });
    let (_server, client) = with_app(&site, &app);
    let answer = Ask::new("GET", "/server/x")
        .header("RestPipe-From", "root")
        .header("RestPipe-Noun", "other")
        .header("RestPipe_From", "root")
        .header("X-Event-Return-Code", "0")
        .header("X_Event_Foo", "1")
        .header("X-Event-Foo", "1")
        .header("Connection", "restpipe-from, traceparent, x-secret, keep-alive")
        .header("X-Secret", "1")
        .header("Keep-Alive", "5")
        .header("TE", "trailers")
        .header("Proxy-Authorization", "x")
        .header("X-Twice", "1")
        .header("X-Twice", "2")
        .send(client.gateway());
    let asked = app.last();
    let names: Vec<&str> = asked.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(asked.header("restpipe-from"), Some(CLIENT), "G11, G12");
    assert_eq!(asked.header("restpipe-noun"), Some("x"), "G11");
    assert!(asked.header("traceparent").is_some(), "G12");
    assert_eq!(names.iter().filter(|name| name.starts_with("restpipe")).count(), 3, "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "x-twice").count(), 2, "{names:?}");
    for gone in [
        "x-event-foo",
        "x_event_foo",
        "x-event-return-code",
        "x-secret",
        "keep-alive",
        "te",
        "proxy-authorization",
    ] {
        assert!(!names.contains(&gone), "{gone} in {names:?}");
    }
    assert_eq!(answer.outcome(), (200, "executed", "-"));
    assert_eq!(answer.header("restpipe-from"), None);
    assert_eq!(answer.header("x_event_outcome"), None);
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("x-end"), Some("2"));
}

#[test]
fn the_app_s_status_headers_body_and_return_code_reach_the_caller() {
    let site = Site::new();
    let app = App::tcp(|asked| match asked.path() {
        "/created" => Say::answer("201 Created", &[("location", "/x")], "made"),
        "/missing" => Say::answer("404 Not Found", &[("content-type", "text/plain")], "none"),
        "/broken" => Say::answer("500 Oops", &[], "{}"),
        "/own" => Say::answer("200 OK", &[("x-event-return-code", "7")], "own"),
        "/moved" => Say::answer("302 Found", &[("location", "/y")], ""),
        "/twice" => Say::answer("200 OK", &[("set-cookie", "a=1"), ("set-cookie", "b=2")], ""),
        "/empty" => Say::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/chunked" => Say::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ),
        "/until-eof" => Say::Last(b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec()),
        path => panic!("{path}"),
    });
    let (_server, client) = with_app(&site, &app);
    for (noun, status, code, body) in [
        ("created", 201, "0", "made"),
        ("missing", 404, "404", "none"),
        ("broken", 500, "500", "{}"),
        ("own", 200, "7", "own"),
        ("moved", 302, "302", ""),
        ("twice", 200, "0", ""),
        ("empty", 204, "0", ""),
        ("chunked", 200, "0", "abc"),
        ("until-eof", 200, "0", "to the end"),
    ] {
        let answer = get(client.gateway(), &format!("/server/{noun}"));
        assert_eq!(
            (return_code(&answer), answer.text().as_str()),
            ((status, code), body),
            "{noun}"
        );
        assert_eq!(answer.header("x-event-outcome"), Some("executed"), "{noun}");
        let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie").count();
        assert_eq!(cookies, if noun == "twice" { 2 } else { 0 });
    }
    assert_eq!(get(client.gateway(), "/server/created").header("location"), Some("/x"));
}

#[test]
fn an_app_that_takes_no_connections_has_refused_and_the_call_may_be_made_again() {
    let site = Site::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let (server, client) =
        site.pair_of(|server| server.flag("--app", format!("http://{free}")), |client| client);
    for verb in ["GET", "POST"] {
        let answer = Ask::new(verb, "/server/x").send(client.gateway());
        assert_eq!(answer.outcome(), (503, "refused", "true"), "{verb}");
        assert_eq!(answer.code(), "app-refused");
        assert!(answer.header("retry-after").is_some());
        assert!(answer.json()["detail"].as_str().expect("a sentence").contains("app"));
    }
    server.log().line(&["event not answered", &free.to_string()]);
}

#[test]
fn an_app_that_breaks_off_or_talks_nonsense_is_502_and_is_asked_once() {
    let site = Site::new();
    let app = App::tcp(|asked| match asked.path() {
        "/close" => Say::Last(Vec::new()),
        "/head" => Say::Last(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        "/body" => Say::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec()),
        "/garbage" => Say::Last(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        "/header" => Say::Last(b"HTTP/1.1 200 OK\r\nx y: z\r\ncontent-length: 0\r\n\r\n".to_vec()),
        "/lengths" => Say::Last(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
        ),
        "/status" => Say::Last(b"HTTP/1.1 99999 Odd\r\ncontent-length: 0\r\n\r\n".to_vec()),
        _ => Say::json("1"),
    });
    let (_server, client) = with_app(&site, &app);
    for noun in ["close", "head", "body", "garbage", "header", "lengths", "status"] {
        let before = app.asked().len();
        let answer = Ask::new("POST", &format!("/server/{noun}")).body("x").send(client.gateway());
        assert_eq!(answer.outcome(), (502, "unknown", "false"), "{noun}: {}", answer.text());
        assert!(["handler-lost", "bad-reply"].contains(&answer.code().as_str()), "{noun}");
        assert_eq!(app.asked().len(), before + 1, "{noun}: it may have run, so not again");
    }
    let answer = get(client.gateway(), "/server/close");
    assert_eq!(answer.outcome(), (502, "unknown", "true"), "GET may be sent again");
    assert_eq!(get(client.gateway(), "/server/well").text(), "1");
}

#[test]
fn connections_to_the_app_are_kept_and_one_that_it_closes_is_no_error() {
    let site = Site::new();
    let app = App::tcp(|asked| match asked.path() {
        "/last" => Say::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1".to_vec()),
        _ => Say::json("1"),
    });
    let (_server, client) = with_app(&site, &app);
    for _ in 0..20 {
        assert_eq!(get(client.gateway(), "/server/kept").status, 200);
    }
    assert_eq!(app.connections(), 1, "one after the other needs one");
    for _ in 0..20 {
        let answer = Ask::new("POST", "/server/last").body("x").send(client.gateway());
        assert_eq!(answer.outcome(), (200, "executed", "-"), "{}", answer.text());
        // A call that the app could still have read would rightly be `unknown`.
        eventually("the app has closed it", || app.closed() == app.connections());
    }
}

#[test]
fn what_comes_built_in_answers_only_while_nothing_else_does_or_by_request() {
    let site = Site::new();
    site.script("handlers/get_own", "echo 1");
    let handlers = site.path("handlers");
    let (server, client) = with_handlers(&site);
    assert_eq!(return_code(&get(client.gateway(), "/server/time")), (404, "255"));
    drop((server, client));
    let (_server, client) = site.pair_of(
        |server| server.flag("--handlers", &handlers).switch("--builtin"),
        |client| client.switch("--builtin=false"),
    );
    assert_eq!(get(client.gateway(), "/server/time").status, 200);
    assert_eq!(get(client.gateway(), "/server/own").status, 200);
    assert_eq!(return_code(&get(_server.gateway(), "/client/fs/time")), (404, "255"));
    assert_eq!(return_code(&Ask::new("POST", "/server/time").send(client.gateway())), (404, "255"));
}

#[test]
fn hooks_run_when_a_pipe_comes_goes_fails_and_idles_and_are_told_of_whom() {
    let site = Site::new();
    let notes = site.path("notes");
    let hook = site.script(
        "hook",
        &format!(r#"echo "$RESTPIPE_EVENT $RESTPIPE_PEER $RESTPIPE_INSTANCE $RESTPIPE_ADDRESS $RESTPIPE_REASON" >> {}"#, notes.display()),
    );
    let server = site
        .server()
        .flag("--on-connect", &hook)
        .flag("--on-disconnect", &hook)
        .flag("--on-idle", &hook)
        .flag("--idle-after", "300ms")
        .start();
    let client = site.client(CLIENT, &server).flag("--instance", "one").start();
    let noted = |start: &str| {
        let notes = std::fs::read_to_string(&notes).unwrap_or_default();
        notes.lines().any(|line| line.starts_with(start))
    };
    eventually("connect", || noted("connect fs one 127.0.0.1:"));
    eventually("idle", || noted("idle fs one 127.0.0.1:"));
    client.kill();
    eventually("disconnect", || noted("disconnect fs one 127.0.0.1:"));
    server.log().line(&["hook ran", "disconnect"]);

    let address = server.pipe().to_string();
    server.kill();
    let failing = site.script(
        "failing",
        &format!("echo \"failing $RESTPIPE_REASON\" >> {}\nexit 1", notes.display()),
    );
    let client = site.client_of(CLIENT, &address).flag("--on-connect-fail", &failing).start();
    eventually("connect-fail", || noted("failing refused"));
    client.log().line(&["hook failed", "connect-fail"]);
    assert_eq!(get(client.gateway(), "/-/live").status, 200, "a failing hook harms nothing");
}
