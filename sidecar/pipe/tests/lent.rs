//! Bodies whose bytes count as taken only once they are dropped.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use restpipe_pipe::pb::ReplyHead;
use restpipe_pipe::{Budget, Call, Incoming, NoEvents, PipeConfig, Role, Service, open};
use restpipe_proto::INITIAL_CREDIT;

/// Holds all that comes, as a writer does whose socket takes nothing.
#[derive(Clone, Default)]
struct HeldUp(Arc<Mutex<Vec<Bytes>>>);

impl HeldUp {
    /// The socket takes what is there.
    fn write(&self) -> usize {
        let held = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        held.iter().map(Bytes::len).sum()
    }
}

impl Service for HeldUp {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let held = self.clone();
        Box::pin(async move {
            let Incoming { mut body, responder, .. } = event;
            while let Some(Ok(chunk)) = std::future::poll_fn(|cx| body.poll_lent(cx)).await {
                held.0.lock().expect("not poisoned").push(chunk);
            }
            responder.reply(ReplyHead::default(), Bytes::new()).expect("a small head");
        })
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_held_up_behind_the_consumer_are_part_of_its_window() {
    const BODY: usize = 100_000;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (near, driver) = open(near, Role::Dialer, PipeConfig::default(), Arc::new(NoEvents));
    tokio::spawn(driver);
    let held = HeldUp::default();
    // A budget of next to nothing leaves each stream its floor.
    let config = PipeConfig { budget: Budget::new(1), ..PipeConfig::default() };
    let (_far, driver) = open(far, Role::Acceptor, config, Arc::new(held.clone()));
    tokio::spawn(driver);
    near.opened().await.expect("opens");

    let later = (tokio::time::Instant::now() + Duration::from_secs(60)).into_std();
    let (head, body) = (Arc::default(), Bytes::new());
    let call = Call { head, body, end: false, deadline: later, wait_until: later };
    let mut call = near.start(call).await.expect("starts");
    let mut sender = call.body.take().expect("the body is streamed");
    tokio::spawn(async move {
        sender.send(vec![7; BODY].into()).await.expect("it is wanted");
        sender.end();
    });
    let mut all = 0;
    while all < BODY {
        // The clock moves on when nothing else is to be done.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let bytes = held.write();
        assert!(bytes > 0 && bytes <= INITIAL_CREDIT as usize, "{bytes} bytes at once");
        all += bytes;
    }
    call.reply.wait().await.expect("an answer");
}
