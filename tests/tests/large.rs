//! Two gibibytes each way through real nodes, in bounded memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use restpipe_tests::binary::Node;
use restpipe_tests::http::At;
use restpipe_tests::site::{CLIENT, Site};

const SIZE: u64 = 2 * 1024 * 1024 * 1024;

/// Kibibytes that a node may have had resident at most.
const MOST_RESIDENT: u64 = 64 * 1024;

/// An app that counts what it is sent and sends [`SIZE`] bytes for a GET.
fn app() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            std::thread::spawn(move || serve(stream));
        }
    });
    format!("http://{address}")
}

fn serve(stream: TcpStream) {
    let mut writer = stream.try_clone().expect("cloned");
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).expect("a request line");
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if header.trim().is_empty() {
            break;
        }
    }
    if line.starts_with("POST") {
        let got = std::io::copy(&mut reader.take(length), &mut std::io::sink()).expect("a body");
        let body = got.to_string();
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .expect("answers");
    } else {
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").expect("answers");
        // Who stops reading early fails its own test.
        let _ = std::io::copy(&mut std::io::repeat(b'x').take(SIZE), &mut writer);
    }
}

fn most_resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn two_gibibytes_pass_each_way_while_neither_node_holds_64_mebibytes() {
    let (site, app) = (Site::new(), app());
    let (server, client) = site.pair_of(|start| start, |start| start.flag("--app", &app));
    let At::Tcp(gateway) = server.gateway() else { panic!("a TCP gateway") };
    let url = format!("http://{gateway}/client/{CLIENT}/body");

    let sparse = site.path("sparse");
    std::fs::File::create(&sparse).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
    let post = Command::new("curl")
        .args(["-sS", "-X", "POST", "-T"])
        .arg(&sparse)
        .arg(&url)
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&post.stdout), SIZE.to_string());

    let mut get =
        Command::new("curl").args(["-sS", &url]).stdout(Stdio::piped()).spawn().expect("curl runs");
    let mut body = get.stdout.take().expect("piped");
    let got = std::io::copy(&mut body, &mut std::io::sink()).expect("a body");
    assert!(get.wait().expect("curl ends").success());
    assert_eq!(got, SIZE);

    for node in [&server, &client] {
        let most = most_resident(node);
        assert!(most < MOST_RESIDENT, "a node had {most} KiB resident");
    }
}
