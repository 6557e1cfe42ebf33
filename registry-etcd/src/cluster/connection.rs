//! A connection to one member.

use crate::error::EtcdError;
use etcd_client::{Client, ConnectOptions};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Where a member is.
pub(crate) struct Endpoint {
    /// `host:port`
    pub(crate) authority: String,
    /// `http://host:port` or `https://host:port`
    pub(crate) url: String,
}

/// Which of a connection's tokens a request was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// A connection to one member, made anew by the client below when it breaks.
pub(crate) struct Connection {
    client: Client,
    endpoint: String,
    start: Instant,
    /// When anything was heard last, in milliseconds since the start.
    heard: AtomicU64,
    /// How many tokens there were before this one.
    tokens: AtomicU64,
    renewing: Mutex<()>,
    /// Whether it was given up.
    over: watch::Sender<bool>,
}

impl Connection {
    /// With a user, this is a request: for a token.
    pub(super) async fn open(
        endpoint: &Endpoint,
        dial: &ConnectOptions,
    ) -> Result<Self, EtcdError> {
        // Boxed, since a client and the future that makes it take several KiB.
        let client = Box::pin(Client::connect([&endpoint.url], Some(dial.clone()))).await?;
        Ok(Self {
            client,
            endpoint: endpoint.authority.clone(),
            start: Instant::now(),
            heard: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            renewing: Mutex::new(()),
            over: watch::Sender::new(false),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where it leads: `host:port`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Something was heard on it, at `now`.
    pub(crate) fn heard(&self, now: Instant) {
        let age = u64::try_from((now - self.start).as_millis()).unwrap_or(u64::MAX);
        self.heard.store(age, Ordering::Relaxed);
    }

    pub(super) fn last_heard(&self) -> Instant {
        self.start + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    pub(crate) fn token(&self) -> Token {
        Token(self.tokens.load(Ordering::Acquire))
    }

    /// Has a new token made in place of `refused`, unless another request has had that done already.
    pub(crate) async fn renew_token(&self, refused: Token) -> Result<(), EtcdError> {
        let _turn = self.renewing.lock().await;
        if self.token() == refused {
            self.client.refresh_token().await?;
            self.tokens.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Ends what is open on it.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Waits until it is given up.
    pub(crate) async fn ended(&self) {
        // It cannot fail: the sender is this.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }
}
