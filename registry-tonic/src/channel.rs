//! A channel to a service, wherever its instances are.

use crate::body::ResponseBody;
use crate::call::Call;
use crate::clock::{Ticks, after};
use crate::keeper::{Keeper, Outlook, Source};
use crate::metrics::Meters;
use crate::options::ChannelOptions;
use crate::picker::Picker;
use crate::replay::Replay;
use crate::status::Cause;
use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response};
use registry_core::{Address, BoxError};
use registry_engine::View;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Status, TimeoutExpired};
use tower_service::Service;

/// So often a call that a server refused is given to another.
const MAX_REFUSALS: u32 = 3;

/// So often another endpoint is picked where somebody else was faster to probe it.
const MAX_PICKS: u32 = 3;

/// A channel to all instances of a service: use it in place of tonic's.
///
/// Each call goes to the better of two endpoints that are drawn at random, by their latency and by how many
/// calls they have. Endpoints are connected to as soon as they are listed, and lost connections made
/// anew, without waiting for a call. Draining instances, and those of weight 0, get no new calls; calls
/// under way go on. An endpoint that cannot be reached gets none, and one that keeps failing none for a while.
/// A call that no server has looked at, because its connection was just lost or the server says that it takes
/// no more, goes to another endpoint. What a server may have looked at is not repeated, since only its
/// caller knows whether it may be.
///
/// A clone is a cheap handle to the same connections. They are closed with the last one.
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
/// assert_eq!(status.message(), "no instance of `user.rpc` is registered");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

/// What the handles of one channel share. With it goes the task.
struct Shared {
    board: Arc<Board>,
    keeper: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What the task of a channel publishes.
pub(crate) struct Board {
    /// What is called, for messages.
    pub(crate) name: String,
    pub(crate) options: Arc<ChannelOptions>,
    pub(crate) meters: Meters,
    /// The metadata of the options.
    headers: HeaderMap,
    start: Instant,
    scene: ArcSwap<Scene>,
    changed: Notify,
}

struct Scene {
    picker: Picker,
    outlook: Outlook,
}

impl Channel {
    /// A channel to the service of `view`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(view: View, options: ChannelOptions) -> Self {
        let meters = Meters::new(view.service().as_str());
        Self::of(format!("`{}`", view.service()), meters, Source::View(view), options)
    }

    /// A channel to `addresses`, without a registry.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn fixed(addresses: impl IntoIterator<Item = Address>, options: ChannelOptions) -> Self {
        let source = Source::Fixed(Vec::from_iter(addresses));
        Self::of("the given addresses".into(), Meters::new("direct"), source, options)
    }

    /// Waits until an endpoint is connected to, or for `within`.
    ///
    /// Nobody has to: a call waits by itself. It is for those who would rather not start than start without.
    ///
    /// # Errors
    ///
    /// `Unavailable` after `within`, with the reason. The channel goes on trying.
    pub async fn ready(&self, within: Duration) -> Result<(), Status> {
        let board = &self.shared.board;
        let until = after(Instant::now(), within);
        loop {
            let mut changed = std::pin::pin!(board.changed.notified());
            changed.as_mut().enable();
            let scene = board.scene.load_full();
            if scene.picker.pick(board.now()).is_some() {
                return Ok(());
            }
            if timeout_at(until, changed).await.is_err() {
                let (Outlook::Waiting(why) | Outlook::Hopeless(why)) = &scene.outlook;
                return Err(Status::unavailable(why.clone()));
            }
        }
    }

    fn of(name: String, meters: Meters, source: Source, options: ChannelOptions) -> Self {
        let headers = options.metadata.clone().into_headers();
        let options = Arc::new(options);
        let outlook = Outlook::Waiting(format!("no endpoint of {name} is connected yet"));
        let scene = ArcSwap::from_pointee(Scene { picker: Picker::default(), outlook });
        let (start, changed) = (Instant::now(), Notify::new());
        let board =
            Board { name, options: options.clone(), meters, headers, start, scene, changed };
        let board = Arc::new(board);
        let keeper = tokio::spawn(Keeper::new(source, board.clone(), options).run());
        Self { shared: Arc::new(Shared { board, keeper: keeper.abort_handle() }) }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Always: a call waits for an endpoint by itself.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(send(self.shared.clone(), request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scene = self.shared.board.scene.load();
        let connected = scene.picker.candidates().iter();
        let connected = connected.map(|candidate| candidate.connection.address());
        f.debug_struct("Channel")
            .field("name", &self.shared.board.name)
            .field("connected", &connected.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Sends a call to whoever is to have it. It holds the handle: without it the connections would be closed
/// while it waits.
async fn send(
    shared: Arc<Shared>,
    request: Request<Body>,
) -> Result<Response<ResponseBody>, Status> {
    let board = &shared.board;
    let begun = Instant::now();
    let mut request = Replay::new(request, &board.headers);
    let limit = match (request.timeout(), board.options.timeout) {
        (None, Some(ours)) => {
            request.set_timeout(ours);
            Some(ours)
        }
        (stated, _) => stated,
    };
    let mut refusals = 0;
    let mut call = match board.try_begin(begun) {
        Some(call) => call,
        None => {
            Box::pin(board.begin(&mut request, Wait::new(begun, limit, board.options.wait))).await?
        }
    };
    loop {
        let mut channel = call.channel();
        let answer = async {
            let ready = poll_fn(|cx| channel.poll_ready(cx));
            match limit {
                // tonic's own clock runs from when its channel has taken the call.
                Some(limit) => timeout_at(after(begun, limit), ready)
                    .await
                    .map_err(|_| TimeoutExpired(()))??,
                None => ready.await?,
            }
            Ok::<_, BoxError>(channel.call(request.request()).await?)
        };
        let error = match answer.await {
            Ok(response) => return Ok(call.answered(response)),
            Err(error) => error,
        };
        let cause = Cause::of(&*error);
        let is_unseen = matches!(cause, Cause::NeverSent | Cause::Refused);
        refusals += u32::from(cause == Cause::Refused);
        let wait = Wait::new(begun, limit, board.options.wait);
        let may_move = refusals < MAX_REFUSALS && Instant::now() < wait.until && request.is_whole();
        if !is_unseen || !may_move {
            return Err(call.failed(cause, error));
        }
        call.moves_on(cause);
        call = Box::pin(board.begin(&mut request, wait)).await?;
    }
}

/// How long a call waits for an endpoint.
struct Wait {
    until: Instant,
    /// When the call itself is over, if it says so.
    deadline: Option<Instant>,
}

impl Wait {
    /// Of a call that has so long since it was begun, of which it may spend so much.
    fn new(begun: Instant, limit: Option<Duration>, wait: Duration) -> Self {
        let deadline = limit.map(|limit| after(begun, limit));
        let until = after(begun, wait);
        Self { until: deadline.map_or(until, |deadline| deadline.min(until)), deadline }
    }

    /// It is over: the status to fail with.
    fn status(&self, why: String) -> Status {
        match self.deadline {
            Some(deadline) if deadline <= self.until => Status::deadline_exceeded(why),
            _ => Status::unavailable(why),
        }
    }
}

impl Board {
    /// The time, as loads count it.
    pub(crate) fn now(&self) -> Ticks {
        self.ticks(Instant::now())
    }

    pub(crate) fn ticks(&self, now: Instant) -> Ticks {
        Ticks::of(now.saturating_duration_since(self.start))
    }

    pub(crate) fn publish(&self, picker: Picker, outlook: Outlook) {
        self.scene.store(Arc::new(Scene { picker, outlook }));
        self.changed.notify_waiters();
    }

    /// Whether one more endpoint may be ejected.
    pub(crate) fn may_eject(&self, now: Ticks) -> bool {
        self.scene.load().picker.may_eject(now)
    }

    /// Begins a call with whoever is to have it, as soon as there is one, and says in the request what is left
    /// of its time.
    async fn begin(self: &Arc<Self>, request: &mut Replay, wait: Wait) -> Result<Call, Status> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            if let Some(call) = self.try_begin(now) {
                if let Some(deadline) = wait.deadline {
                    request.set_timeout(deadline.saturating_duration_since(now));
                }
                return Ok(call);
            }
            let why = match &self.scene.load_full().outlook {
                Outlook::Hopeless(why) => {
                    // Who tries again at once leaves the others a turn: one of them may bring hope.
                    yield_now().await;
                    return Err(Status::unavailable(why.clone()));
                }
                Outlook::Waiting(why) => why.clone(),
            };
            if timeout_at(wait.until, changed).await.is_err() {
                return Err(wait.status(why));
            }
        }
    }

    fn try_begin(self: &Arc<Self>, begun: Instant) -> Option<Call> {
        let now = self.ticks(begun);
        let scene = self.scene.load();
        let mut picks = 1;
        loop {
            let connection = &scene.picker.pick(now)?.connection;
            let probe = connection.standing().probe(now);
            // Where somebody else has just begun to probe it, it is not usable any more.
            if probe.is_some() || connection.standing().is_usable(now) || picks == MAX_PICKS {
                return Some(Call::begin(connection.clone(), self.clone(), begun, probe));
            }
            picks += 1;
        }
    }
}
