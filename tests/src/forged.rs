//! Certificates that no authority of ours would issue, and TLS peers that
//! show them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SignatureAlgorithm,
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
    let mut params = leaf(role, &[name]);
    let now = SystemTime::now();
    let (begin, end) = match fault {
        Fault::Expired => (now - 3 * DAY, now - 2 * DAY),
        Fault::NotYetValid => (now + 2 * DAY, now + 3 * DAY),
        _ => (now - DAY, now + DAY),
    };
    (params.not_before, params.not_after) = (begin.into(), end.into());
    params.distinguished_name.push(DnType::CommonName, name);
    let wildcard = name.split_once('.').map_or(name.to_owned(), |(_, rest)| format!("*.{rest}"));
    params.subject_alt_names = match fault {
        Fault::Wildcard => dns(&[&wildcard]),
        Fault::SeveralNames => dns(&["other.test", name]),
        Fault::CommonNameOnly => dns(&[]),
        _ => dns(&[name]),
    };
    let (own, other) = match role {
        "client" => (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth),
        _ => (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth),
    };
    params.extended_key_usages = match fault {
        Fault::WrongRole => vec![other],
        Fault::BothRoles => vec![own, other],
        _ => vec![own],
    };
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer(ca)).expect("a certificate");
    Forged { cert: cert.pem(), key: key.serialize_pem() }
}

fn dns(names: &[&str]) -> Vec<SanType> {
    let name = |name: &&str| SanType::DnsName((*name).try_into().expect("ASCII"));
    names.iter().map(name).collect()
}

/// What a good leaf says.
fn leaf(role: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + DAY).into());
    params.subject_alt_names = dns(names);
    params.extended_key_usages = vec![match role {
        "client" => ExtendedKeyUsagePurpose::ClientAuth,
        _ => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// The CA in `ca`.
fn issuer(ca: &Path) -> Issuer<'static, KeyPair> {
    let read = |file| std::fs::read_to_string(ca.join(file)).expect("a CA is there");
    let key = KeyPair::from_pem(&read(CA_KEY)).expect("the CA's key");
    Issuer::from_ca_cert_pem(&read(CA_CERT), key).expect("the CA")
}

/// A good certificate for `name` with a key of this kind, signed by the CA in `ca`.
///
/// # Panics
/// If there is no CA.
pub fn signed(ca: &Path, role: &str, name: &str, kind: &'static SignatureAlgorithm) -> Forged {
    let key = KeyPair::generate_for(kind).expect("a key");
    let cert = leaf(role, &[name]).signed_by(&key, &issuer(ca)).expect("a certificate");
    Forged { cert: cert.pem(), key: key.serialize_pem() }
}

/// A client's certificate with so many CAs between it and the one in `ca`.
///
/// # Panics
/// If there is no CA, or none is wanted between.
pub fn with_intermediates(ca: &Path, name: &str, count: usize) -> Forged {
    let key = || KeyPair::generate().expect("a key");
    let params = |number: usize| {
        let mut params = leaf("client", &[]);
        params.distinguished_name.push(DnType::CommonName, format!("number {number}"));
        params.extended_key_usages.clear();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let first = CertifiedIssuer::signed_by(params(0), key(), &issuer(ca)).expect("a CA");
    let mut chain = vec![first];
    for number in 1..count {
        let above = chain.last().expect("there is one");
        let next = CertifiedIssuer::signed_by(params(number), key(), above).expect("a CA");
        chain.push(next);
    }
    let leaf_key = key();
    let lowest = chain.last().expect("there is one");
    let leaf = leaf("client", &[name]).signed_by(&leaf_key, lowest).expect("a certificate");
    let above = chain.iter().rev().map(|issuer| issuer.pem());
    Forged { cert: leaf.pem() + &above.collect::<String>(), key: leaf_key.serialize_pem() }
}

/// The same leaf, and behind it so many certificates that have nothing to do with it.
///
/// # Panics
/// If they cannot be made.
pub fn many_certificates(shown: &Forged, count: usize) -> Forged {
    let stranger = |number: usize| {
        let key = KeyPair::generate().expect("a key");
        let params = leaf("client", &[&format!("stranger-{number}")]);
        params.self_signed(&key).expect("a certificate").pem()
    };
    let strangers: String = (0..count).map(stranger).collect();
    Forged { cert: format!("{}{strangers}", shown.cert), key: shown.key.clone() }
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
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        (chain, key)
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
