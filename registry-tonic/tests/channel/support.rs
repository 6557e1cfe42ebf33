//! Scripted servers, and a client.

use futures_util::stream::{self, BoxStream, StreamExt};
use registry_core::{Address, Claim, Instance, Lease, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions};
use registry_mem::MemRegistry;
use registry_testkit::case::take_over;
use registry_testkit::lag::{self, timeout};
use registry_tonic::{Channel, ChannelOptions};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The deadline of every await.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The reaction of a server to a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Serve,
    Fail(Code),
    Delay(Duration),
    /// Never answers.
    Hang,
}

/// A server in its own runtime, so that it can be killed with all its connections.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// How the server ends: `true` sends GOAWAY and lets calls finish, and dropping the sender kills the server.
    end: Option<oneshot::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    /// The metadata of the last call.
    last_metadata: Mutex<MetadataMap>,
    calls: AtomicU32,
    connections: watch::Sender<u32>,
    open: watch::Sender<i64>,
    /// Lets open streams end.
    release: Notify,
}

impl Backend {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Serve),
            last_metadata: Mutex::default(),
            calls: AtomicU32::new(0),
            connections: watch::Sender::new(0),
            open: watch::Sender::new(0),
            release: Notify::new(),
        });
        let (end, ended) = oneshot::channel();
        let (bound, address_of) = std::sync::mpsc::channel();
        let service = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, service, ended).await;
            });
            runtime.shutdown_background();
        });
        let address = lag::deadline(DEADLINE).receive(&address_of).unwrap();
        Self { address, shared, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u32 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Returns the metadata of the last call.
    pub(crate) fn last_metadata(&self) -> MetadataMap {
        self.shared.last_metadata.lock().unwrap().clone()
    }

    /// Returns the number of connections accepted so far.
    pub(crate) fn connections(&self) -> u32 {
        *self.shared.connections.borrow()
    }

    /// Waits until `count` connections were accepted in total.
    pub(crate) async fn until_connected(&self, count: u32) {
        let mut connections = self.shared.connections.subscribe();
        timeout(DEADLINE, connections.wait_for(|seen| *seen >= count)).await.unwrap().unwrap();
    }

    /// Waits until no connection is open.
    pub(crate) async fn until_disconnected(&self) {
        let mut open = self.shared.open.subscribe();
        timeout(DEADLINE, open.wait_for(|open| *open == 0)).await.unwrap().unwrap();
    }

    /// Lets one open stream send its last message and end.
    pub(crate) fn release(&self) {
        self.shared.release.notify_one();
    }

    /// Kills the server with its connections and their calls.
    pub(crate) fn kill(&mut self) {
        drop(self.end.take());
        self.thread.take().unwrap().join().unwrap();
    }

    /// Sends GOAWAY, and waits until the calls in flight have finished.
    pub(crate) async fn shut_down(&mut self) {
        self.send_goaway();
        self.until_ended().await;
    }

    /// Sends GOAWAY on all connections, so that clients send no new calls on them.
    pub(crate) fn send_goaway(&mut self) {
        self.end.take().unwrap().send(true).unwrap();
    }

    /// Waits until the calls in flight have finished.
    pub(crate) async fn until_ended(&mut self) {
        let thread = self.thread.take().unwrap();
        let joined = tokio::task::spawn_blocking(move || thread.join().unwrap());
        timeout(DEADLINE, joined).await.unwrap().unwrap();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.kill();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, ended: oneshot::Receiver<bool>) {
    let counted = shared.clone();
    let incoming = stream::unfold(listener, move |listener| {
        let shared = counted.clone();
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            shared.connections.send_modify(|count| *count += 1);
            shared.open.send_modify(|open| *open += 1);
            Some((Ok::<_, std::io::Error>(Counted { stream, shared }), listener))
        }
    });
    let (goaway, sent) = oneshot::channel();
    let service = HealthServer::new(Service(shared));
    let server =
        Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, async {
            let _ = sent.await;
        });
    let server = tokio::spawn(server);
    if ended.await == Ok(true) {
        goaway.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}

struct Service(Arc<Shared>);

impl Service {
    async fn answer(&self) -> Result<HealthCheckResponse, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let mode = *self.0.mode.lock().unwrap();
        match mode {
            Mode::Serve => {}
            Mode::Fail(code) => return Err(Status::new(code, "scripted failure")),
            Mode::Delay(duration) => sleep(duration).await,
            Mode::Hang => std::future::pending().await,
        }
        Ok(HealthCheckResponse { status: 1 })
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        *self.0.last_metadata.lock().unwrap() = request.into_parts().0;
        self.answer().await.map(Response::new)
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Sends one message, waits for a release, sends another one and ends.
    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let first = self.answer().await?;
        let shared = self.0.clone();
        let last = stream::once(async move {
            shared.release.notified().await;
            Ok(HealthCheckResponse { status: 2 })
        });
        Ok(Response::new(stream::iter([Ok(first)]).chain(last).boxed()))
    }
}

/// A connection that is counted while it is open.
#[derive(Debug)]
struct Counted {
    stream: TcpStream,
    shared: Arc<Shared>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| *open -= 1);
    }
}

impl tonic::transport::server::Connected for Counted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Counted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for Counted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A registry, and a channel to what is registered in it.
pub(crate) struct Fixture {
    pub(crate) registry: Arc<MemRegistry>,
    discovery: Discovery,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let registry = Arc::new(MemRegistry::new());
        let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
        Self { registry, discovery }
    }

    pub(crate) fn channel(&self, options: ChannelOptions) -> Channel {
        Channel::new(self.discovery.view(&service()), options)
    }

    pub(crate) fn client(&self, options: ChannelOptions) -> HealthClient<Channel> {
        HealthClient::new(self.channel(options))
    }

    /// Registers an instance for the rest of the test, or updates it if its id is registered.
    pub(crate) async fn put(&self, instance: Instance) -> Lease {
        let claim = Claim::new(Duration::from_secs(600)).unwrap();
        timeout(DEADLINE, take_over(&self.registry, &instance, &claim)).await.unwrap().unwrap()
    }

    /// Registers all backends, under the ids 0, 1, ...
    pub(crate) async fn put_all(&self, backends: &[Backend]) {
        for (id, backend) in backends.iter().enumerate() {
            self.put(instance(id, backend)).await;
        }
    }
}

pub(crate) fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

pub(crate) fn instance(id: usize, backend: &Backend) -> Instance {
    let address = backend.address.to_string().parse().unwrap();
    Instance::from_parts(service(), id.to_string().parse().unwrap(), address)
}

/// Makes one call.
pub(crate) async fn call(client: &HealthClient<Channel>) -> Result<(), Status> {
    let check = async { client.clone().check(HealthCheckRequest::default()).await };
    timeout(DEADLINE, check).await.expect("the call does not end").map(drop)
}

/// Makes `count` calls, one after the other, and asserts that none fails.
pub(crate) async fn calls(client: &HealthClient<Channel>, count: u32) {
    for _ in 0..count {
        call(client).await.unwrap();
    }
}

/// Makes calls until the backend got `times` more of them, whether they fail or not.
pub(crate) async fn until_called(client: &HealthClient<Channel>, backend: &Backend, times: u32) {
    let enough = backend.calls() + times;
    let called = async {
        while backend.calls() < enough {
            let _ = call(client).await;
        }
    };
    timeout(DEADLINE, called).await.expect("the backend gets too few calls");
}

/// Makes calls until exactly the backends for which `expected` is true get calls, and no call fails. Earlier calls may
/// fail, since the client may not have noticed yet that a backend was killed.
///
/// A channel does not report when it has applied a change, so this observes which backends get the calls.
pub(crate) async fn until_calls_go_to(
    client: &HealthClient<Channel>,
    backends: &[Backend],
    expected: impl Fn(usize) -> bool,
) {
    let settled = async {
        loop {
            let before: Vec<u32> = backends.iter().map(Backend::calls).collect();
            let mut failed = 0;
            for _ in 0..40 {
                failed += u32::from(call(client).await.is_err());
            }
            let called = backends.iter().zip(&before).map(|(backend, was)| backend.calls() > *was);
            if failed == 0 && called.enumerate().all(|(n, called)| called == expected(n)) {
                return;
            }
        }
    };
    timeout(DEADLINE, settled).await.expect("calls do not go to the expected backends");
}

/// Returns an address at which no process can listen until the socket is dropped.
pub(crate) fn unused_address() -> (TcpSocket, Address) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string().parse().unwrap();
    (socket, address)
}
