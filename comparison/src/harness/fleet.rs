//! A service whose instances can be killed, drained, withdrawn and slowed.

use anyhow::{Context, Result, ensure};
use registry_core::{CallOptions, Claim, Instance, InstanceStatus, Lease, Registry};
use registry_engine::{Discovery, DiscoveryOptions, View};
use registry_mem::MemRegistry;
use service_registry::serve::Listener;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::Server;
use tonic::{Request, Response};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

pub struct Fleet {
    registry: Arc<MemRegistry>,
    discovery: Discovery,
    ttl: Duration,
    members: Vec<Member>,
}

struct Member {
    backend: Backend,
    instance: Instance,
    lease: Lease,
    is_alive: bool,
}

impl Fleet {
    /// Starts and registers instances whose calls take `takes`. A registration that is not renewed expires after `ttl`.
    pub async fn start(count: usize, takes: Duration, ttl: Duration) -> Result<Self> {
        let registry = Arc::new(MemRegistry::new());
        let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
        let mut members = Vec::new();
        for id in 0..count {
            let backend = Backend::start(takes)?;
            let (service, id) = ("user.rpc".parse()?, id.to_string().parse()?);
            let instance = Instance::from_parts(service, id, backend.address.to_string().parse()?);
            let lease =
                registry.register(&instance, &Claim::new(ttl)?, &CallOptions::DEFAULT).await?;
            members.push(Member { backend, instance, lease, is_alive: true });
        }
        Ok(Self { registry, discovery, ttl, members })
    }

    pub async fn view(&self) -> Result<View> {
        let view = self.discovery.view(&"user.rpc".parse()?);
        view.ready(Duration::from_secs(5)).await?;
        Ok(view)
    }

    pub async fn keep_alive(&self) -> Result<()> {
        for member in self.members.iter().filter(|member| member.is_alive) {
            self.registry.keep_alive(&member.lease, &CallOptions::DEFAULT).await?;
        }
        Ok(())
    }

    /// Waits until an instance has calls in flight and kills it. Returns the number of those calls. Its registration stays.
    pub async fn kill(&mut self, n: usize) -> Result<u64> {
        self.members[n].is_alive = false;
        let backend = &mut self.members[n].backend;
        let start = Instant::now();
        while backend.state.pending.load(Ordering::Relaxed) == 0 {
            ensure!(start.elapsed() < Duration::from_secs(5), "the instance gets no calls");
            sleep(Duration::from_millis(1)).await;
        }
        backend.kill()
    }

    pub async fn drain(&mut self, n: usize) -> Result<()> {
        let member = &mut self.members[n];
        let claim = Claim::new(self.ttl)?.with_lease(member.lease.id());
        let draining = member.instance.clone().with_status(InstanceStatus::Draining);
        member.lease = self.registry.register(&draining, &claim, &CallOptions::DEFAULT).await?;
        Ok(())
    }

    /// Withdraws an instance, and shuts it down after its calls in flight.
    pub async fn withdraw(&mut self, n: usize) -> Result<()> {
        self.registry.deregister(&self.members[n].lease, &CallOptions::DEFAULT).await?;
        self.members[n].is_alive = false;
        self.members[n].backend.shut_down()
    }

    /// Sets how long the calls of an instance take.
    pub fn set_call_time(&self, n: usize, takes: Duration) {
        self.members[n].backend.state.takes.store(micros(takes), Ordering::Relaxed);
    }

    /// Returns the number of calls that each instance received.
    pub fn calls(&self) -> Vec<u64> {
        let calls = |member: &Member| member.backend.state.calls.load(Ordering::Relaxed);
        self.members.iter().map(calls).collect()
    }
}

/// An instance on its own thread, so that it can be killed with all its tasks and connections.
struct Backend {
    address: SocketAddr,
    state: Arc<Load>,
    /// Sends `()` for a graceful shutdown. Its drop kills the instance.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Load {
    /// How long a call takes, in microseconds.
    takes: AtomicU64,
    calls: AtomicU64,
    pending: AtomicU64,
}

impl Backend {
    fn start(takes: Duration) -> Result<Self> {
        let (takes, calls, pending) = (micros(takes).into(), 0.into(), 0.into());
        let state = Arc::new(Load { takes, calls, pending });
        let (end, ended) = oneshot::channel();
        let (address_sender, address_receiver) = mpsc::channel();
        let served = state.clone();
        let thread = thread::spawn(move || {
            // On failure the address is never sent, and `recv` below fails.
            let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
            let _ = runtime.block_on(serve(served, ended, address_sender));
            runtime.shutdown_background();
        });
        let address = address_receiver.recv().context("an instance did not start")?;
        Ok(Self { address, state, end: Some(end), thread: Some(thread) })
    }

    fn kill(&mut self) -> Result<u64> {
        drop(self.end.take());
        self.join()?;
        Ok(self.state.pending.load(Ordering::Relaxed))
    }

    fn shut_down(&mut self) -> Result<()> {
        let end = self.end.take().context("the instance has ended")?;
        end.send(()).ok().context("the instance has crashed")
    }

    fn join(&mut self) -> Result<()> {
        let thread = self.thread.take().context("the instance was joined twice")?;
        thread.join().ok().context("an instance panicked")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.join();
    }
}

async fn serve(
    state: Arc<Load>,
    ended: oneshot::Receiver<()>,
    address_sender: mpsc::Sender<SocketAddr>,
) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    address_sender.send(listener.local_addr()?)?;
    let (shutdown, shutdown_requested) = oneshot::channel::<()>();
    let router = Server::builder().add_service(HealthServer::new(Service(state)));
    let shutdown_requested = async { drop(shutdown_requested.await) };
    let incoming = Listener::from(listener);
    let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, shutdown_requested));
    if ended.await.is_ok() {
        drop(shutdown);
        server.await??;
    }
    Ok(())
}

struct Service(Arc<Load>);

/// A call in flight stays counted when the service is killed.
#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, tonic::Status> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let takes = Duration::from_micros(self.0.takes.load(Ordering::Relaxed));
        if !takes.is_zero() {
            self.0.pending.fetch_add(1, Ordering::Relaxed);
            sleep(takes).await;
            self.0.pending.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, tonic::Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("no watch is served"))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
