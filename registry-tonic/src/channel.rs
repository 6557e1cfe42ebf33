//! A channel to a service, wherever its instances are.

use crate::body::{Lent, ResponseBody};
use crate::call::Call;
use crate::keeper::{Keeper, Outlook, Source};
use crate::load::Ticks;
use crate::options::ChannelOptions;
use crate::picker::Picker;
use crate::status;
use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response};
use registry_core::{Address, View};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

/// So often a call that was never sent is given to another endpoint.
const MAX_TRIES: u32 = 5;

/// A channel to all instances of a service: use it in place of tonic's.
///
/// Each call goes to the better of two endpoints that are drawn at random, by their latency and by how many
/// calls they have. Endpoints are connected to as soon as they are listed, and lost connections made
/// anew, without waiting for a call. Draining instances, and those of weight 0, get no new calls; calls
/// under way go on. An endpoint that cannot be reached gets none, and one that keeps failing none for a while.
/// A call that was never sent, because its connection was just lost, goes to another endpoint; what may
/// have been sent is not repeated, since only its caller knows whether it may be.
///
/// A clone is a cheap handle to the same connections. They are closed with the last one.
///
/// ```
/// use registry_core::{Discovery, DiscoveryOptions};
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
        Self::of(format!("`{}`", view.service()), Source::View(view), options)
    }

    /// A channel to `addresses`, without a registry.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn fixed(addresses: impl IntoIterator<Item = Address>, options: ChannelOptions) -> Self {
        let addresses = Vec::from_iter(addresses);
        Self::of("the given addresses".into(), Source::Fixed(addresses), options)
    }

    fn of(name: String, source: Source, options: ChannelOptions) -> Self {
        let options = Arc::new(options);
        let outlook = Outlook::Waiting(format!("no endpoint of {name} is connected yet"));
        let scene = ArcSwap::from_pointee(Scene { picker: Picker::default(), outlook });
        let (start, changed) = (Instant::now(), Notify::new());
        let board = Arc::new(Board { name, options: options.clone(), start, scene, changed });
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
        // The handle: without it the connections would be closed under the call.
        let shared = self.shared.clone();
        Box::pin(async move { send(&shared.board, request).await })
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

/// Sends a call to whoever is to have it.
async fn send(
    board: &Arc<Board>,
    request: Request<Body>,
) -> Result<Response<ResponseBody>, Status> {
    let (mut head, body) = request.into_parts();
    board.add_metadata(&mut head.headers);
    let slot = Lent::slot(body);
    let mut tries = 1;
    loop {
        let call = board.begin(&head.headers).await?;
        let request = Request::from_parts(head.clone(), Body::new(Lent::new(&slot)));
        let mut channel = call.channel();
        let answer = async {
            poll_fn(|cx| channel.poll_ready(cx)).await?;
            channel.call(request).await
        };
        match answer.await {
            Ok(response) => return Ok(call.answered(response)),
            Err(error) if tries < MAX_TRIES && status::was_never_sent(&error) && slot.is_full() => {
                tracing::debug!(address = %call.address(), "never sent: it goes to another");
                call.was_never_sent();
                tries += 1;
            }
            Err(error) => return Err(call.failed(status::of(error.into()))),
        }
    }
}

impl Board {
    /// The time, as loads count it.
    pub(crate) fn now(&self) -> Ticks {
        Ticks::since(self.start)
    }

    pub(crate) fn publish(&self, picker: Picker, outlook: Outlook) {
        self.scene.store(Arc::new(Scene { picker, outlook }));
        self.changed.notify_waiters();
    }

    /// Whether one more endpoint may be ejected.
    pub(crate) fn may_eject(&self, now: Ticks) -> bool {
        self.scene.load().picker.may_eject(now)
    }

    fn add_metadata(&self, headers: &mut HeaderMap) {
        if self.options.metadata.is_empty() {
            return;
        }
        for (name, value) in &self.options.metadata.clone().into_headers() {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }

    /// Begins a call with whoever is to have it, as soon as there is one.
    async fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Result<Call, Status> {
        if let Some(call) = self.try_begin() {
            return Ok(call);
        }
        let (start, limit) = (Instant::now(), deadline(headers));
        let until = start + limit.unwrap_or(Duration::MAX).min(self.options.wait);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(call) = self.try_begin() {
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
            if timeout_at(until, changed).await.is_err() {
                return Err(match limit {
                    Some(limit) if limit <= self.options.wait => Status::deadline_exceeded(why),
                    _ => Status::unavailable(why),
                });
            }
        }
    }

    fn try_begin(self: &Arc<Self>) -> Option<Call> {
        let begun = Instant::now();
        let now = Ticks::of(begun.saturating_duration_since(self.start));
        let scene = self.scene.load();
        let connection = scene.picker.pick(now)?.connection.clone();
        Some(Call::begin(connection, self.clone(), begun))
    }
}

/// How long the caller gives the call: the header `grpc-timeout`, a number of up to 8 digits and a unit
/// (gRPC's `doc/PROTOCOL-HTTP2.md`).
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = count.parse().ok().filter(|count| *count < 100_000_000)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_call_is_read_from_its_header() {
        let read = |text: &str| {
            deadline(&HeaderMap::from_iter([("grpc-timeout".parse().ok()?, text.parse().ok()?)]))
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("150m"), Some(Duration::from_millis(150)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "-1S", "1", "1x", "100000000S", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }
}
