//! The signals that end a process.

use std::future::pending;
use std::io;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT; elsewhere than on Unix Ctrl-C alone.
pub(super) struct Signals {
    #[cfg(unix)]
    heard: Option<(Signal, Signal)>,
    #[cfg(not(unix))]
    heard: bool,
}

impl Signals {
    /// Hears those to come, or none.
    pub(super) fn listen(heard: bool) -> io::Result<Self> {
        #[cfg(unix)]
        let heard = if heard {
            Some((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
        } else {
            None
        };
        Ok(Self { heard })
    }

    /// Waits for the next.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        let Some((terminate, interrupt)) = &mut self.heard else { return pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Waits for the next.
    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) {
        if !self.heard || tokio::signal::ctrl_c().await.is_err() {
            pending().await
        }
    }
}
