//! What a connection shares with its proxy: the current fault, and the counters of its effects.

use super::control::{Control, End};
use super::fault::Fault;
use super::hits::HitCounter;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// A connection's handle to its proxy.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) control: watch::Sender<Control>,
    pub(super) counter: Arc<HitCounter>,
    /// The value of [`Control::ends`] when the connection was accepted.
    pub(super) ends_at_accept: u64,
    /// The value of [`Control::strands`] when the connection was accepted.
    pub(super) strands_at_accept: u64,
    /// Whether a request on this connection contained [`Control::marker`].
    pub(super) is_marked: Arc<AtomicBool>,
    /// The number of the connection, from 1.
    pub(super) number: u64,
}

impl Link {
    /// Waits until the connection is cut, reset or stranded.
    pub(super) async fn wait_until_ended(&self) -> End {
        let mut control = self.control.subscribe();
        let is_stranded = |control: &Control| {
            control.strands != self.strands_at_accept && self.is_marked.load(Ordering::Relaxed)
        };
        let is_over =
            |control: &Control| control.ends != self.ends_at_accept || is_stranded(control);
        let control = control.wait_for(is_over).await.expect("a link has a sender");
        if control.ends == self.ends_at_accept { End::Stranded } else { control.end }
    }

    /// Counts each blackhole of this connection, forever.
    pub(super) async fn count_blackholes(&self) -> Infallible {
        let mut control = self.control.subscribe();
        let mut counted = None;
        loop {
            // Compares injections, since the fault may be healed and injected again between two polls.
            let is_new = |control: &Control| {
                control.fault == Fault::Blackhole && counted != Some(control.injections)
            };
            let blackhole = control.wait_for(is_new).await;
            counted = Some(blackhole.expect("a link has a sender").injections);
            self.counter.add(|hits| hits.frozen_connections += 1);
        }
    }
}

/// Waits until there is no blackhole.
pub(super) async fn wait_until_no_blackhole(control: &mut watch::Receiver<Control>) {
    let healed = control.wait_for(|control| control.fault != Fault::Blackhole).await;
    drop(healed.expect("a link has a sender"));
}
