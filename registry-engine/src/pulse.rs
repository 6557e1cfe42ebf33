//! Whether the store answers at all, asked once for all views of a discovery.
//!
//! A watch with nothing to say, and one whose server stands still, look the same. Stores find dead
//! connections in their own time, which may be longer than a ttl; by then the server has let the leases
//! run out that nobody could renew through it, and says so on a watch that never broke.

use registry_core::{Error, ErrorKind, Registry, ServiceName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A service that nobody has: to load it costs a round trip, and no more the more there is.
const NOBODY: &str = "~pulse";

/// Why the store is thought to be silent, if it is.
pub(crate) type Silence = Option<Error>;

/// The task that asks. To drop it ends it.
#[derive(Debug)]
pub(crate) struct Pulse {
    silence: watch::Receiver<Silence>,
    task: AbortHandle,
}

impl Pulse {
    /// Asks every third of `ttl`, and waits that long for an answer: so a silence is noticed before
    /// it has lasted for a ttl, and with it before a lease can have run out in it.
    pub(crate) fn start(registry: Arc<dyn Registry>, ttl: Duration) -> Self {
        let (told, silence) = watch::channel(None);
        let task = tokio::spawn(ask(registry, ttl / 3, told)).abort_handle();
        Self { silence, task }
    }

    pub(crate) fn silence(&self) -> watch::Receiver<Silence> {
        self.silence.clone()
    }

    /// Whether its runtime is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(registry: Arc<dyn Registry>, third: Duration, told: watch::Sender<Silence>) {
    let Ok(nobody) = ServiceName::new(NOBODY) else { return };
    sleep(third.mul_f64(fastrand::f64())).await; // processes that start together ask apart
    loop {
        let asked = Instant::now();
        let silence = match timeout(third, registry.load(&nobody)).await {
            Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => Some(error),
            Ok(_) => None, // to be refused is to be answered
            Err(_) => {
                let message = format!("the store is silent, asked=`{third:?} ago`");
                Some(Error::new(ErrorKind::Unavailable, message))
            }
        };
        // A silence that goes on is told again, to those whose watch opened in between.
        told.send_if_modified(|before| {
            let news = silence.is_some() || before.is_some();
            *before = silence;
            news
        });
        sleep_until(asked + third).await;
    }
}
