//! The members of an etcd cluster, and the choice of the member to use.
//!
//! etcd-client can balance over several endpoints, but treats one that refuses connections as ready (tonic
//! issue 2839): with two of three members dead, 181 of 300 puts failed. So a connection here leads to one
//! member, all requests use it, and the client switches to the next member if this one is unreachable, does
//! not answer, or has no leader.

mod attempt;
mod connection;

pub(crate) use self::connection::{Connection, Token};

use crate::endpoint::Endpoint;
use crate::error::EtcdError;
use crate::options::EtcdOptions;
use crate::transport::{Dial, Link};
use etcd_client::{Client, GetOptions, StatusResponse};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// How long a connection may be silent while an answer is pending before it is suspected to be dead. A
/// healthy member answers within milliseconds.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(500);

/// The upper limit of that time on a slow link. A registration takes three round trips, and has at most 4 s.
const MAX_SILENCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a call waits for another call that dials before it dials itself.
const SHARING_TIMEOUT: Duration = Duration::from_millis(250);

/// The minimum extra time an answer may take compared to one on another connection.
const MIN_ANSWER_TIME: Duration = Duration::from_millis(50);

/// An etcd cluster of one or more members. A clone is a handle to the same connection.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    endpoints: Arc<[Endpoint]>,
    dial: Dial,
    request_timeout: Duration,
    current: Mutex<Current>,
    /// The lock is held by the call that dials. With a user, dialing includes a login request.
    dialing: tokio::sync::Mutex<()>,
    /// One lock per member, held by the task that probes it over a new connection because another one is silent.
    probing: Vec<tokio::sync::Mutex<()>>,
    /// The longest recent response time, in milliseconds.
    slowest_answer_ms: AtomicU64,
}

/// The member in use.
struct Current {
    member: usize,
    connection: Option<Arc<Connection>>,
}

impl Cluster {
    /// Returns a cluster that is not connected yet. The first member is random, so that a fleet spreads over
    /// all members.
    pub(crate) fn new(endpoints: Arc<[Endpoint]>, dial: Dial, options: &EtcdOptions) -> Self {
        let current =
            Current { member: fastrand::usize(..endpoints.len().max(1)), connection: None };
        let probing = endpoints.iter().map(|_| tokio::sync::Mutex::default()).collect();
        Self(Arc::new(Inner {
            endpoints,
            probing,
            dial,
            request_timeout: options.request_timeout,
            current: Mutex::new(current),
            dialing: tokio::sync::Mutex::default(),
            slowest_answer_ms: AtomicU64::new(0),
        }))
    }

    /// Sends one request to the current member, within the deadline.
    ///
    /// A request that reached no member because its connection failed is retried on the next member. One
    /// whose token was rejected is retried once with a new token. Any other outcome is returned.
    pub(crate) async fn call<T, F>(
        &self,
        request: impl Fn(Arc<Connection>) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        self.with_deadline(|deadline| async move {
            let (mut failed_members, mut is_refreshed) = (0, false);
            loop {
                let connection = match self.connection().await {
                    Ok(connection) => connection,
                    Err(error)
                        if error.is_unsent() && failed_members + 1 < self.0.endpoints.len() =>
                    {
                        failed_members += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let token = connection.token();
                let attempt = self.attempt(&connection, deadline);
                // Boxed, since a request holds a client, of several KiB.
                let outcome = tokio::select! {
                    biased;
                    outcome = Box::pin(request(connection.clone())) => {
                        attempt.finish();
                        outcome
                    }
                    () = connection.closed() => {
                        attempt.finish_recorded();
                        Err(EtcdError::StreamEnded)
                    }
                    never = attempt.suspect_when_silent() => match never {},
                };
                let Err(error) = outcome else { return outcome };
                let error = error.at(connection.endpoint(), connection.problem());
                if error.is_token_rejected() && !is_refreshed {
                    is_refreshed = true;
                    let attempt = self.attempt(&connection, deadline);
                    let refreshed = Box::pin(connection.refresh_token(token)).await;
                    attempt.finish();
                    refreshed?;
                    continue;
                }
                if error.is_member_failure() {
                    self.switch_member(&connection);
                }
                failed_members += 1;
                if !error.is_unsent() || failed_members >= self.0.endpoints.len() {
                    return Err(error);
                }
            }
        })
        .await
    }

    /// Checks that the TLS files can be used.
    pub(crate) async fn check_files(&self) -> registry_core::Result<()> {
        self.0.dial.check_files().await
    }

    /// Returns the members that the URL names.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    /// Asks a member for its status, over a new connection.
    pub(crate) async fn status_of(&self, endpoint: &Endpoint) -> Result<StatusResponse, EtcdError> {
        let status = async {
            let link = Arc::new(Link::new());
            let status = async {
                let client = self.0.dial.connect(endpoint, &link).await?;
                Ok(client.maintenance_client().status().await?)
            };
            let status: Result<_, EtcdError> = status.await;
            status.map_err(|error| error.at(&endpoint.authority, link.problem()))
        };
        self.with_deadline(|_| status).await
    }

    /// Waits for `answer` until the deadline, which is passed to it.
    pub(crate) async fn with_deadline<T, F>(
        &self,
        answer: impl FnOnce(Instant) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        let limit = self.0.request_timeout;
        let deadline = Instant::now() + limit;
        timeout_at(deadline, answer(deadline)).await.unwrap_or_else(|_| {
            let connection = self.current().connection.clone();
            let error = EtcdError::Deadline(limit);
            Err(match connection {
                Some(connection) => error.at(connection.endpoint(), connection.problem()),
                None => error,
            })
        })
    }

    /// Suspects a connection once it was silent for too long while an answer is pending, then gives it until
    /// `deadline`. Never returns.
    pub(crate) async fn suspect_when_silent(
        &self,
        connection: &Arc<Connection>,
        deadline: impl Fn() -> Option<Instant>,
    ) -> Infallible {
        loop {
            let timeout = self.silence_timeout();
            let remaining = timeout.saturating_sub(connection.silence(Instant::now()));
            sleep(if remaining.is_zero() { timeout } else { remaining }).await;
            if let Some(deadline) = deadline()
                && self.suspect_if_silent(connection)
            {
                // The deadline may lie in the past if its caller gave up.
                let deadline = deadline.max(Instant::now() + SILENCE_TIMEOUT);
                self.close_unless_alive_by(deadline, connection);
            }
        }
    }

    /// Returns whether requests use `connection`.
    pub(crate) fn is_current(&self, connection: &Arc<Connection>) -> bool {
        self.current().connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// Returns the current connection, or dials the next member.
    async fn connection(&self) -> Result<Arc<Connection>, EtcdError> {
        let current = self.current().connection.clone();
        let current = current.filter(|connection| !self.suspect_if_silent(connection));
        match current {
            Some(connection) => Ok(connection),
            None => Box::pin(self.dial()).await,
        }
    }

    /// Returns whether the connection has been silent for too long while an answer is pending. If so, new
    /// requests use another connection.
    fn suspect_if_silent(&self, connection: &Arc<Connection>) -> bool {
        let is_silent = connection.silence(Instant::now()) >= self.silence_timeout();
        if is_silent {
            self.replace(connection);
        }
        is_silent
    }

    /// Returns the silence after which a connection is suspected. It is longer on a slow link.
    fn silence_timeout(&self) -> Duration {
        let slowest = Duration::from_millis(self.0.slowest_answer_ms.load(Ordering::Relaxed));
        (2 * slowest).clamp(SILENCE_TIMEOUT, MAX_SILENCE_TIMEOUT)
    }

    /// Records a response time. A slow response affects the next dozen.
    fn record_answer(&self, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let before = self.0.slowest_answer_ms.load(Ordering::Relaxed);
        self.0.slowest_answer_ms.store(took.max(before - before / 8), Ordering::Relaxed);
    }

    async fn dial(&self) -> Result<Arc<Connection>, EtcdError> {
        // The other call may hang on a dead link during its login request.
        let _guard = timeout(SHARING_TIMEOUT, self.0.dialing.lock()).await.ok();
        let member = {
            let mut current = self.current();
            if let Some(connection) = current.connection.clone() {
                return Ok(connection); // made by the call that held the lock
            }
            let member = current.member;
            current.member = self.next_member(member); // in case this one hangs
            member
        };
        let opened = Connection::open(member, &self.0.endpoints[member], &self.0.dial).await;
        let mut current = self.current();
        match opened {
            Ok(connection) => {
                if let Some(made_meanwhile) = &current.connection {
                    return Ok(made_meanwhile.clone());
                }
                let connection = Arc::new(connection);
                *current = Current { member, connection: Some(connection.clone()) };
                Ok(connection)
            }
            Err(error) => {
                if !error.is_member_failure() {
                    current.member = member;
                }
                Err(error)
            }
        }
    }

    /// Sends later requests to the next member, if there is one. Open streams stay on this one.
    pub(crate) fn switch_member(&self, connection: &Arc<Connection>) {
        if self.0.endpoints.len() > 1 {
            self.replace(connection); // etcd-client reconnects to a single member by itself
        }
    }

    /// Closes a silent connection with all streams on it.
    fn close_connection(&self, connection: &Arc<Connection>) {
        self.replace(connection);
        connection.close();
    }

    /// Closes a connection unless it shows a sign of life by the deadline. The probe is a request that each
    /// member answers by itself. If the same member answers on a new connection first, the connection is
    /// closed at once, so that calls that wait on the dead one are retried early.
    fn close_unless_alive_by(&self, deadline: Instant, connection: &Arc<Connection>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(check) = connection.begin_check() else { return };
        let (cluster, connection) = (self.clone(), connection.clone());
        runtime.spawn(async move {
            let start = Instant::now();
            let is_alive = tokio::select! {
                biased;
                answer = timeout_at(deadline, Box::pin(answers_probe(connection.client()))) => answer.is_ok(),
                () = Box::pin(cluster.probe_on_new_connection(&connection)) => false,
            };
            if is_alive {
                cluster.restore(&connection);
            } else if connection.last_activity() < start {
                cluster.close_connection(&connection);
            }
            drop(check);
        });
    }

    /// Returns a moment after the member answers on another connection. The delay is for a member that was
    /// paused: it answers on both connections, in any order.
    async fn probe_on_new_connection(&self, connection: &Connection) {
        let member = &self.0.endpoints[connection.member()];
        let guard = self.0.probing[connection.member()].lock().await;
        loop {
            let start = Instant::now();
            let limit = self.silence_timeout();
            // Without a login, which needs a quorum. A refusal is a sign of life, too.
            let answer = async {
                match self.0.dial.connect_without_user(member).await {
                    Ok(client) => answers_probe(&client).await,
                    Err(_) => false,
                }
            };
            // A connection made while the link is down may stay dead after the link recovers, so each attempt
            // makes a new one.
            if let Ok(true) = timeout(limit, answer).await {
                drop(guard);
                return sleep((2 * start.elapsed()).max(MIN_ANSWER_TIME)).await;
            }
            sleep_until(start + limit).await;
        }
    }

    fn replace(&self, connection: &Arc<Connection>) {
        let mut current = self.current();
        let left = current.connection.take_if(|current| Arc::ptr_eq(current, connection));
        if left.is_some() {
            current.member = self.next_member(current.member);
            drop(current);
            tracing::info!(from = connection.endpoint(), "switched to another connection to etcd");
        }
    }

    /// Uses a suspected connection again after it showed a sign of life, if the cluster has one member and no
    /// other connection was made.
    fn restore(&self, connection: &Arc<Connection>) {
        let mut current = self.current();
        if self.0.endpoints.len() == 1 && current.connection.is_none() {
            let (member, connection) = (connection.member(), Some(connection.clone()));
            *current = Current { member, connection };
        }
    }

    fn next_member(&self, member: usize) -> usize {
        (member + 1) % self.0.endpoints.len()
    }

    /// The lock is held for a few assignments that cannot panic.
    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.0.endpoints).finish()
    }
}

/// Makes a request that each member answers by itself. Returns whether it answered; a refusal counts as an answer.
async fn answers_probe(client: &Client) -> bool {
    let options = GetOptions::new().with_serializable().with_keys_only();
    let answer = client.kv_client().get("\0", Some(options)).await;
    !answer.is_err_and(|error| EtcdError::from(error).is_unsent())
}

#[cfg(test)]
mod tests;
