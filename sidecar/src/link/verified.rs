//! What TLS has shown of a peer, or why it has not.

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use restpipe_identity::explain;
use rustls::CommonState;
use rustls::pki_types::CertificateDer;

/// A fixed word, and a sentence with the cure.
pub(super) type Refusal = (&'static str, String);

/// A peer whose chain rustls has verified. Whom it names is looked at next.
pub(super) struct Verified {
    /// Never empty.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) address: SocketAddr,
    pub(super) not_after: SystemTime,
}

impl Verified {
    /// What a finished handshake has shown.
    pub(super) fn of(session: &CommonState, address: SocketAddr) -> Result<Self, Refusal> {
        // rustls lets a peer through that offers no protocol at all.
        if session.alpn_protocol() != Some(restpipe_proto::ALPN) {
            return Err((
                "alpn",
                "the other side does not speak restpipe/2: is it a RestPipe node?".to_owned(),
            ));
        }
        let shown = session.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = shown.iter().map(|der| der.clone().into_owned()).collect();
        let leaf = chain
            .first()
            .ok_or(("cert_required", "the other side showed no certificate".to_owned()))?;
        let info =
            restpipe_identity::inspect(leaf).map_err(|error| ("bad_cert", error.to_string()))?;
        Ok(Self { not_after: info.not_after, chain, address })
    }

    /// The peer's own certificate.
    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }
}

/// What a failed handshake means.
pub(super) fn explain_io(error: &io::Error) -> Refusal {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => {
            let explained = explain(tls, SystemTime::now());
            (explained.reason, explained.text)
        }
        None => ("tls", format!("the other side ended the handshake: {error}")),
    }
}
