//! Signals to this process.

use crate::Failure;
use rustix::process::Signal;
use std::future::poll_fn;
use std::task::Poll;
use tokio::signal::unix;

/// The signals that ask a process to end.
pub(crate) const STOP: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// Receives signals of some kinds. Before it is created they have their default action.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn of(kinds: &[Signal]) -> Result<Self, Failure> {
        let listen = |kind: &Signal| {
            let signals = unix::signal(unix::SignalKind::from_raw(kind.as_raw()))?;
            Ok((*kind, signals))
        };
        kinds.iter().map(listen).collect::<Result<_, _>>().map(Self).map_err(Failure::Signals)
    }

    /// Also receives signals of other kinds, from now on.
    pub(crate) fn and(mut self, kinds: &[Signal]) -> Result<Self, Failure> {
        self.0.extend(Self::of(kinds)?.0);
        Ok(self)
    }

    /// Runs `work`. Returns the signal as an error if one arrives before `work` is done.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            signal = self.next() => Err(signal),
            done = work => Ok(done),
        }
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut received = self
                .0
                .iter_mut()
                .filter_map(|(kind, signals)| signals.poll_recv(cx).is_ready().then_some(*kind));
            received.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
