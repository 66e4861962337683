//! Names in certificates, issuing them, and checking them before use.
//!
//! One leaf names one node: exactly one DNS name of a chain-verified certificate decides who a
//! peer is. This crate holds those rules ([`peer_name`]), the checks a certificate passes before a
//! node takes it ([`Credentials`]), the TLS configurations made from it, and the certificate
//! authority that issues it ([`CertificateAuthority`]). It opens no sockets and prints nothing.

mod bundle;
mod ca;
mod check;
mod clock;
mod credentials;
mod explain;
mod files;
mod inspect;
mod issue;
mod leaf;
mod name;
mod path;
mod pem;
mod provider;
mod store;

pub use bundle::{BundleError, MAX_ROOTS, Root, Roots};
pub use ca::{CA_LIFETIME, CertificateAuthority};
pub use check::{ChainError, root_of, verify};
pub use clock::rfc3339;
pub use credentials::{ALPN, Credentials, CredentialsError};
pub use explain::{Explanation, explain};
pub use files::{CA_CERT, FilesError, NodeFiles, Stamp, TLS_CERT, TLS_KEY};
pub use inspect::{CertificateInfo, Unreadable, inspect};
pub use issue::{
    BACKDATE, IssueError, IssuedLeaf, KeyPem, LEAF_LIFETIME, LONG_LEAF_LIFETIME, LeafRequest,
};
pub use leaf::{LeafError, Usage, peer_name};
pub use name::{NameError, PeerName};
pub use path::PathFault;
pub use pem::{
    MAX_BUNDLE_BYTES, MAX_CERT_BYTES, MAX_CHAIN, MAX_KEY_BYTES, Part, PemError, certificates,
};
pub use provider::provider;
pub use store::{CA_KEY, Install, Overwrite, StoreError, install, load_ca, save_ca, write_node};
