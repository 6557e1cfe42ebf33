//! A connection's handle to its proxy: the current fault, and the counters of its effects.

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
    /// The value of [`Control::ends`] at the accept.
    pub(super) ends: u64,
    /// The value of [`Control::strands`] at the accept.
    pub(super) strands: u64,
    pub(super) is_marked: Arc<AtomicBool>,
    /// The number of the connection, from 1.
    pub(super) number: u64,
}

impl Link {
    /// Waits until the connection is cut, reset or stranded.
    pub(super) async fn ended(&self) -> End {
        let mut control = self.control.subscribe();
        let is_stranded = |control: &Control| {
            control.strands != self.strands && self.is_marked.load(Ordering::Relaxed)
        };
        let is_over = |control: &Control| control.ends != self.ends || is_stranded(control);
        let control = control.wait_for(is_over).await.expect("a link has a sender");
        if control.ends == self.ends { End::Stranded } else { control.end }
    }

    pub(super) async fn count_freezes(&self) -> Infallible {
        let mut control = self.control.subscribe();
        let mut counted = None;
        loop {
            // Compares injections, since the fault may be healed and injected again between two polls.
            let is_new = |control: &Control| {
                control.fault == Fault::Blackhole && counted != Some(control.injections)
            };
            let frozen = control.wait_for(is_new).await;
            counted = Some(frozen.expect("a link has a sender").injections);
            self.counter.add(|hits| hits.frozen_connections += 1);
        }
    }
}

/// Waits until there is no blackhole.
pub(super) async fn wait_until_unfrozen(control: &mut watch::Receiver<Control>) {
    let unfrozen = control.wait_for(|control| control.fault != Fault::Blackhole).await;
    drop(unfrozen.expect("a link has a sender"));
}
