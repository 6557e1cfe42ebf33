//! A gRPC server.

use anyhow::Result;
use service_registry::grpc::Health;
use service_registry::serve::{ServeOptions, serve};
use service_registry::{Client, Instance};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport;

/// A server on its own runtime, which simulates a process.
pub(crate) struct Server {
    process: Runtime,
    serving: JoinHandle<Result<()>>,
    end: oneshot::Sender<()>,
}

impl Server {
    pub(crate) fn start(url: &str, name: &'static str) -> Result<Self> {
        let process = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let serving = process.spawn(run(url.to_owned(), name, ended));
        Ok(Self { process, serving, end })
    }

    /// Stops the server as SIGTERM does: it drains, is withdrawn, and shuts down.
    pub(crate) async fn stop(self) -> Result<()> {
        drop(self.end);
        let served = self.serving.await?;
        self.process.shutdown_background();
        served
    }

    /// Stops the server as a crash does: its connections break, and it is not withdrawn.
    pub(crate) fn kill(self) {
        self.process.shutdown_background();
    }
}

/// Runs the server, which is registered while it serves.
async fn run(url: String, name: &'static str, ended: oneshot::Receiver<()>) -> Result<()> {
    let client = Client::builder(&url).ttl(crate::TTL).connect().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let instance = Instance::new(crate::SERVICE, listener.local_addr()?)?.with_label("name", name);
    let (reporter, health) = tonic_health::server::health_reporter();
    let options = ServeOptions::default()
        .with_health(Health::new(reporter)) // follows the registration
        .with_drain(Duration::from_millis(200))
        .with_shutdown(async { drop(ended.await) })
        .with_signals(false); // the caller in this process handles signals; omit this in a real server
    serve(listener, &client, instance, options, |listener, shutdown| {
        transport::Server::builder()
            .add_service(health) // and your services
            .serve_with_incoming_shutdown(listener, shutdown)
    })
    .await?;
    Ok(())
}
