//! A TCP proxy between a registry and its server that injects network faults.
//!
//! A [`Fault`] lasts until it is healed or replaced, and applies to open and new connections.
//! [`Proxy::cut`] and [`Proxy::reset`] happen once. Replies can be lost in addition. A [`Script`] is a
//! schedule of these. A test must check that its fault had an effect: see [`Proxy::hits`].

mod control;
mod direction;
mod fault;
mod frames;
mod hits;
mod link;
mod listener;
mod relay;
mod script;
#[cfg(test)]
mod tests;

pub use self::fault::Fault;
pub use self::hits::Hits;
pub use self::script::{Script, Step};

use self::control::{Control, End};
use self::hits::HitCounter;
use self::link::Link;
use self::listener::Listener;
use self::relay::{close, relay};
use registry_testkit::ReplyLoss;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// The pause after a failed accept, for example without free file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// A listener on loopback that forwards every connection to a server. Dropping it closes all connections.
///
/// After [`inject`](Self::inject), [`heal`](Self::heal), [`cut`](Self::cut) or [`reset`](Self::reset) returns,
/// it applies to everything that a client does.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    listener: Arc<Listener>,
    control: watch::Sender<Control>,
    counter: Arc<HitCounter>,
    _relays: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy that forwards connections to `server`.
    ///
    /// # Errors
    ///
    /// An IO error if no port on loopback is free.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let (listener, address) = Listener::open().await?;
        let (listener, counter) = (Arc::new(listener), Arc::new(HitCounter::default()));
        let control = watch::Sender::new(Control::default());
        let mut relays = JoinSet::new();
        relays.spawn(accept(listener.clone(), server, control.clone(), counter.clone()));
        Ok(Self { address, listener, control, counter, _relays: relays })
    }

    /// Returns the address to connect to instead of the server's.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Injects a fault, which lasts until it is healed or replaced. Must be called in a tokio runtime.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.listener.lock();
        match fault {
            Fault::Refuse if state.close() => self.counter.add(|hits| hits.closed_listeners += 1),
            Fault::Refuse => {}
            _ => state.open(),
        }
        self.control.send_modify(|control| {
            control.fault = fault;
            control.injections += 1;
        });
    }

    /// Ends the fault: forwards everything again, including what was held up, in order. Lost replies stay lost, so
    /// connections are cut if there may be any. Otherwise open connections continue.
    pub fn heal(&self) {
        // Locked to the end, so that no connection is accepted in between.
        let mut state = self.listener.lock();
        state.open();
        self.control.send_modify(Control::heal);
    }

    /// Closes all connections, including those not yet accepted. New ones are forwarded.
    ///
    /// Both sides read the end of the stream (FIN). Models a server that shuts down, or an idle timeout.
    pub fn cut(&self) {
        self.end_all(End::Cut);
    }

    /// Resets all connections, including those not yet accepted. New ones are forwarded.
    ///
    /// Both sides fail with `ConnectionReset` (RST). Models a server that was killed with an unread request, or a
    /// firewall that rejects an unknown connection.
    pub fn reset(&self) {
        self.end_all(End::Reset);
    }

    /// Strands all open connections: nothing passes on them any more, and neither side is notified. A heal does not
    /// bring them back. New connections are forwarded, including those not yet accepted.
    ///
    /// Models a firewall or NAT that has lost the connection and drops its packets.
    pub fn strand(&self) {
        let _entry = self.listener.lock();
        self.control.send_modify(|control| {
            control.ends += 1;
            control.end = End::Stranded;
        });
    }

    /// Marks each connection on which a request contains `text`, from now on.
    pub fn mark(&self, text: &str) {
        self.control.send_modify(|control| control.marker = Some(text.as_bytes().into()));
    }

    /// [Strands](Self::strand) the [marked](Self::mark) connections. All other connections continue.
    pub fn strand_marked(&self) {
        self.control.send_modify(|control| control.strands += 1);
    }

    /// Loses all replies from now on: requests reach the server, but replies do not reach the client.
    pub fn lose_replies(&self) {
        self.control.send_modify(|control| control.drops_replies = true);
    }

    /// Loses all replies from the first request that contains `text`.
    pub fn lose_replies_from(&self, text: &str) {
        self.control.send_modify(|control| control.trigger = Some((text.as_bytes().into(), None)));
    }

    /// Injects a fault at the first request that contains `text`. The request itself is not affected. Not supported
    /// for [`Fault::Refuse`].
    pub fn inject_from(&self, text: &str, fault: Fault) {
        let trigger = Some((text.as_bytes().into(), Some(fault)));
        self.control.send_modify(|control| control.trigger = trigger);
    }

    /// Returns whether replies are being lost.
    pub fn loses_replies(&self) -> bool {
        self.control.borrow().drops_replies
    }

    /// Returns counts of the effects of all faults so far, including every effect that a client has noticed.
    pub fn hits(&self) -> Hits {
        self.counter.hits()
    }

    /// Executes the steps of `script`, starting now. Returns after the last step.
    ///
    /// If the future is dropped, the last fault stays injected.
    pub async fn play(&self, script: &Script) {
        let start = Instant::now();
        for (time, step) in script.steps() {
            sleep_until(start + *time).await;
            match step {
                Step::Inject(fault) => self.inject(*fault),
                Step::LoseReplies => self.lose_replies(),
                Step::Cut => self.cut(),
                Step::Reset => self.reset(),
                Step::Heal => self.heal(),
            }
        }
    }

    fn end_all(&self, end: End) {
        let state = self.listener.lock();
        for waiting in state.unaccepted() {
            self.counter.count(end);
            close(waiting, end);
        }
        self.control.send_modify(|control| {
            control.ends += 1;
            control.end = end;
        });
    }
}

impl ReplyLoss for Proxy {
    fn lose_replies(&self) {
        Self::lose_replies(self);
    }

    fn lose_replies_from(&self, text: &str) {
        Self::lose_replies_from(self, text);
    }

    fn loses_replies(&self) -> bool {
        Self::loses_replies(self)
    }

    fn heal(&self) {
        Self::heal(self);
    }
}

/// Accepts connections as long as the proxy exists.
async fn accept(
    listener: Arc<Listener>,
    server: SocketAddr,
    control: watch::Sender<Control>,
    counter: Arc<HitCounter>,
) {
    let mut changes = control.subscribe();
    let mut relays = JoinSet::new();
    let mut number = 0;
    loop {
        // Evaluated under the listener's lock: a fault that was injected before the accept applies to the
        // connection, but a cut before the accept does not.
        let now = || {
            let control = control.borrow();
            (control.fault, control.ends, control.strands)
        };
        let accepted = tokio::select! {
            // A reopened listener must be polled.
            _ = changes.changed() => continue,
            accepted = listener.accept(now) => accepted,
        };
        match accepted {
            Ok((client, (Fault::AcceptThenReset, ..))) => {
                counter.add(|hits| hits.rejected += 1);
                close(client, End::Reset);
            }
            Ok((client, (_, ends, strands))) => {
                number += 1;
                let (control, counter) = (control.clone(), counter.clone());
                let is_marked = Arc::default();
                let link = Link {
                    control,
                    counter,
                    ends_at_accept: ends,
                    strands_at_accept: strands,
                    is_marked,
                    number,
                };
                relays.spawn(relay(client, server, link));
            }
            Err(_) => sleep(ACCEPT_RETRY_DELAY).await,
        }
        while relays.try_join_next().is_some() {}
    }
}
