//! Signals to this process.

use crate::Failure;
use rustix::process::Signal;
use std::future::poll_fn;
use std::task::Poll;
use tokio::signal::unix;

/// Those that ask a process to end.
pub(crate) const STOP: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// Those of some kinds, from when it was made on. Until then they do what they do to any process.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn of(kinds: &[Signal]) -> Result<Self, Failure> {
        let listen = |kind: &Signal| {
            let signals = unix::signal(unix::SignalKind::from_raw(kind.as_raw()))?;
            Ok((*kind, signals))
        };
        kinds.iter().map(listen).collect::<Result<_, _>>().map(Self).map_err(Failure::Signals)
    }

    /// Adds those of other kinds, from now on.
    pub(crate) fn and(mut self, kinds: &[Signal]) -> Result<Self, Failure> {
        self.0.extend(Self::of(kinds)?.0);
        Ok(self)
    }

    /// Does some work; the signal, if one of them comes before that is done.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            signal = self.next() => Err(signal),
            done = work => Ok(done),
        }
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut came = self
                .0
                .iter_mut()
                .filter_map(|(kind, signals)| signals.poll_recv(cx).is_ready().then_some(*kind));
            came.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
