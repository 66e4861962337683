//! A relay between the nodes that counts TLS records, from outside the TLS.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// The type of a record with anything but a handshake in the clear or an
/// alert (RFC 8446, section 5.1).
const APPLICATION_DATA: u8 = 23;

/// Bytes before each record's payload: type, version, length.
const HEADER: usize = 5;

/// Bytes copied at once.
const BUFFER: usize = 64 * 1024;

/// Relays connections for as long as the bench runs.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Relay {
    /// Passes on to `server` whatever comes.
    pub(crate) fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, counts) = (listener.local_addr()?, Arc::new(Counts::default()));
        let counted = counts.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // The client dials again.
                let _ = relay(client, server, &counted);
            }
        });
        Ok(Self { address, counts })
    }

    /// Records so far: to the server, to the client.
    pub(crate) fn records(&self) -> (u64, u64) {
        (self.counts.to_server.load(Relaxed), self.counts.to_client.load(Relaxed))
    }
}

fn relay(client: TcpStream, server: SocketAddr, counts: &Arc<Counts>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from, to, counted) = (client.try_clone()?, server.try_clone()?, counts.clone());
    thread::spawn(move || copy(from, to, &counted.to_server));
    let counted = counts.clone();
    thread::spawn(move || copy(server, client, &counted.to_client));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let (mut buffer, mut records) = (vec![0; BUFFER], Records::default());
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(records.pass(&buffer[..read]), Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Finds records in a stream.
#[derive(Debug, Default)]
struct Records {
    header: Vec<u8>,
    /// Payload of the current record still to come.
    left: usize,
}

impl Records {
    /// How many records with application data begin in `bytes`.
    fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut found = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let part = self.left.min(bytes.len());
                self.left -= part;
                bytes = &bytes[part..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let [kind, _, _, high, low] = self.header[..HEADER.min(self.header.len())] {
                self.left = usize::from(high) << 8 | usize::from(low);
                found += u64::from(kind == APPLICATION_DATA);
                self.header.clear();
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for (kind, length) in [(22_u8, 300_usize), (23, 1), (20, 1), (23, 0), (23, 600), (21, 2)] {
            stream.extend_from_slice(&[kind, 3, 3, (length >> 8) as u8, length as u8]);
            // What looks like a header inside a payload is none.
            stream.extend(std::iter::repeat_n(23, length));
        }
        for cut in [1, 2, 5, 7, 64, stream.len()] {
            let mut records = Records::default();
            let found: u64 = stream.chunks(cut).map(|piece| records.pass(piece)).sum();
            assert_eq!(found, 3, "cut at {cut}");
        }
    }
}
