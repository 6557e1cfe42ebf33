//! What the servers of the mall have in common: a listener, and how they are announced.

use crate::store::Store;
use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use service_registry::serve::ServeOptions;
use service_registry::store::BoxError;
use service_registry::{Client, Instance};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The metadata that says what a server is called.
const NAME: &str = "name";

/// What ends a server.
pub(crate) enum End {
    /// SIGTERM or SIGINT. Whoever started it is told where it is called.
    BySignal,
    /// Whoever runs it within a process.
    ByOwner(oneshot::Receiver<()>),
}

/// Where a server is about to be called.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) client: Client,
    pub(crate) instance: Instance,
    pub(crate) options: ServeOptions,
}

impl Door {
    pub(crate) async fn open(
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
            End::ByOwner(told) => ServeOptions::default()
                .with_signals(false)
                .with_shutdown(async { drop(told.await) }),
        };
        Ok(Self { listener, client: store.connect().await?, instance, options })
    }

    /// It is ready after `first`.
    pub(crate) fn ready(
        &self,
        first: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), BoxError>> {
        let line = format!("{} is called at {}", name(&self.instance), self.instance.address());
        let is_told = self.options.signals;
        Box::pin(async move {
            first.await;
            if is_told {
                println!("{line}");
            }
            Ok(())
        })
    }
}

/// What a server is called: by its metadata, or else by its id.
pub(crate) fn name(instance: &Instance) -> &str {
    instance.metadata().get(NAME).map_or_else(|| instance.id().as_str(), String::as_str)
}
