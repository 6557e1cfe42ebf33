//! The signals that end a process.

use std::future::pending;
use std::io;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A listener for SIGTERM and SIGINT; on systems other than Unix, for Ctrl-C only.
pub(super) struct Signals {
    #[cfg(unix)]
    listening: Option<(Signal, Signal)>,
    #[cfg(not(unix))]
    listening: bool,
}

impl Signals {
    /// Starts to listen for signals if `listening`; otherwise [`next`](Self::next) never returns.
    pub(super) fn listen(listening: bool) -> io::Result<Self> {
        #[cfg(unix)]
        let listening = if listening {
            Some((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
        } else {
            None
        };
        Ok(Self { listening })
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        let Some((terminate, interrupt)) = &mut self.listening else { return pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Waits for the next signal.
    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) {
        if !self.listening || tokio::signal::ctrl_c().await.is_err() {
            pending().await
        }
    }
}
