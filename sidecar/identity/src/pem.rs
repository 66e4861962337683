//! Reading PEM strictly: known blocks, blank lines, and nothing else.
//!
//! Text between blocks is refused rather than skipped, since a block spoilt in transit would turn
//! into such text and be missed without a word.

use std::fmt;
use std::str;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::inspect::one_line;

/// Bytes of a certificate file. A P-256 leaf takes 700; cert-manager's cap for a chain.
pub const MAX_CERT_BYTES: usize = 36_500;

/// Bytes of a key file. RSA of 8192 bits takes 6 400; the rest is room for line ends.
pub const MAX_KEY_BYTES: usize = 13_000;

/// Bytes of a CA bundle: cert-manager's cap, room for [`MAX_ROOTS`](crate::MAX_ROOTS) big roots.
pub const MAX_BUNDLE_BYTES: usize = 330_000;

/// Certificates in a chain, the leaf included. Ours has one; webpki follows 6 intermediates.
pub const MAX_CHAIN: usize = 8;

/// Which of a node's three files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `tls.crt`
    Certificate,
    /// `tls.key`
    Key,
    /// `ca.crt`
    Bundle,
}

impl Part {
    /// Bytes it may have.
    #[must_use]
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Certificate => MAX_CERT_BYTES,
            Self::Key => MAX_KEY_BYTES,
            Self::Bundle => MAX_BUNDLE_BYTES,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate file (tls.crt)",
            Self::Key => "key file (tls.key)",
            Self::Bundle => "CA bundle (ca.crt)",
        })
    }
}

/// Why a file was not read as PEM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// Nothing in it.
    #[error("the {0} is empty: it holds no PEM block, write it again")]
    Empty(Part),
    /// Over its cap.
    #[error("the {part} has more than {} bytes: it is not what it should be", .part.max_bytes())]
    TooLarge {
        /// Which file.
        part: Part,
    },
    /// Something outside a block.
    #[error(
        "the {part} has text outside a PEM block in line {line}: a block is damaged or the text should go"
    )]
    Junk {
        /// Which file.
        part: Part,
        /// From 1.
        line: usize,
    },
    /// A block without its end, or whose end has another label.
    #[error(
        "the {part} has a PEM block from line {line} without its END line: the file was cut, write it again"
    )]
    Unterminated {
        /// Which file.
        part: Part,
        /// Where the block begins, from 1.
        line: usize,
    },
    /// Not base64 between BEGIN and END.
    #[error(
        "the {part} has a PEM block from line {line} that is not base64: the file is damaged, write it again"
    )]
    NotBase64 {
        /// Which file.
        part: Part,
        /// Where the block begins, from 1.
        line: usize,
    },
    /// A block of another kind, such as a key in the certificate file.
    #[error(
        "the {part} holds a {label} block in line {line}, which does not belong there: were two files mixed up?"
    )]
    WrongBlock {
        /// Which file.
        part: Part,
        /// What the BEGIN line says.
        label: String,
        /// From 1.
        line: usize,
    },
    /// A key under a passphrase: no one is there to type it.
    #[error("the {0} is encrypted: remove the passphrase with `openssl pkey -in OLD -out tls.key`")]
    Encrypted(Part),
    /// More certificates than the chain may have.
    #[error(
        "the {part} holds {found} certificates, at most {most} are read: remove what is not needed"
    )]
    TooMany {
        /// Which file.
        part: Part,
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// Two keys.
    #[error("the {0} holds several keys: keep the one that belongs to tls.crt")]
    SeveralKeys(Part),
}

/// The certificates of `bytes`, at least one and at most `most`.
pub fn certificates(
    bytes: &[u8],
    part: Part,
    most: usize,
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> = blocks(bytes, part)?
        .into_iter()
        .map(|block| match block.kind {
            Some(SectionKind::Certificate) => Ok(CertificateDer::from(block.der)),
            _ => Err(block.misplaced(part)),
        })
        .collect::<Result<_, _>>()?;
    if found.len() > most {
        return Err(PemError::TooMany { part, found: found.len(), most });
    }
    Ok(found)
}

/// The one private key of `bytes`: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
pub(crate) fn key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let part = Part::Key;
    let mut found = None;
    for block in blocks(bytes, part)? {
        // `openssl ecparam -genkey` writes the curve's name in front of the key.
        if block.label == "EC PARAMETERS" {
            continue;
        }
        let key = match block.kind {
            Some(SectionKind::PrivateKey) => PrivateKeyDer::Pkcs8(block.der.into()),
            Some(SectionKind::EcPrivateKey) => PrivateKeyDer::Sec1(block.der.into()),
            Some(SectionKind::RsaPrivateKey) => PrivateKeyDer::Pkcs1(block.der.into()),
            _ => return Err(block.misplaced(part)),
        };
        if found.replace(key).is_some() {
            return Err(PemError::SeveralKeys(part));
        }
    }
    found.ok_or(PemError::Empty(part))
}

struct Block {
    label: String,
    /// Known to rustls, else none and no `der`.
    kind: Option<SectionKind>,
    der: Vec<u8>,
    line: usize,
}

impl Block {
    fn misplaced(self, part: Part) -> PemError {
        PemError::WrongBlock { part, label: self.label, line: self.line }
    }
}

fn blocks(bytes: &[u8], part: Part) -> Result<Vec<Block>, PemError> {
    if bytes.len() > part.max_bytes() {
        return Err(PemError::TooLarge { part });
    }
    // Some editors on Windows begin every file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut found = Vec::new();
    let mut open: Option<(String, usize, Vec<u8>)> = None;
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = raw.trim_ascii();
        match (&mut open, marker(text, b"-----BEGIN "), marker(text, b"-----END ")) {
            (None, Some(label), _) => {
                let mut body = text.to_vec();
                body.push(b'\n');
                open = Some((label, index + 1, body));
            }
            (None, ..) if text.is_empty() => {}
            (None, ..) => return Err(PemError::Junk { part, line: index + 1 }),
            (Some((_, line, _)), Some(_), _) => {
                return Err(PemError::Unterminated { part, line: *line });
            }
            (Some((label, line, _)), _, Some(end)) if *label != end => {
                return Err(PemError::Unterminated { part, line: *line });
            }
            (Some((_, _, body)), _, end) => {
                if text.starts_with(b"Proc-Type:") && text.ends_with(b"ENCRYPTED") {
                    return Err(PemError::Encrypted(part));
                }
                body.extend_from_slice(text);
                body.push(b'\n');
                if end.is_some()
                    && let Some(whole) = open.take()
                {
                    found.push(decode(whole, part)?);
                }
            }
        }
    }
    match open {
        Some((_, line, _)) => Err(PemError::Unterminated { part, line }),
        None if found.is_empty() => Err(PemError::Empty(part)),
        None => Ok(found),
    }
}

/// The label of a `-----BEGIN label-----` line.
fn marker(line: &[u8], prefix: &[u8]) -> Option<String> {
    let label = line.strip_prefix(prefix)?.strip_suffix(b"-----")?;
    str::from_utf8(label).ok().map(one_line)
}

fn decode((label, line, text): (String, usize, Vec<u8>), part: Part) -> Result<Block, PemError> {
    if label == "ENCRYPTED PRIVATE KEY" {
        return Err(PemError::Encrypted(part));
    }
    // rustls decodes key material in constant time and skips labels it does not know.
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&text);
    match sections.next() {
        Some(Ok((kind, der))) => Ok(Block { label, kind: Some(kind), der, line }),
        Some(Err(_)) => Err(PemError::NotBase64 { part, line }),
        None => Ok(Block { label, kind: None, der: Vec::new(), line }),
    }
}
