//! A connection to one member.

use crate::endpoint::Endpoint;
use crate::error::EtcdError;
use crate::transport::{Dial, Link, Problem};
use etcd_client::Client;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::Instant;

/// The token generation of a connection that a request was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// The number of pending answers, and since when at least one is pending.
#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    since: Option<Instant>,
}

/// A connection to one member. etcd-client reconnects it when it breaks.
pub(crate) struct Connection {
    client: Client,
    endpoint: String,
    /// The index of the member in the URL.
    member: usize,
    link: Arc<Link>,
    waiting: std::sync::Mutex<Waiting>,
    /// How many times the token was refreshed.
    token_generation: AtomicU64,
    refreshing: Mutex<()>,
    /// The lock is held by the task that probes the connection.
    check: Arc<Mutex<()>>,
    /// Whether it was closed.
    closed: watch::Sender<bool>,
}

impl Connection {
    /// Connects to a member. With a user, this sends a login request for a token.
    pub(super) async fn open(
        member: usize,
        endpoint: &Endpoint,
        dial: &Dial,
    ) -> Result<Self, EtcdError> {
        let link = Arc::new(Link::new());
        let client = dial.connect(endpoint, &link).await;
        let client = client.map_err(|error| error.at(&endpoint.authority, link.problem()))?;
        Ok(Self {
            client,
            endpoint: endpoint.authority.clone(),
            member,
            link,
            waiting: std::sync::Mutex::default(),
            check: Arc::default(),
            token_generation: AtomicU64::new(0),
            refreshing: Mutex::new(()),
            closed: watch::Sender::new(false),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the member's `host:port`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn member(&self) -> usize {
        self.member
    }

    /// Returns what is wrong with the server, if that is known.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.link.problem()
    }

    /// Records a pending answer, until [`end_wait`](Self::end_wait).
    pub(super) fn begin_wait(&self, now: Instant) {
        let mut waiting = self.waiting();
        waiting.count += 1;
        waiting.since.get_or_insert(now);
    }

    pub(super) fn end_wait(&self) {
        let mut waiting = self.waiting();
        waiting.count -= 1;
        if waiting.count == 0 {
            waiting.since = None;
        }
    }

    /// Returns how long nothing was received while an answer is pending.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let since = self.waiting().since;
        since.map_or(Duration::ZERO, |since| now - since.max(self.last_activity()))
    }

    /// The lock is held for a few assignments that cannot panic.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.link.received_bytes()
    }

    pub(super) fn last_activity(&self) -> Instant {
        self.link.last_activity()
    }

    /// Returns a guard for probing the connection, unless a probe is running.
    pub(super) fn begin_check(&self) -> Option<OwnedMutexGuard<()>> {
        self.check.clone().try_lock_owned().ok()
    }

    pub(crate) fn token(&self) -> Token {
        Token(self.token_generation.load(Ordering::Acquire))
    }

    /// Replaces the token `refused`, unless another request has already replaced it.
    pub(crate) async fn refresh_token(&self, refused: Token) -> Result<(), EtcdError> {
        let _guard = self.refreshing.lock().await;
        if self.token() == refused {
            self.client.refresh_token().await?;
            self.token_generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Ends the streams that are open on the connection.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until the connection is closed.
    pub(crate) async fn closed(&self) {
        // It cannot fail, since `self` owns the sender.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}
