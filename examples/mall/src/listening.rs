//! The shared part of the servers: a listener and an instance to register.

use crate::store::Store;
use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use service_registry::serve::ServeOptions;
use service_registry::store::BoxError;
use service_registry::{Client, Instance};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The metadata key with the name of a server.
const NAME: &str = "name";

/// The event that stops a server.
pub(crate) enum End {
    /// SIGTERM or SIGINT. The server prints its address.
    BySignal,
    /// The end of this channel, for a server within another process.
    ByOwner(oneshot::Receiver<()>),
}

/// A server that listens and is about to be registered.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) client: Client,
    pub(crate) instance: Instance,
    pub(crate) options: ServeOptions,
}

impl Listening {
    pub(crate) async fn new(
        store: &Store,
        service: &str,
        listen: &str,
        name: &str,
        end: End,
    ) -> Result<Self> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen, address=`{listen}`"))?;
        let instance =
            Instance::new(service, listener.local_addr()?)?.with_metadata([(NAME, name)]);
        let options = match end {
            End::BySignal => ServeOptions::default(),
            End::ByOwner(ended) => ServeOptions::default()
                .with_signals(false)
                .with_shutdown(async { drop(ended.await) }),
        };
        Ok(Self { listener, client: store.connect().await?, instance, options })
    }

    /// Returns the future for `with_ready`: it waits for `first`, and prints the address of the server.
    pub(crate) fn ready(
        &self,
        first: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), BoxError>> {
        let line = format!("{} serves at {}", name(&self.instance), self.instance.address());
        let prints = self.options.signals;
        Box::pin(async move {
            first.await;
            if prints {
                println!("{line}");
            }
            Ok(())
        })
    }
}

/// Returns the name of a server: from its metadata, or else its id.
pub(crate) fn name(instance: &Instance) -> &str {
    instance.metadata().get(NAME).map_or_else(|| instance.id().as_str(), String::as_str)
}
