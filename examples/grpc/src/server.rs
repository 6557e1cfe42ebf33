//! A server over gRPC.

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

/// A server on a runtime of its own, which stands for a process.
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

    /// Ends it as SIGTERM does: it drains, is withdrawn, and then shuts down.
    pub(crate) async fn stop(self) -> Result<()> {
        drop(self.end);
        let served = self.serving.await?;
        self.process.shutdown_background();
        served
    }

    /// Ends it as a crash does: its connections break, and nobody withdraws it.
    pub(crate) fn kill(self) {
        self.process.shutdown_background();
    }
}

/// Serves, and is registered for as long as it does.
async fn run(url: String, name: &'static str, ended: oneshot::Receiver<()>) -> Result<()> {
    let client = Client::builder(&url).ttl(crate::TTL).connect().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let instance = Instance::new(crate::SERVICE, listener.local_addr()?)?.with_label("name", name);
    let (reporter, health) = tonic_health::server::health_reporter();
    let options = ServeOptions::default()
        .with_health(Health::new(reporter)) // in step with the registration
        .with_drain(Duration::from_millis(200))
        .with_shutdown(async { drop(ended.await) })
        .with_signals(false); // those are the caller's; a server of its own has them
    serve(listener, &client, instance, options, |listener, shutdown| {
        transport::Server::builder()
            .add_service(health) // and yours
            .serve_with_incoming_shutdown(listener, shutdown)
    })
    .await?;
    Ok(())
}
