//! A checked identity, and the TLS configurations made from it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::bundle::{BundleError, Roots};
use crate::check::{ChainError, verify};
use crate::files::{FilesError, NodeFiles};
use crate::inspect::{CertificateInfo, inspect, one_line};
use crate::leaf::{LeafError, Usage, peer_name};
use crate::name::PeerName;
use crate::pem::{self, MAX_CHAIN, Part, PemError};
use crate::provider::provider;

/// The only application protocol of a pipe. Both sides must check after the handshake that it was
/// chosen: rustls lets a peer pass that offers none at all.
pub const ALPN: &[u8] = b"restpipe/2";

/// Why an identity is not taken. The old one stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A file is not PEM as it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The roots are not usable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The key is of a kind that TLS here cannot use.
    #[error(
        "the key (tls.key) cannot be used ({0}): make a P-256 key, or RSA of 2048 to 8192 bits"
    )]
    Key(String),
    /// Certificate and key are of different versions or nodes.
    #[error(
        "the key (tls.key) does not belong to the certificate (tls.crt) of {0}: install both from the same issue"
    )]
    KeyMismatch(String),
    /// The leaf names no node, or is for another role.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The chain is not trusted.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A client's identity cannot listen, nor a server's dial.
    #[error(
        "the identity of {name} is a {has}'s, not a {wanted}'s: issue one with `restpipe identity {wanted} {name}`"
    )]
    Role {
        /// Its name.
        name: PeerName,
        /// What it is.
        has: Usage,
        /// What was asked.
        wanted: Usage,
    },
    /// The TLS library refuses what was checked before.
    #[error("the TLS configuration cannot be built: {0}")]
    Config(String),
}

impl CredentialsError {
    /// A fixed word for metrics and status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Files(_) => "unreadable",
            Self::Pem(_) => "bad_pem",
            Self::Bundle(_) => "bad_bundle",
            Self::Key(_) => "bad_key",
            Self::KeyMismatch(_) => "key_mismatch",
            Self::Leaf(_) => "bad_leaf",
            Self::Chain(error) => error.reason(),
            Self::Role { .. } => "wrong_role",
            Self::Config(_) => "config",
        }
    }
}

/// One node's identity: chain, key and roots that fitted together when they were taken.
#[derive(Clone)]
pub struct Credentials {
    certified: Arc<CertifiedKey>,
    roots: Roots,
    /// The roots that were within their time when this was taken.
    anchors: Arc<RootCertStore>,
    usage: Usage,
    name: PeerName,
    leaf: CertificateInfo,
    content_hash: String,
    clock: Arc<dyn TimeProvider>,
    /// Made once and shared by all connections: each of thousands would hold
    /// its own copy otherwise.
    server: OnceLock<Arc<ServerConfig>>,
}

impl Credentials {
    /// Takes an identity only if it parses, key and certificate match, the leaf names one node and
    /// is for `usage` alone, and the chain leads to a root of the bundle at `now`.
    pub fn from_pem(
        cert: &[u8],
        key: &[u8],
        ca: &[u8],
        usage: Usage,
        now: SystemTime,
    ) -> Result<Self, CredentialsError> {
        let content_hash = crate::provider::digest(&[cert, key, ca]);
        let chain = pem::certificates(cert, Part::Certificate, MAX_CHAIN)?;
        let key = pem::key(key)?;
        let roots = Roots::from_pem(ca)?;
        let leaf = inspect(&chain[0]).map_err(LeafError::from)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| CredentialsError::Key(one_line(&error.to_string())))?;
        let certified = CertifiedKey::new(chain, key);
        if certified.keys_match().is_err() {
            let of = leaf.names.first().unwrap_or(&leaf.subject).clone();
            return Err(CredentialsError::KeyMismatch(of));
        }
        let name = peer_name(&certified.cert[0], usage)?;
        verify(&certified.cert, &roots, usage, now)?;
        Ok(Self {
            certified: Arc::new(certified),
            anchors: Arc::new(roots.valid_at(now)),
            roots,
            usage,
            name,
            leaf,
            content_hash,
            clock: Arc::new(DefaultTimeProvider),
            server: OnceLock::new(),
        })
    }

    /// [`Self::from_pem`] with the `tls.crt`, `tls.key` and `ca.crt` of `dir`.
    pub fn load(dir: &Path, usage: Usage, now: SystemTime) -> Result<Self, CredentialsError> {
        let NodeFiles { cert, key, ca } = NodeFiles::read(dir)?;
        Self::from_pem(&cert, &key, &ca, usage, now)
    }

    /// The same with another clock for the handshakes, which tests move by hand.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn TimeProvider>) -> Self {
        self.clock = clock;
        self.server = OnceLock::new();
        self
    }

    /// Whose identity it is.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// Which side of a pipe it is for.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What the leaf says: its end, serial number and so on.
    #[must_use]
    pub fn leaf(&self) -> &CertificateInfo {
        &self.leaf
    }

    /// The trusted roots.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// SHA-256 over the three files, in hex, as [`NodeFiles::content_hash`].
    #[must_use]
    pub fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// Whether a live peer's chain would still be accepted: asked of each pipe after the roots
    /// changed, since a handshake is checked only once.
    pub fn still_trusts(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        verify(chain, &self.roots, usage, now)
    }

    /// For the listening side: TLS 1.3 only, a client certificate is required, [`ALPN`].
    ///
    /// No tickets and no session store: a resumed session skips the check of the client's
    /// certificate and would outlive the removal of its CA.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CredentialsError> {
        self.must_be(Usage::Server)?;
        if let Some(made) = self.server.get() {
            return Ok(made.clone());
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.anchors.clone(), provider())
                .build()
                .map_err(config)?;
        let mut tls = ServerConfig::builder_with_details(provider(), self.clock.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.resolver());
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(self.server.get_or_init(|| Arc::new(tls)).clone())
    }

    /// For the dialling side: TLS 1.3 only, the server's certificate must be from our roots and
    /// carry the name given to the connection, [`ALPN`], no resumption.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        self.must_be(Usage::Client)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(self.anchors.clone(), provider())
                .build()
                .map_err(config)?;
        let mut tls = ClientConfig::builder_with_details(provider(), self.clock.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(self.resolver());
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(Arc::new(tls))
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.certified.clone()))
    }

    fn must_be(&self, wanted: Usage) -> Result<(), CredentialsError> {
        if self.usage == wanted {
            return Ok(());
        }
        Err(CredentialsError::Role { name: self.name.clone(), has: self.usage, wanted })
    }
}

impl fmt::Debug for Credentials {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .field("usage", &self.usage)
            .field("serial", &self.leaf.serial)
            .field("not_after", &crate::clock::rfc3339(self.leaf.not_after))
            .finish_non_exhaustive()
    }
}

fn config(error: impl fmt::Display) -> CredentialsError {
    CredentialsError::Config(one_line(&error.to_string()))
}
