//! A store, servers, and the updates of a view.

use crate::http::{self, Slow};
use futures_util::StreamExt;
use registry_core::CallOptions;
use registry_testkit::lag::timeout;
use service_registry::serve::{ServeError, ServeOptions, serve};
use service_registry::store::{Change, Claim, Registry, Updates};
use service_registry::testing::MemRegistry;
use service_registry::{Client, Instance, InstanceStatus, ServiceName, Update};
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) type Outcome = Result<(), ServeError<io::Error>>;

/// A store, and the updates of a view of one service.
pub(crate) struct World {
    pub(crate) store: MemRegistry,
    updates: Updates,
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = MemRegistry::new();
        let view = Client::from_registry(store.clone()).discover(service()).unwrap();
        view.ready(LIMIT).await.unwrap();
        let mut updates = view.updates();
        assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
        Self { store, updates }
    }

    pub(crate) fn client(&self) -> Client {
        Client::from_registry(self.store.clone())
    }

    pub(crate) async fn next(&mut self) -> Change {
        loop {
            match within(self.updates.next()).await.expect("the updates ended") {
                Update::Batch(batch) if batch.is_progress() => {}
                Update::Batch(batch) => return batch.changes[0].clone(),
                Update::Reset(reset) => panic!("reset without an outage: {reset:?}"),
                Update::Status(_) => {}
            }
        }
    }

    pub(crate) async fn next_is(&mut self, status: InstanceStatus) -> Instance {
        match self.next().await {
            Change::Put(record) if record.instance().status() == status => record.into_instance(),
            other => panic!("expected {status:?}, got {other:?}"),
        }
    }

    pub(crate) async fn next_put(&mut self) -> Instance {
        match self.next().await {
            Change::Put(record) => record.into_instance(),
            gone @ Change::Delete(_) => panic!("expected a put, got {gone:?}"),
        }
    }

    pub(crate) async fn next_is_gone(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Change::Delete(_)), "{next:?}");
    }

    pub(crate) async fn nobody_is_listed(&self) {
        assert!(
            self.store.load(&service(), &CallOptions::DEFAULT).await.unwrap().records().is_empty()
        );
    }

    /// Asserts that nothing was ever registered: the next change is that of a marker registered now.
    pub(crate) async fn nothing_ever_was(mut self) {
        let marker =
            Instance::from_parts(service(), "marker".parse().unwrap(), "h:1".parse().unwrap());
        let claim = Claim::new(LIMIT).unwrap();
        self.store.register(&marker, &claim, &CallOptions::DEFAULT).await.unwrap();
        let next = self.next().await;
        assert!(matches!(&next, Change::Put(record) if *record.instance() == marker), "{next:?}");
    }
}

pub(crate) const LIMIT: Duration = Duration::from_secs(10);
pub(crate) const SHORT: Duration = Duration::from_millis(100);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("the operation hangs")
}

pub(crate) fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

pub(crate) async fn listen() -> (TcpListener, Instance) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, Instance::from_parts(service(), "node-1".parse().unwrap(), address))
}

/// Returns options, and a sender that shuts the server down.
pub(crate) fn until_ended() -> (ServeOptions, oneshot::Sender<()>) {
    let (end, ended) = oneshot::channel();
    let shutdown = async move {
        if ended.await.is_err() {
            pending::<()>().await;
        }
    };
    let options = ServeOptions::default()
        .with_drain(SHORT)
        .with_shutdown(Box::pin(shutdown))
        .with_signals(false);
    (options, end)
}

pub(crate) async fn request(instance: &Instance, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(instance.address().as_str()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Starts a server with a slow page.
pub(crate) fn serve_slowly(
    world: &World,
    listener: TcpListener,
    node: &Instance,
    options: ServeOptions,
) -> (JoinHandle<Outcome>, Slow) {
    let slow = Slow::default();
    let page = slow.clone();
    let server = serve(listener, &world.client(), node.clone(), options, |listener, shutdown| {
        http::run(listener, shutdown, page)
    });
    (tokio::spawn(server), slow)
}
