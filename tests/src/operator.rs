//! An operator: a peer that only asks, with the same dialler as the real one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use restpipe_identity::{Credentials, PeerName};
use restpipe_pipe::dial::{DialError, dial};
use restpipe_pipe::pb::{Hello, RequestHead, Verb};
use restpipe_pipe::{NoEvents, PipeConfig, PipeHandle, RecvBody, Reply};
use serde_json::Value;

use crate::nodes::SOON;

/// What the operator is called in its certificate.
pub const OPERATOR: &str = "operator.restpipe";

/// Largest answer that a test asks for, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// An operator's pipe to one server.
#[derive(Debug)]
pub struct Operator {
    /// The pipe.
    pub pipe: PipeHandle,
}

impl Operator {
    /// Dials a server that has the name `server_name`.
    ///
    /// # Errors
    /// Why there is no pipe.
    pub async fn dial(
        server: SocketAddr,
        server_name: &str,
        credentials: &Credentials,
        instance: &str,
    ) -> Result<Self, DialError> {
        let hello = Hello {
            instance: instance.to_owned(),
            boot_id: instance.as_bytes().to_vec().into(),
            ..Hello::default()
        };
        let name = PeerName::parse(server_name).expect("a name");
        let config = PipeConfig { hello, ..PipeConfig::default() };
        let dialled = dial(server, &name, credentials, config, Arc::new(NoEvents)).await?;
        Ok(Self { pipe: dialled.pipe })
    }

    async fn reply(&self, verb: Verb, noun: &str, body: Vec<u8>) -> Reply {
        let head =
            RequestHead { verb: verb.into(), noun: noun.to_owned(), ..RequestHead::default() };
        self.pipe.ask(head, body.into(), Instant::now() + SOON).await.expect("an answer")
    }

    /// Status and body of an answer.
    ///
    /// # Panics
    /// If there is none.
    pub async fn ask(&self, verb: Verb, noun: &str, body: impl Into<Vec<u8>>) -> (u32, Value) {
        let Reply { head, mut body } = self.reply(verb, noun, body.into()).await;
        let body = body.read(MAX_ANSWER).await.expect("a whole answer");
        (head.status, serde_json::from_slice(&body).expect("JSON"))
    }

    /// The answer to `-/peers`.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn peers(&self) -> Value {
        let (status, peers) = self.ask(Verb::Get, "-/peers", []).await;
        assert_eq!(status, 200, "{peers}");
        peers
    }

    /// Pushes lists of names and gets the version that counts.
    ///
    /// # Panics
    /// If they are refused.
    pub async fn push(&self, version: u64, clients: &[&str], suspended: &[&str]) -> u64 {
        let lists =
            serde_json::json!({"version": version, "clients": clients, "suspended": suspended});
        let (status, answer) = self.ask(Verb::Put, "-/names", lists.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer["version"].as_u64().expect("a version")
    }

    /// Begins to read events.
    pub async fn events(&self) -> Events {
        let Reply { head, body } = self.reply(Verb::Get, "-/events", Vec::new()).await;
        assert_eq!((head.status, head.mime.as_str()), (200, "text/event-stream"));
        Events { body, text: String::new() }
    }
}

/// A stream of events that is being read.
#[derive(Debug)]
pub struct Events {
    body: RecvBody,
    text: String,
}

impl Events {
    /// The next paragraph of the stream; `None` at its end, which is not one
    /// that broke off.
    ///
    /// # Panics
    /// If neither comes soon, or it breaks off.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((first, rest)) = self.text.split_once("\n\n") {
                let (first, rest) = (first.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(first);
            }
            let chunk = tokio::time::timeout(SOON, self.body.chunk()).await.expect("more, soon");
            let chunk = chunk?.expect("it goes on");
            self.text += std::str::from_utf8(&chunk).expect("ASCII");
        }
    }

    /// The word and the data of the next event, comments left out.
    ///
    /// # Panics
    /// If there is none.
    pub async fn event(&mut self) -> (String, Value) {
        loop {
            let text = self.next().await.expect("an event");
            let event = text.strip_prefix("event: ").and_then(|text| text.split_once("\ndata: "));
            if let Some((word, data)) = event {
                return (word.to_owned(), serde_json::from_str(data).expect("JSON"));
            }
            assert!(text.starts_with(':'), "{text}");
        }
    }
}
