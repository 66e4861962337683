//! A Service's address, as kube-proxy leads from it to pods.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::spawn;

/// Takes connections and passes them on, each to the next of its backends. What is connected stays
/// connected, whatever the backends are later.
#[derive(Clone, Debug)]
pub struct Proxy {
    backends: Arc<Mutex<Vec<SocketAddr>>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Proxy {
    /// Listens until the test's process ends. Without backends it refuses, as kube-proxy does.
    pub fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| {
            panic!("{address}: {error}: is this the network that kube-run.sh makes?")
        });
        let address = listener.local_addr().unwrap();
        let backends: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let proxy = Self { backends: Arc::clone(&backends), address };
        spawn(move || {
            for client in listener.incoming().flatten() {
                let mut all = backends.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(first) = all.first().copied() else { continue };
                all.rotate_left(1);
                drop(all);
                spawn(move || match TcpStream::connect(first) {
                    Ok(server) => pass(client, server),
                    Err(_) => drop(client),
                });
            }
        });
        proxy
    }

    /// Whom new connections lead to.
    pub fn set(&self, backends: &[SocketAddr]) {
        *self.backends.lock().unwrap_or_else(PoisonError::into_inner) = backends.to_vec();
    }
}

fn pass(client: TcpStream, server: TcpStream) {
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    spawn(move || copy(from_client, to_server));
    copy(server, client);
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
