//! The asking side of HTTP/1.1, driven by the task that uses it, as the
//! node's connections to its app are.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::MAX_BUFFER;

type Io = TokioIo<TcpStream>;

/// One kept connection.
pub(super) struct Http {
    sender: SendRequest<Empty<Bytes>>,
    driver: Connection<Io, Empty<Bytes>>,
    host: HeaderValue,
}

impl Http {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("no one at {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, driver) =
            Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await?;
        let host = HeaderValue::try_from(address.to_string())?;
        Ok(Self { sender, driver, host })
    }

    /// Asks for `path`, and tells `seen` how many bytes of body came, as they come.
    pub(super) async fn get(
        &mut self,
        path: &Uri,
        mut seen: impl FnMut(usize),
    ) -> anyhow::Result<()> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.clone();
        request.headers_mut().insert(header::HOST, self.host.clone());
        let mut response = self.send(request).await?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "{path} was answered with {status}");
        self.body(response.body_mut(), |bytes| seen(bytes.len())).await
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> anyhow::Result<Response<Incoming>> {
        // After an answer the connection has yet to say that it takes more.
        std::future::poll_fn(|cx| {
            let _ = Pin::new(&mut self.driver).poll(cx);
            Poll::Ready(())
        })
        .await;
        let mut sent = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        Ok(std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = sent.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            let _ = Pin::new(&mut *driver).poll(cx);
            sent.as_mut().poll(cx)
        })
        .await?)
    }

    /// Reads a body to its end, and shows its parts to `seen` as they come.
    pub(super) async fn body(
        &mut self,
        body: &mut Incoming,
        mut seen: impl FnMut(&Bytes),
    ) -> anyhow::Result<()> {
        let driver = &mut self.driver;
        std::future::poll_fn(|cx| {
            let mut driven = false;
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Some(data) = frame.data_ref() {
                            seen(data);
                        }
                        driven = false;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending if driven => return Poll::Pending,
                    Poll::Pending => {
                        let _ = Pin::new(&mut *driver).poll(cx);
                        driven = true;
                    }
                }
            }
        })
        .await?;
        Ok(())
    }
}
