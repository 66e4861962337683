//! A webhook of somebody else, which is called after ours and changes pods that have our sidecar.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::spawn;

use restpipe_cluster_tests::{run_with_input, sh};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What it makes of a pod; nothing if it leaves it alone.
pub(crate) type Change = fn(&Value) -> Option<Value>;

/// Where it listens, and what it is known by.
pub(crate) struct Late {
    address: SocketAddr,
    ca: String,
}

impl Late {
    /// Serves until the test's process ends.
    pub(crate) fn serve(change: Change) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().display();
        sh(
            &format!(
                "cd {place}\nopenssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
                 -subj /CN=late -addext subjectAltName=IP:127.0.0.1 -keyout tls.key -out tls.crt 2>/dev/null"
            ),
            &[],
        )
        .ok();
        let (cert, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        let ca = std::fs::read_to_string(&cert).expect("a certificate");
        let chain = CertificateDer::pem_file_iter(&cert).expect("PEM");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).expect("a key"))
            .expect("a pair");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                // Whoever leaves in the middle of it is an API server that was killed.
                spawn(move || drop(converse(stream, config, change)));
            }
        });
        Self { address, ca }
    }

    /// Its configuration, under a name behind ours, for pods of a namespace.
    pub(crate) fn configuration(&self, name: &str, namespace: &str) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "late.example.com",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {
                    "url": format!("https://{}/", self.address), "caBundle": base64(&self.ca),
                },
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "reinvocationPolicy": "IfNeeded",
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods"],
                }],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            }],
        })
    }
}

fn base64(text: &str) -> String {
    run_with_input("openssl", &["base64", "-A"], &[], text).ok()
}

/// Answers requests of one connection, until the other side has no more.
fn converse(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    change: Change,
) -> Result<(), Box<dyn std::error::Error>> {
    let tls = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut tls = BufReader::new(tls);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if tls.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        tls.read_exact(&mut body)?;
        let answer = review(&serde_json::from_slice(&body)?, change).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        tls.get_mut().write_all((head + &answer).as_bytes())?;
        tls.get_mut().flush()?;
    }
}

fn review(review: &Value, change: Change) -> Value {
    let request = &review["request"];
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if let Some(patch) = change(&request["object"]) {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64(&patch.to_string()));
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
