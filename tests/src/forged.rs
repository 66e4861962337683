//! Certificates that no authority of ours would issue, and TLS peers that
//! show them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use restpipe_identity::{ALPN, CA_CERT, CA_KEY, Roots, provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::binary::SOON;
use crate::site::HUB;

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Forged {
    /// For `tls.crt`.
    pub cert: String,
    /// For `tls.key`.
    pub key: String,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It is for the other role.
    WrongRole,
    /// It is for both roles.
    BothRoles,
    /// It is for a wildcard.
    Wildcard,
    /// It has two names, the right one among them.
    SeveralNames,
    /// It has a common name and no other.
    CommonNameOnly,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongRole,
        Self::BothRoles,
        Self::Wildcard,
        Self::SeveralNames,
        Self::CommonNameOnly,
    ];
}

/// A certificate for `name` with a fault, signed by the CA in `ca`.
///
/// # Panics
/// If there is no CA.
pub fn forge(ca: &Path, role: &str, name: &str, fault: Fault) -> Forged {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    let (begin, end) = match fault {
        Fault::Expired => (now - 3 * DAY, now - 2 * DAY),
        Fault::NotYetValid => (now + 2 * DAY, now + 3 * DAY),
        _ => (now - DAY, now + DAY),
    };
    (params.not_before, params.not_after) = (begin.into(), end.into());
    let wildcard = name.split_once('.').map_or(name.to_owned(), |(_, rest)| format!("*.{rest}"));
    let names: &[&str] = match fault {
        Fault::Wildcard => &[&wildcard],
        Fault::SeveralNames => &["other.test", name],
        Fault::CommonNameOnly => &[],
        _ => &[name],
    };
    let dns = |name: &&str| SanType::DnsName((*name).try_into().expect("ASCII"));
    params.subject_alt_names = names.iter().map(dns).collect();
    let (own, other) = match role {
        "client" => (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth),
        _ => (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth),
    };
    params.extended_key_usages = match fault {
        Fault::WrongRole => vec![other],
        Fault::BothRoles => vec![own, other],
        _ => vec![own],
    };
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let read = |file| std::fs::read_to_string(ca.join(file)).expect("a CA is there");
    let ca_key = KeyPair::from_pem(&read(CA_KEY)).expect("the CA's key");
    let issuer = Issuer::from_ca_cert_pem(&read(CA_CERT), ca_key).expect("the CA");
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer).expect("a certificate");
    Forged { cert: cert.pem(), key: key.serialize_pem() }
}

impl Forged {
    /// What lies in a node directory.
    ///
    /// # Panics
    /// If nothing does.
    pub fn read(dir: &Path) -> Self {
        let read = |file| std::fs::read_to_string(dir.join(file)).expect("an identity is there");
        Self { cert: read("tls.crt"), key: read("tls.key") }
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        (vec![cert], key)
    }
}

fn roots(ca: &Path) -> rustls::RootCertStore {
    let pem = std::fs::read(ca.join(CA_CERT)).expect("a CA is there");
    Roots::from_pem(&pem).expect("roots").valid_at(SystemTime::now())
}

/// How somebody dials who shows a certificate, or none; no protocol is named.
pub(crate) fn client(ca: &Path, shown: Option<&Forged>) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots(ca));
    match shown.map(Forged::parts) {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).expect("a pair"),
        None => config.with_no_client_auth(),
    }
}

/// Dials a server node with a certificate; what the server said until it
/// closed, or the TLS error.
///
/// # Panics
/// If nobody listens, or the server keeps the connection.
pub fn dial(server: SocketAddr, ca: &Path, shown: &Forged) -> String {
    let mut config = client(ca, Some(shown));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = ServerName::try_from(HUB).expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let socket = TcpStream::connect(server).expect("the server listens");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut stream = StreamOwned::new(session, socket);
    let mut said = Vec::new();
    let ended = stream.read_to_end(&mut said);
    let error = ended.err().map(|error| format!(" {error}")).unwrap_or_default();
    format!("{}{error}", String::from_utf8_lossy(&said))
}

/// A TLS server that shows a certificate to whoever dials, and says nothing.
///
/// # Panics
/// If no port can be had.
pub fn listen(shown: &Forged) -> SocketAddr {
    let (chain, key) = shown.parts();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(config.clone()).expect("a session");
            let mut stream = StreamOwned::new(session, socket);
            // Whoever refuses the certificate ends the connection.
            let _ = stream.flush();
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    address
}
