//! A balanced channel to the instances of a service.

use crate::body::ResponseBody;
use crate::clock::after;
use crate::context::ChannelContext;
use crate::metrics::Meters;
use crate::options::ChannelOptions;
use crate::replay::Replay;
use crate::state::ChannelState;
use crate::status::FailureCause;
use crate::task::{ChannelTask, Source};
use crate::wait::Wait;
use futures_util::future::poll_immediate;
use http::{Request, Response};
use registry_core::{Address, BoxError};
use registry_engine::View;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::transport::Channel as Transport;
use tonic::{Status, TimeoutExpired};
use tower_service::Service;

/// The number of refusals after which a call fails.
const MAX_REFUSALS: usize = 3;

/// A channel to all instances of a service. Use it in place of tonic's.
///
/// * **Balancing.** The channel draws two endpoints at random and sends the call to the better one,
///   by latency and calls in flight.
/// * **Connections.** The channel connects to each endpoint as soon as it is listed, and reconnects
///   after a loss, without waiting for a call. An endpoint that is not connected gets no calls.
/// * **Draining.** Instances that drain or have weight 0 get no new calls. Calls in flight continue.
/// * **Ejection.** An endpoint that fails repeatedly gets no calls for a while.
/// * **Retries.** A call that no server has processed goes to another endpoint: its connection was
///   lost before it was sent, or the server refused it. A call that a server may have processed is
///   not retried, since only the caller knows whether it is safe to repeat.
///
/// A clone is a cheap handle to the same connections. They close when the last clone is dropped.
///
/// ```
/// use registry_engine::{Discovery, DiscoveryOptions};
/// use registry_mem::MemRegistry;
/// use registry_tonic::{Channel, ChannelOptions};
/// use std::sync::Arc;
/// use tonic_health::pb::health_client::HealthClient;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> registry_core::Result<()> {
/// let registry = Arc::new(MemRegistry::new());
/// let discovery = Discovery::new(registry, DiscoveryOptions::default());
/// let view = discovery.view(&"user.rpc".parse()?);
/// let channel = Channel::new(view, ChannelOptions::default());
/// let mut client = HealthClient::new(channel); // or any other generated client
///
/// let status = client.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap_err();
/// assert!(status.message().starts_with("no instance of `user.rpc` is registered"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

/// State shared by all clones of a channel. Dropping it ends the task.
struct Shared {
    state: Arc<ChannelState>,
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Channel {
    /// Creates a channel to the service of `view`.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn new(view: View, options: ChannelOptions) -> Self {
        let meters = Meters::new(view.service().as_str());
        Self::with_source(format!("`{}`", view.service()), meters, Source::View(view), options)
    }

    /// Creates a channel to `addresses`, without a registry.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn fixed(addresses: impl IntoIterator<Item = Address>, options: ChannelOptions) -> Self {
        let source = Source::Fixed(Vec::from_iter(addresses));
        Self::with_source("the given addresses".into(), Meters::new("direct"), source, options)
    }

    /// Waits until an endpoint is connected, for at most `within`.
    ///
    /// Calls wait for a connection themselves. Use this for a process that should not start while
    /// the service cannot be reached.
    ///
    /// # Errors
    ///
    /// `Unavailable` after `within`, with the reason. The channel keeps trying to connect.
    pub async fn ready(&self, within: Duration) -> Result<(), Status> {
        let state = &self.shared.state;
        let until = after(Instant::now(), within);
        loop {
            let mut changed = std::pin::pin!(state.changed());
            changed.as_mut().enable();
            if !state.balancer.candidates().is_empty() {
                return Ok(());
            }
            if timeout_at(until, changed).await.is_err() {
                return Err(Status::unavailable(state.connectivity().reason()));
            }
        }
    }

    fn with_source(name: String, meters: Meters, source: Source, options: ChannelOptions) -> Self {
        let context = Arc::new(ChannelContext::new(name, meters, options));
        let state = Arc::new(ChannelState::new(context));
        let task = tokio::spawn(ChannelTask::new(source, state.clone()).run());
        Self { shared: Arc::new(Shared { state, task: task.abort_handle() }) }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Always returns ready: the future of a call waits for an endpoint.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(send(self.shared.clone(), request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = &self.shared.state;
        let connected = state.balancer.candidates().into_iter().map(|key| key.address);
        f.debug_struct("Channel")
            .field("name", &state.context.name)
            .field("connected", &connected.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Sends a call, and retries it while no server has processed it. It holds a handle of the channel,
/// so that the connections stay open while the call waits.
async fn send(
    shared: Arc<Shared>,
    request: Request<Body>,
) -> Result<Response<ResponseBody>, Status> {
    let state = &shared.state;
    let ChannelContext { options, headers, .. } = &*state.context;
    let begun = Instant::now();
    let mut request = Replay::new(request, headers);
    let limit = match (request.timeout(), options.timeout) {
        (None, Some(ours)) => {
            request.set_timeout(ours);
            Some(ours)
        }
        (stated, _) => stated,
    };
    let wait = Wait::new(begun, limit, options.wait);
    let mut refused = Vec::new();
    let mut call = match state.try_begin(begun, &refused) {
        Some(call) => call,
        None => Box::pin(state.begin(&mut request, wait, &refused)).await?,
    };
    loop {
        let error = match attempt(&mut call.channel(), &mut request, wait.deadline).await {
            Ok(response) => {
                let call = call.answered(&response);
                return Ok(response.map(|body| ResponseBody::new(body, call, wait.deadline)));
            }
            Err(error) => error,
        };
        let cause = FailureCause::from_error(&*error);
        let may_move_on = match cause {
            FailureCause::NeverSent => true,
            FailureCause::Refused => refused.len() + 1 < MAX_REFUSALS,
            _ => false,
        };
        if !may_move_on || Instant::now() >= wait.until || !request.is_replayable() {
            return Err(call.failed(cause, error));
        }
        let left = call.move_on(cause);
        refused.extend(left.filter(|_| cause == FailureCause::Refused));
        call = Box::pin(state.begin(&mut request, wait, &refused)).await?;
    }
}

/// Sends a request, and waits for the headers of its response.
async fn attempt(
    channel: &mut Transport,
    request: &mut Replay,
    deadline: Option<Instant>,
) -> Result<Response<Body>, BoxError> {
    let mut ready = poll_fn(|cx| channel.poll_ready(cx));
    match (poll_immediate(&mut ready).await, deadline) {
        (Some(ready), _) => ready?,
        (None, None) => ready.await?,
        (None, Some(deadline)) => {
            timeout_at(deadline, ready).await.map_err(|_| TimeoutExpired(()))??;
            // tonic's timer starts when its channel takes the call: subtract the wait before that.
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
    Ok(channel.call(request.attempt()).await?)
}
