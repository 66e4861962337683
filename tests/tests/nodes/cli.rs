//! The command line: help, refusals in one line, and which layer of settings
//! wins.

use std::ffi::OsStr;
use std::net::{TcpListener, UdpSocket};

use restpipe_tests::binary::{Ran, SOON, Start, command, eventually, run, run_command};
use restpipe_tests::http::{Ask, At, get};
use restpipe_tests::site::{CLIENT, HUB, Site, text};

/// Exit code of a command line that makes no sense.
const USAGE: i32 = 2;
/// Exit code of what cannot be done.
const FAILED: i32 = 1;

fn says_all(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in: {line}");
    }
}

fn run_with(env: &[(&str, &str)], args: &[&str]) -> Ran {
    run_command(command().envs(env.iter().copied()).args(args))
}

#[test]
fn every_subcommand_has_help_that_names_what_matters() {
    let both = [
        "--gateway <",
        "--admin",
        "--dir",
        "--app",
        "--handlers",
        "--on-connect",
        "RESTPIPE_LOG",
        "default:",
    ];
    let cases: [(&[&str], &[&str]); 13] = [
        (&[], &["server", "client", "dev", "identity", "peers", "status", "curl"]),
        (
            &["server"],
            &["--listen", "--clients", "--suspended", "--max-handshakes", "0.0.0.0:7072"],
        ),
        (&["server"], &both),
        (&["client"], &["--server <", "--server-name", "RESTPIPE_SERVER"]),
        (&["client"], &both),
        (&["dev"], &["--server-gateway", "--client-gateway", "--listen", "--server-app"]),
        (&["peers"], &["--url", "--output", "json", "[HOSTNAME]"]),
        (&["status"], &["--url", "--output", "json", "7071"]),
        (&["identity"], &["ca", "server", "client", "install", "show", "verify"]),
        (&["identity", "ca"], &["--dir", "--lifetime", "--force"]),
        (&["identity", "client"], &["<HOSTNAME>", "--ca", "--out", "--lifetime", "--force"]),
        (&["identity", "install"], &["<KEY>", "<CRT>", "[CA]", "--dir"]),
        (&["identity", "verify"], &["[DIR]", "--as"]),
    ];
    for (command, words) in cases {
        let help = run(command.iter().copied().chain(["--help"])).output();
        says_all(&help, words);
    }
    assert!(!run(["client", "--help"]).output().contains("--listen"), "a server's setting");
    assert!(!run(["server", "--help"]).output().contains("--server-name"), "a client's setting");
    assert!(run(["--version"]).output().starts_with("restpipe "));
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_in_one_line_that_says_where_help_is() {
    let cases: [(&[&str], &[&str]); 14] = [
        (&["serve"], &["'serve'", "server"]),
        (&["server", "--gatway", "x"], &["'--gatway'", "--gateway"]),
        (&["server", "--gateway", "nowhere"], &["'nowhere'", "--gateway", "127.0.0.1:7070"]),
        (&["server", "--gateway", "127.0.0.1:99999"], &["127.0.0.1:99999", "IP:PORT"]),
        (&["server", "--wait", "5"], &["'5'", "--wait", "5s"]),
        (&["server", "--heartbeat", "1ms"], &["--heartbeat", "500ms"]),
        (&["server", "--max-streams", "0"], &["--max-streams", "4096"]),
        (&["server", "--max-body", "lots"], &["--max-body", "10MB"]),
        (&["server", "--app", "127.0.0.1:8080"], &["--app", "http://127.0.0.1:8080"]),
        (&["client", "--app", "https://127.0.0.1"], &["plain HTTP", "http://127.0.0.1:8080"]),
        (&["client", "--server", "hub:0"], &["--server", "hub:0"]),
        (
            &["server", "--gateway", "127.0.0.1:1", "--gateway", "127.0.0.1:2"],
            &["--gateway", "commas"],
        ),
        (&["peers", "--output", "xml"], &["'xml'", "table", "json"]),
        (&["identity", "client"], &["<HOSTNAME>"]),
    ];
    for (args, words) in cases {
        let line = run(args).refusal(USAGE);
        says_all(&line, words);
        says_all(&line, &["--help`"]);
    }
}

#[test]
fn a_bad_value_from_the_environment_is_refused_naming_its_variable() {
    for (name, value, words) in [
        ("RESTPIPE_WAIT", "soon", &["soon", "--wait"]),
        ("RESTPIPE_GATEWAY", "nowhere", &["nowhere", "--gateway"]),
        ("RESTPIPE_MAX_REQUESTS", "-1", &["-1", "--max-requests"]),
        ("RESTPIPE_TRACEBACKS", "maybe", &["maybe", "true or false"]),
    ] {
        let line = run_with(&[(name, value)], &["server"]).refusal(USAGE);
        says_all(&line, &[name]);
        says_all(&line, words);
    }
    for (name, value, role, cure) in [
        ("BIND_PORT", "many", "server", "0 to 65535"),
        ("BIND_IP", "hub", "server", "IP address"),
        ("RP_CLIENT_TARGET_PORT", "7072", "client", "RP_CLIENT_TARGET_HOSTNAME"),
        ("RP_STATSD_PORT", "x", "server", "1 to 65535"),
    ] {
        let line = run_with(&[(name, value)], &[role]).refusal(FAILED);
        says_all(&line, &[name, value, cure]);
    }
}

#[test]
fn settings_that_make_no_sense_together_are_refused_with_the_cure() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["client"], &["--server HOST:PORT"]),
        (&["client", "--server", "127.0.0.1:7072"], &["127.0.0.1", "--server-name"]),
        (&["server", "--server", "hub"], &["--server", "restpipe client"]),
        (&["client", "--server", "hub", "--listen", "0.0.0.0:1"], &["--listen", "restpipe server"]),
        (
            &["server", "--gateway", "0.0.0.0:7070"],
            &["0.0.0.0:7070", "127.0.0.1:7070", "--gateway-public"],
        ),
        (&["server", "--gateway", ""], &["--gateway", "127.0.0.1:7070"]),
        (&["server", "--timeout", "2h"], &["--timeout", "max-timeout"]),
        (&["server", "--cert", "/x"], &["--cert", "--key"]),
    ];
    for (args, words) in cases {
        says_all(&run(args).refusal(FAILED), words);
    }
}

#[test]
fn a_bad_node_toml_is_refused_naming_file_line_and_key() {
    let site = Site::new();
    let dir = site.identity("server", HUB);
    let file = site.path(&format!("{HUB}/node.toml"));
    let cases: [(&[u8], &[&str]); 5] = [
        (b"wait = \"1s\"\ngatway = \"x\"\n", &["line 2", "`gatway`", "gateway"]),
        (b"\n\nwait = 5\n", &["line 3", "wait", "5s"]),
        (b"wait = \n", &["line 1"]),
        (b"wait = \"1s\"\nwait = \"2s\"\n", &["line 2", "duplicate key"]),
        (b"instance = \"\xff\"\n", &["line 1", "UTF-8"]),
    ];
    for (contents, words) in cases {
        std::fs::write(&file, contents).expect("a file");
        let line = Start::node("server", &dir).refused().refusal(FAILED);
        says_all(&line, &[text(&file)]);
        says_all(&line, words);
    }
    std::fs::remove_file(&file).expect("it was there");
    std::fs::create_dir(&file).expect("a directory");
    let line = Start::node("server", &dir).refused().refusal(FAILED);
    says_all(&line, &["node.toml is not a regular file"]);
    let missing = site.path("missing.toml");
    let line = Start::node("server", &dir).flag("--config", &missing).refused().refusal(FAILED);
    says_all(&line, &[text(&missing), "no such file"]);
}

#[test]
fn a_node_without_an_identity_says_how_to_make_one() {
    let site = Site::new();
    let nothing = site.path("nothing");
    let line = Start::node("server", &nothing).refused().refusal(FAILED);
    says_all(&line, &[text(&nothing), "restpipe identity server", "--dir"]);
    let client = site.identity("client", CLIENT);
    let line = Start::node("server", &client).refused().refusal(FAILED);
    says_all(&line, &["clientAuth", "restpipe identity server"]);
    let key = site.path("nothing.key");
    let line = Start::node("server", &client)
        .flag("--cert", client.join("tls.crt"))
        .flag("--key", &key)
        .flag("--ca", client.join("ca.crt"))
        .refused()
        .refusal(FAILED);
    says_all(&line, &[text(&key)]);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_takes_another() {
    let site = Site::new();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound").to_string();
    for flag in ["--gateway", "--admin", "--listen"] {
        let line = site.server().flag(flag, &taken).refused().refusal(FAILED);
        says_all(&line, &[flag, &taken, "in use"]);
    }
    let file = site.file("plain", "no socket");
    let line = site.server().flag("--gateway", format!("unix:{}", file.display())).refused();
    says_all(&line.refusal(FAILED), &["--gateway", text(&file), "socket"]);
    assert_eq!(std::fs::read(&file).expect("it stays"), b"no socket");
}

#[test]
fn a_unix_socket_left_by_a_killed_node_is_taken_over_and_one_in_use_is_not() {
    let site = Site::new();
    let socket = format!("unix:{}", site.path("gateway.sock").display());
    let node = site.server().flag("--gateway", &socket).start();
    let line = site.server().flag("--gateway", &socket).refused().refusal(FAILED);
    says_all(&line, &["another process listens", "--gateway"]);
    node.kill();
    assert!(site.path("gateway.sock").exists(), "kill leaves the file");
    let mut node = site.server().flag("--gateway", &socket).start();
    assert_eq!(get(node.gateway(), "/-/live").text(), "live\n");
    node.signal("TERM");
    assert_eq!(node.exit_code(), Some(0));
    assert!(!site.path("gateway.sock").exists(), "a node that ends removes its socket");
}

#[test]
fn what_cannot_serve_is_refused_at_the_start_and_not_at_the_first_event() {
    let site = Site::new();
    let missing = site.path("no-such-directory");
    for flag in ["--handlers", "--on-connect"] {
        let line = site.server().flag(flag, &missing).refused().refusal(FAILED);
        says_all(&line, &[flag, text(&missing)]);
    }
    let line = site.server().flag("--log", "a=b=c").refused().refusal(FAILED);
    says_all(&line, &["--log", "info"]);
    let line = site.server().flag("--statsd", "nosuchhost.invalid:1").refused().refusal(FAILED);
    says_all(&line, &["--statsd", "nosuchhost.invalid", "off"]);
}

#[test]
fn flags_go_over_the_environment_over_the_file_over_the_default() {
    let site = Site::new();
    let server = site.server().start();
    let wait_of = |env: Option<&str>, flag: Option<&str>| {
        let mut start = site.client(CLIENT, &server);
        start = match env {
            Some(instance) => start.env("RESTPIPE_INSTANCE", instance),
            None => start,
        };
        start = match flag {
            Some(instance) => start.flag("--instance", instance),
            None => start,
        };
        start.start().status()["instance"].as_str().map(str::to_owned)
    };
    let default = wait_of(None, None).expect("a name");
    assert!(default.contains(':'), "made from the machine's name and a port: {default}");
    site.file(&format!("{CLIENT}/node.toml"), "instance = \"file\"\n");
    assert_eq!(wait_of(None, None).as_deref(), Some("file"));
    assert_eq!(wait_of(Some("env"), None).as_deref(), Some("env"));
    assert_eq!(wait_of(Some("env"), Some("flag")).as_deref(), Some("flag"));
}

#[test]
fn another_file_with_settings_is_read_when_it_is_named() {
    let site = Site::new();
    site.identity("server", HUB);
    site.file(&format!("{HUB}/node.toml"), "instance = \"not read\"\n");
    let file = site.file("elsewhere.toml", "instance = \"elsewhere\"\nclients = [\"a\", \"b\"]\n");
    let node = site.server().flag("--config", &file).start();
    assert_eq!(node.status()["instance"], "elsewhere");
    assert_eq!(get(node.gateway(), "/client/c/time").status, 404, "c is not among the clients");
}

#[test]
fn the_original_s_environment_names_make_a_pair() {
    let site = Site::new();
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("a port");
    statsd.set_read_timeout(Some(SOON)).expect("a timeout");
    let port = statsd.local_addr().expect("bound").port().to_string();
    let server = site
        .server()
        .without("RESTPIPE_LISTEN")
        .without("RESTPIPE_STATSD")
        .env("BIND_IP", "127.0.0.1")
        .env("BIND_PORT", "0")
        .env("RP_STATSD_HOST", "127.0.0.1")
        .env("RP_STATSD_PORT", &port)
        .env("DEBUG", "1")
        .start();
    assert_eq!(server.pipe().ip().to_string(), "127.0.0.1");
    let client = Start::node("client", &site.identity("client", CLIENT))
        .env("RP_CLIENT_TARGET_HOSTNAME", "127.0.0.1")
        .env("RP_CLIENT_TARGET_PORT", server.pipe().port().to_string())
        .env("RESTPIPE_SERVER_NAME", HUB)
        .start();
    client.connected();
    assert_eq!(get(client.gateway(), "/server/time").status, 200);
    server.log().line(&["\"DEBUG\"", "event handled"]);
    let mut packet = [0; 2048];
    let len = statsd.recv(&mut packet).expect("a packet");
    assert!(String::from_utf8_lossy(&packet[..len]).contains("client.connect."));
    assert!(!client.log().lines().iter().any(|line| line.contains("\"DEBUG\"")));
}

#[test]
fn peers_and_status_show_a_running_pair_as_tables_and_as_json() {
    let site = Site::new();
    let socket = site.path("gateway.sock");
    let gateways = format!("127.0.0.1:0,unix:{}", socket.display());
    let (server, client) =
        site.pair_of(|server| server.flag("--gateway", gateways), |client| client);
    let url = server.gateway().url();
    let table = run(["peers", "--url", &url]).output();
    says_all(&table, &["HOSTNAME", "INSTANCE", "STATE", "AGE", CLIENT, "open"]);
    let by_socket = run(["peers", "--url", &format!("unix:{}", socket.display())]).output();
    says_all(&by_socket, &[CLIENT]);
    let by_env = run_with(&[("RESTPIPE_URL", &url)], &["peers", CLIENT]).output();
    says_all(&by_env, &[CLIENT]);
    let json = run(["peers", "--url", &url, "-o", "json"]).output();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["peers"][0]["hostname"], CLIENT);
    assert_eq!(json["peers"][0]["state"], "open");

    let url = client.admin().url();
    let table = run(["status", "--url", &url]).output();
    says_all(&table, &["role", "client", "ready", "yes", "certificate", CLIENT, HUB]);
    let json = run(["status", "--url", &url, "-o", "json"]).output();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["role"], &json["ready"]), (&"client".into(), &true.into()));
}

#[test]
fn peers_and_status_say_what_is_wrong_when_no_node_is_there() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let url = format!("http://{free}");
    for command in ["peers", "status"] {
        let line = run([command, "--url", &url]).refusal(FAILED);
        says_all(&line, &[&url, "is it running", "--url"]);
        says_all(&run([command, "--url", "localhost"]).refusal(FAILED), &["--url", "http://"]);
    }
    let site = Site::new();
    let (server, client) = site.pair();
    let line = run(["peers", "ghost", "--url", &server.gateway().url()]).refusal(FAILED);
    says_all(&line, &["ghost is not connected"]);
    // The gateway is not the admin port.
    let line = run(["status", "--url", &client.gateway().url()]).refusal(FAILED);
    says_all(&line, &["/status", "404"]);
    server.kill();
    eventually("the client sees that its server is gone", || {
        !client.status()["ready"].as_bool().expect("a bool")
    });
    let line = run(["peers", "--url", &client.gateway().url()]).output();
    assert_eq!(line, "nobody is connected\n");
    let table = run(["status", "--url", &client.admin().url()]).output();
    says_all(&table, &["no: there is no pipe"]);
}

#[test]
fn dev_answers_the_lines_that_it_prints() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let any = "127.0.0.1:0";
    let mut dev = command();
    dev.args(["dev", "--server-gateway", any, "--client-gateway", any, "--listen", any]);
    let mut dev = Killed(dev.stdout(Stdio::piped()).spawn().expect("the binary starts"));
    let stdout = BufReader::new(dev.0.stdout.take().expect("stdout is piped"));
    let lines = stdout.lines().map_while(Result::ok);
    let mut curls = Vec::new();
    for line in lines {
        if let Some(curl) = line.trim().strip_prefix("curl ") {
            curls.push(curl.trim_end_matches(" && echo").to_owned());
        }
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    assert_eq!(curls.len(), 6, "{curls:?}");
    for (curl, answer) in curls.iter().zip([
        "{\"time_from_server\": ",
        "{\"time_from_client\": ",
        "{\"result_from_server\": \"hello world\"}",
        "{\"result_from_client\": \"hello world\"}",
        "404",
        "\"hostname\":\"localhost\"",
    ]) {
        let ran = Command::new("curl").arg("-s").args(curl.split(' ')).output().expect("curl runs");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains(answer), "curl {curl}: {said}");
    }
    let sent = Command::new("kill").args(["-INT", &dev.0.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    // Whoever has read the lines is gone by now, as with `| head`.
    let ended = restpipe_tests::binary::found_within(SOON, "Ctrl-C ends it", || {
        dev.0.try_wait().expect("waited")
    });
    assert_eq!(ended.code(), Some(0));
}

/// A process that does not outlive the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn dev_says_which_flags_take_other_ports() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound").to_string();
    let line = run(["dev", "--server-gateway", &taken, "--listen", "127.0.0.1:0"]).refusal(FAILED);
    says_all(&line, &[&taken, "--server-gateway", "--client-gateway", "--listen"]);
}

#[test]
fn a_gateway_beyond_loopback_opens_only_when_that_is_said() {
    let site = Site::new();
    let node = site.server().flag("--gateway", "0.0.0.0:0").switch("--gateway-public").start();
    let At::Tcp(address) = node.gateway() else { panic!("TCP") };
    assert!(address.ip().is_unspecified());
    let here = At::Tcp(([127, 0, 0, 1], address.port()).into());
    assert_eq!(get(&here, "/-/live").status, 200);
    // Its Host is still checked.
    let raw = Ask::new("GET", "/-/live").header("Host", OsStr::new("x").to_str().expect("x"));
    assert_eq!(raw.send(&here).status, 400, "two Hosts");
}
