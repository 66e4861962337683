use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use k8s_openapi::ByteString;
use restpipe_identity::{CertificateAuthority, LeafRequest, PeerName};

use super::*;

fn identity() -> Identity {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let ca = CertificateAuthority::create("test", 2 * hour, now).expect("a CA");
    let name = PeerName::parse("files.clients.hub.shop.restpipe").expect("a name");
    let request = LeafRequest { name, usage: Usage::Client, lifetime: hour, now };
    let leaf = ca.issue(request).expect("a leaf");
    let node_toml = "server = \"pipe.example:7072\"\nserver-name = \"hub.shop.servers.restpipe\"\n";
    let secret = Secret {
        data: Some(
            [
                (TLS_CERT, leaf.cert_pem.clone()),
                (TLS_KEY, leaf.key_pem.expose().to_owned()),
                (CA_CERT, ca.cert_pem().to_owned()),
                (NODE_TOML, node_toml.to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
            .into(),
        ),
        ..Secret::default()
    };
    Identity::of("files", "files".to_owned(), secret).expect("an identity")
}

fn to_dir(dir: &Path, force: bool) -> Destination {
    Destination { dir: Some(dir.to_owned()), manifest: None, force }
}

#[test]
fn a_node_directory_is_for_its_owner_only_and_not_overwritten() {
    let place = tempfile::tempdir().expect("a place");
    let dir = place.path().join("node");
    to_dir(&dir, false).check().expect("nothing there");
    to_dir(&dir, false).write(&identity()).expect("written");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!((mode(&dir.join(TLS_KEY)), mode(&dir.join(NODE_TOML))), (0o600, 0o600));
    let refused = to_dir(&dir, false).check().expect_err("there already");
    assert!(refused.to_string().contains("--force"), "{refused}");
    to_dir(&dir, true).check().expect("forced");
    to_dir(&dir, true).write(&identity()).expect("replaced");
}

#[test]
fn a_manifest_holds_a_secret_and_an_external_link() {
    let manifest = identity().manifest().expect("YAML");
    let documents: Vec<serde_json::Value> = manifest
        .trim_start_matches("---\n")
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).expect("YAML"))
        .collect();
    let [secret, link] = &documents[..] else { panic!("two documents: {manifest}") };
    assert_eq!(secret["metadata"]["name"], "files-imported");
    assert!(secret["stringData"][TLS_KEY].as_str().is_some_and(|key| key.ends_with("KEY-----\n")));
    let external = &link["spec"]["server"]["external"];
    assert_eq!(external["address"], "pipe.example:7072");
    assert_eq!(external["serverName"], "hub.shop.servers.restpipe");
    assert_eq!(external["secretName"], "files-imported");
    let link: restpipe_api::RestPipeLink =
        serde_json::from_value(link.clone()).expect("a link as the kind has it");
    assert_eq!(link.spec.hostname.as_deref(), Some("files"));
}

#[test]
fn an_address_of_the_cluster_is_recognised() {
    assert!(is_of_this_cluster("hub-restpipe.shop.svc:7072"));
    assert!(!is_of_this_cluster("pipe.example:7072"));
    assert!(!is_of_this_cluster("[::1]:7072"));
}
