//! An HTTP server of the service `user`.

use anyhow::Result;
use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use service_registry::serve::{ServeOptions, serve};
use service_registry::{Client, Instance};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

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
    let instance = Instance::new("user", listener.local_addr()?)?.with_id(name.parse()?);
    let greet = async move |Path(id): Path<u64>| format!("user {id}, says {name}");
    let app = Router::new().route("/users/{id}", get(greet));
    let options = ServeOptions::default()
        .with_drain(Duration::from_millis(200))
        .with_shutdown(async { drop(ended.await) })
        .with_signals(false); // the caller in this process handles signals; omit this in a real server
    serve(listener, &client, instance, options, |listener, shutdown| {
        axum::serve(listener, app).with_graceful_shutdown(shutdown)
    })
    .await?;
    Ok(())
}
