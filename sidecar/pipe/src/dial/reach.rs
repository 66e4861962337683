//! A TCP connection to the first of several addresses that takes one.
//!
//! As Happy Eyeballs does (RFC 8305), a later address is tried beside an
//! earlier one that says nothing. The same goes for one address: the kernel
//! repeats what was lost after 1, 3 and 7 seconds, so when a link that had
//! fallen silent heals, a single attempt would notice seconds later. Another
//! attempt beside it costs a packet, which silence swallows.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// One address takes a connection within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// To an address that says nothing another attempt is made this often; at most
/// ten fit into [`CONNECT_TIMEOUT`]. It is what a link that heals may lose.
const ATTEMPT_EVERY: Duration = Duration::from_millis(500);

/// The next address has its turn when the ones before have said nothing for
/// this long: RFC 8305's "Connection Attempt Delay".
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// An address and what became of it.
type Reached = (SocketAddr, io::Result<TcpStream>);

/// Connects to one of `addresses`. If none takes a connection, the result is
/// the error of the last one that was given up.
pub(super) async fn reach(addresses: &[SocketAddr]) -> Reached {
    let none = io::Error::new(io::ErrorKind::NotFound, "no address");
    let mut last = (SocketAddr::from(([0, 0, 0, 0], 0)), Err(none));
    let mut left = addresses.iter().copied();
    // Aborted with this future, and with it what they have opened.
    let mut pursued = JoinSet::new();
    loop {
        if let Some(address) = left.next() {
            pursued.spawn(async move { (address, pursue(address).await) });
        }
        tokio::select! {
            ended = pursued.join_next() => match ended {
                None => return last,
                Some(Ok((address, Ok(stream)))) => return (address, Ok(stream)),
                Some(Ok(failed)) => last = failed,
                Some(Err(error)) => last.1 = Err(error.into()),
            },
            () = sleep(NEXT_ADDRESS), if left.len() > 0 => {}
        }
    }
}

/// Connects to `address`; the first attempt that is answered, well or not,
/// decides.
async fn pursue(address: SocketAddr) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut every = interval(ATTEMPT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = sleep(CONNECT_TIMEOUT);
    tokio::pin!(end);
    loop {
        tokio::select! {
            biased;
            Some(answered) = attempts.join_next() => return answered?,
            () = &mut end => return Err(io::ErrorKind::TimedOut.into()),
            _ = every.tick() => drop(attempts.spawn(TcpStream::connect(address))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Instant;

    use super::*;

    /// A listener that says nothing: its queue is full, and the kernel drops
    /// who comes. Accepting makes it talk again.
    struct Silent {
        listener: TcpListener,
        _waiting: Vec<TcpStream>,
    }

    impl Silent {
        async fn new() -> Self {
            use socket2::{Domain, Socket, Type};
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            socket.bind(&any.into()).expect("a port");
            socket.listen(0).expect("it listens");
            let listener = TcpListener::from(socket);
            let mut waiting = Vec::new();
            let patience = Duration::from_millis(300);
            let address = listener.local_addr().expect("bound");
            while let Ok(taken) = tokio::time::timeout(patience, TcpStream::connect(address)).await
            {
                waiting.push(taken.expect("there is room"));
                assert!(waiting.len() < 100, "its queue is full at some time");
            }
            Self { listener, _waiting: waiting }
        }

        fn address(&self) -> SocketAddr {
            self.listener.local_addr().expect("bound")
        }
    }

    fn refusing() -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr()).expect("a port")
    }

    #[tokio::test]
    async fn an_address_that_begins_to_talk_is_reached_without_waiting_for_the_kernel() {
        let silent = Silent::new().await;
        let reached = tokio::spawn({
            let address = silent.address();
            async move { (reach(&[address]).await.1.map(drop), Instant::now()) }
        });
        // Right after the kernel's first repetition; its next is at 3 s.
        sleep(Duration::from_millis(1100)).await;
        let healed = Instant::now();
        let listener = silent.listener.try_clone().expect("a listener");
        std::thread::spawn(move || while listener.accept().is_ok() {});
        let (result, at) = reached.await.expect("no panic");
        result.expect("a connection");
        let lost = at.duration_since(healed);
        assert!(lost < Duration::from_secs(1), "reached {lost:?} after it healed");
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_does_not_keep_the_next_one_waiting() {
        let silent = Silent::new().await;
        let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = good.local_addr().expect("bound");
        let began = Instant::now();
        let (reached, stream) = reach(&[silent.address(), refusing(), address]).await;
        stream.expect("a connection");
        assert_eq!(reached, address);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_asked_once_and_silence_has_an_end() {
        let refused = refusing();
        let began = Instant::now();
        let (address, error) = reach(&[refused]).await;
        assert_eq!(address, refused);
        assert_eq!(error.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
        assert!(began.elapsed() < ATTEMPT_EVERY);

        let silent = Silent::new().await;
        let began = Instant::now();
        let (_, error) = reach(&[silent.address()]).await;
        assert_eq!(error.expect_err("silence").kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= CONNECT_TIMEOUT);
        assert_eq!(reach(&[]).await.1.expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }
}
