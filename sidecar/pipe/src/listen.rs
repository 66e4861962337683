//! Listening on an address, or on every address there is.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// What Linux says where there is no IPv6; the standard library has no name for it.
const EAFNOSUPPORT: i32 = 97;

/// Listens on `address`, from inside a runtime; `backlog` connections may wait to be accepted.
/// Whoever asks for `[::]` gets every address there is: those of IPv4 too, and only those on a
/// machine without IPv6. So one setting does for all pods, whatever their cluster has.
///
/// # Errors
/// If that cannot be.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    anywhere(address, |address| listen_on(address, backlog))
}

/// Tries `address`, and for `[::]` where there is no IPv6 its like of IPv4.
fn anywhere<T>(
    address: SocketAddr,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    match attempt(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_absent(&error) => {
            attempt((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whether it takes IPv4 too is a setting of the machine otherwise.
        socket2::SockRef::from(&socket).set_only_v6(false)?;
    }
    // A process that was restarted takes its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Whether that is what a machine says which has no such address, or nothing of its kind.
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    matches!(error.kind(), AddrNotAvailable | Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux says where an address of the family cannot be had, or is taken.
    const EADDRNOTAVAIL: i32 = 99;
    const EADDRINUSE: i32 = 98;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// What is tried on a machine where everything of IPv6 fails so, and what comes of it.
    fn tried(wanted: &str, errno: i32) -> (Vec<SocketAddr>, io::Result<SocketAddr>) {
        let mut tried = Vec::new();
        let result = anywhere(address(wanted), |address| {
            tried.push(address);
            if address.is_ipv6() { Err(io::Error::from_raw_os_error(errno)) } else { Ok(address) }
        });
        (tried, result)
    }

    #[test]
    fn every_address_is_every_one_of_ipv4_where_there_is_no_ipv6() {
        for errno in [EAFNOSUPPORT, EADDRNOTAVAIL] {
            for (wanted, instead) in [("[::]:0", "0.0.0.0:0"), ("[::]:7072", "0.0.0.0:7072")] {
                let (attempts, result) = tried(wanted, errno);
                assert_eq!(attempts, [address(wanted), address(instead)], "{errno}");
                assert_eq!(result.expect("it listens"), address(instead));
            }
        }
    }

    #[test]
    fn nothing_else_is_listened_on_instead() {
        // Another process has the port.
        let (attempts, result) = tried("[::]:7072", EADDRINUSE);
        assert_eq!(attempts, [address("[::]:7072")]);
        assert_eq!(result.expect_err("it is taken").raw_os_error(), Some(EADDRINUSE));
        // One address of IPv6 is not every address of IPv4, least of all this machine's own.
        for wanted in ["[::1]:7070", "[2001:db8::1]:7072"] {
            let (attempts, result) = tried(wanted, EAFNOSUPPORT);
            assert_eq!(attempts, [address(wanted)]);
            assert!(is_absent(&result.expect_err("there is none")));
        }
    }

    #[test]
    fn what_is_listened_on_first_is_kept() {
        let mut attempts = 0;
        let result = anywhere(address("[::]:0"), |address| {
            attempts += 1;
            Ok(address)
        });
        assert_eq!((result.expect("it listens"), attempts), (address("[::]:0"), 1));
    }
}
