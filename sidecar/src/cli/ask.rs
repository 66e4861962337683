//! One GET of a node's own endpoints.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use restpipe_config::AppAddress;
use tokio::net::{TcpStream, UnixStream};

use crate::io::Io;

/// The whole exchange: the node is on this machine, or a port-forward away.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the largest answer: tables of some ten thousand peers.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Gets `path` from the node at `url`.
///
/// # Errors
/// If there is no node, or it answers something else than 200.
pub(super) async fn get(url: &str, path: &str) -> anyhow::Result<Bytes> {
    let exchange = tokio::time::timeout(TIMEOUT, exchange(url, path));
    let (status, body) =
        exchange.await.with_context(|| format!("{url} did not answer within {TIMEOUT:?}"))??;
    if status != StatusCode::OK {
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no RestPipe node answers there");
        bail!("{url}{path}: {status}: {detail}");
    }
    Ok(body)
}

async fn exchange(url: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let address: AppAddress = url.parse().with_context(|| format!("--url {url}"))?;
    let (io, host) = connect(&address)
        .await
        .with_context(|| format!("no node at {url}: is it running? name its address by --url"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{url}{path}: {error}"))?.to_bytes();
    connection.abort();
    Ok((status, body))
}

async fn connect(address: &AppAddress) -> std::io::Result<(Io, String)> {
    match address {
        AppAddress::Unix(path) => {
            Ok((Io::Unix(UnixStream::connect(path).await?), "localhost".to_owned()))
        }
        AppAddress::Http { host, port } => {
            let host = host.to_string();
            let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port)).await?;
            Ok((Io::Tcp(stream), format!("{host}:{port}")))
        }
    }
}
