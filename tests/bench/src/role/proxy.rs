//! A bare reverse proxy: what a hop of HTTP costs when it does nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use super::{MAX_BUFFER, ready};

/// Arguments of the proxy.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    #[arg(long)]
    app: SocketAddr,
}

pub(super) async fn run(args: ProxyArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move { serve(stream, args.app).await.ok() });
    }
}

/// Each connection has one of its own to the app.
async fn serve(stream: TcpStream, app: SocketAddr) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let upstream = TcpStream::connect(app).await?;
    upstream.set_nodelay(true)?;
    let (sender, driver) = client::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake::<_, Incoming>(TokioIo::new(upstream))
        .await?;
    tokio::spawn(driver);
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let mut sender = sender.lock().await;
            // After a body its connection needs a moment to be free again.
            sender.ready().await?;
            sender.send_request(request).await
        }
    });
    server::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}
