//! Settings that make no sense together, each with its text.

use restpipe_config::Role::{Client, Server};
use restpipe_config::{BindAddress, List, NodeArgs, Settings};

use crate::cli::{refusal, resolve};

const HUB: &str = "--server=hub";

#[test]
fn a_client_needs_a_server() {
    assert_eq!(
        refusal(Client, &[], &[], ""),
        "a client needs the address of its server: give --server HOST:PORT, for example --server hub.example:7072"
    );
}

#[test]
fn a_setting_of_the_other_role_is_named_with_its_place() {
    let to_client =
        "is a setting of a server, and this node is a client: remove it, or run `restpipe server`";
    let to_server =
        "is a setting of a client, and this node is a server: remove it, or run `restpipe client`";
    assert_eq!(
        refusal(Client, &[HUB, "--listen=1.1.1.1:1"], &[], ""),
        format!("--listen {to_client}")
    );
    assert_eq!(
        refusal(Client, &[HUB], &[], "max-pipes = 3"),
        format!("max-pipes in /etc/restpipe/node.toml {to_client}")
    );
    assert_eq!(refusal(Server, &[HUB], &[], ""), format!("--server {to_server}"));
    assert_eq!(
        refusal(Server, &["--server-name=a"], &[], ""),
        format!("--server-name {to_server}")
    );
    let old = [("BIND_IP", "1.1.1.1"), ("RP_CLIENT_TARGET_HOSTNAME", "x")];
    assert!(
        resolve(Client, &[HUB], &old, "").is_ok(),
        "old names of the other role are not looked at"
    );
}

#[test]
fn a_server_dialled_by_address_needs_a_name() {
    let rest = "and certificates carry names: give --server-name NAME as well";
    assert_eq!(
        refusal(Client, &["--server=10.0.0.1:9"], &[], ""),
        format!("--server is the IP address 10.0.0.1, {rest}")
    );
    let old = [("RP_CLIENT_TARGET_HOSTNAME", "::1")];
    let text = format!("RP_CLIENT_TARGET_HOSTNAME is the IP address [::1], {rest}");
    assert_eq!(refusal(Client, &[], &old, ""), text);
}

#[test]
fn a_public_gateway_must_be_meant() {
    let text = "--gateway has 0.0.0.0:7070, which is not a loopback address: whoever reaches the gateway uses \
                the pipe as this node, without a password; give 127.0.0.1:7070, or --gateway-public if that is meant";
    let public = ["--gateway=unix:/x,127.0.0.1:1,0.0.0.0:7070"];
    assert_eq!(refusal(Server, &public, &[], ""), text);
    assert!(resolve(Server, &public, &[], "gateway-public = true").is_ok());
    assert!(refusal(Server, &public, &[], "gateway-public = false").starts_with("--gateway has"));
    for inside in ["127.0.0.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0", "unix:/x"] {
        assert!(resolve(Server, &["--gateway", inside], &[], "").is_ok(), "{inside}");
    }
    assert_eq!(
        refusal(Server, &[], &[], "gateway = []"),
        "gateway in /etc/restpipe/node.toml is empty: give at least one address, for example --gateway 127.0.0.1:7070"
    );
}

#[test]
fn an_operator_is_not_called_as_a_client_could_be() {
    let suffix = "client-suffix = 'clients.hub.restpipe'";
    let refused = |name: &str| refusal(Server, &["--operator-name", name], &[], suffix);
    for name in ["op.clients.hub.restpipe", "clients.hub.restpipe"] {
        assert_eq!(
            refused(name),
            format!(
                "--operator-name is {name}, which is below client-suffix, clients.hub.restpipe: a client of that \
                 name would be an operator; give a name elsewhere, for example operator.restpipe"
            )
        );
    }
    for name in ["operator.restpipe", "opclients.hub.restpipe", "hub.restpipe"] {
        assert!(resolve(Server, &["--operator-name", name], &[], suffix).is_ok(), "{name}");
    }
    // Without a suffix that one name is the operator's, and no client's.
    assert!(resolve(Server, &["--operator-name=operator"], &[], "").is_ok());
}

#[test]
fn an_identity_is_given_whole_or_not() {
    let rest = "give --cert, --key and --ca together, or only --dir";
    let text = format!("--key is given without --cert: {rest}");
    assert_eq!(refusal(Server, &["--key=k"], &[], ""), text);
    let text = format!("cert in /etc/restpipe/node.toml is given without --ca: {rest}");
    assert_eq!(refusal(Server, &["--key=k"], &[], "cert = 'c'"), text);
    assert!(resolve(Server, &["--key=k", "--ca=a"], &[], "cert = 'c'").is_ok());
}

#[test]
fn the_default_deadline_is_not_longer_than_the_longest() {
    assert_eq!(
        refusal(Server, &["--timeout=2h"], &[], ""),
        "--timeout is 2h, longer than max-timeout, which is 1h: lower the one or raise the other"
    );
    let lowered = resolve(Server, &["--max-timeout=30s"], &[], "").expect("good settings");
    assert_eq!(lowered.pipe.timeout, lowered.pipe.max_timeout);
}

#[test]
fn a_value_that_only_a_program_can_make_is_an_error_too() {
    let gateway = Some(List(vec![BindAddress::Unix("relative".into())]));
    let args = NodeArgs { gateway, ..NodeArgs::default() };
    let error =
        Settings::resolve(Server, &args, None, &|_| None).map_err(|error| error.to_string());
    let text = "a setting has a value that node.toml could not have: \
                give an absolute path, for example unix:/run/restpipe.sock";
    assert_eq!(error, Err(text.to_owned()));
}
