//! A TCP proxy between a registry and its server, for all that a network does to them.
//!
//! A [`Fault`] stands until it is healed or replaced, and is for the connections that stand and for
//! new ones. [`Proxy::cut`] and [`Proxy::reset`] happen once. Replies are lost beside either. A
//! [`Script`] is a schedule of them all. A fault that did not take effect proves nothing: see
//! [`Proxy::hits`].

mod control;
mod door;
mod fault;
mod hits;
mod relay;
mod script;
#[cfg(test)]
mod tests;
mod way;

pub use self::fault::Fault;
pub use self::hits::Hits;
pub use self::script::{Script, Step};

use self::control::{Control, End};
use self::door::Door;
use self::hits::Tally;
use self::relay::{Link, close, relay};
use registry_testkit::ReplyLoss;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How long to wait when the system gives no connection, as when it is out of file descriptors.
const BREATH: Duration = Duration::from_millis(10);

/// A listener on loopback that passes every connection on to a server. Dropping it ends them all.
///
/// When [`inject`](Self::inject), [`heal`](Self::heal), [`cut`](Self::cut) and
/// [`reset`](Self::reset) return, they hold for whatever a client does next.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    door: Arc<Door>,
    control: watch::Sender<Control>,
    tally: Arc<Tally>,
    _relays: JoinSet<()>,
}

impl Proxy {
    /// Starts to pass connections on to `server`.
    ///
    /// # Errors
    ///
    /// If no port on loopback is free.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let (door, address) = Door::open().await?;
        let (door, tally) = (Arc::new(door), Arc::new(Tally::default()));
        let control = watch::Sender::new(Control::default());
        let mut relays = JoinSet::new();
        relays.spawn(accept(door.clone(), server, control.clone(), tally.clone()));
        Ok(Self { address, door, control, tally, _relays: relays })
    }

    /// Where to connect to instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, until it is healed or replaced, there is this fault. Must be called in a
    /// runtime.
    pub fn inject(&self, fault: Fault) {
        let mut entry = self.door.lock();
        match fault {
            Fault::Refuse if entry.shut() => self.tally.add(|hits| hits.closed_listeners += 1),
            Fault::Refuse => {}
            _ => entry.open(),
        }
        self.control.send_modify(|control| {
            control.fault = fault;
            control.injections += 1;
        });
    }

    /// Passes everything on again, at once and in order. Replies that were lost stay lost, so that
    /// the connections are cut if there may be any; otherwise those that stand go on.
    pub fn heal(&self) {
        // Held to the end, so that no connection comes in between.
        let mut entry = self.door.lock();
        entry.open();
        self.control.send_modify(Control::heal);
    }

    /// Closes all connections, those too that the proxy has not yet seen. New ones are passed on.
    ///
    /// Both sides read the end of the stream (FIN): a server that shuts down, or an idle timeout.
    pub fn cut(&self) {
        self.end_all(End::Cut);
    }

    /// Resets all connections, those too that the proxy has not yet seen. New ones are passed on.
    ///
    /// Both sides fail with `ConnectionReset` (RST): a server that was killed with a request
    /// unread, a firewall that forgot the connection.
    pub fn reset(&self) {
        self.end_all(End::Reset);
    }

    /// Strands all connections: from now on nothing flows on them either way, and neither side is told.
    /// New ones are passed on, those too that the proxy has not yet seen. No heal brings them back.
    ///
    /// A firewall or a NAT that forgot the connection and drops its packets.
    pub fn strand(&self) {
        let _entry = self.door.lock();
        self.control.send_modify(|control| {
            control.ends += 1;
            control.end = End::Stranded;
        });
    }

    /// From now on requests reach the server, and its replies reach nobody.
    pub fn lose_replies(&self) {
        self.control.send_modify(|control| control.is_deaf = true);
    }

    /// Loses all replies from the first request on that contains `text`.
    pub fn lose_replies_from(&self, text: &str) {
        self.control.send_modify(|control| control.trigger = Some(text.as_bytes().into()));
    }

    /// Whether replies are being lost.
    pub fn loses_replies(&self) -> bool {
        self.control.borrow().is_deaf
    }

    /// What the faults did so far. What a client has noticed is in it.
    pub fn hits(&self) -> Hits {
        self.tally.hits()
    }

    /// Does what `script` says when it says so, counted from now. Returns with the last step.
    ///
    /// If it is dropped meanwhile, the last fault stands.
    pub async fn play(&self, script: &Script) {
        let start = Instant::now();
        for (at, step) in script.steps() {
            sleep_until(start + *at).await;
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
        let entry = self.door.lock();
        for waiting in entry.waiting() {
            self.tally.count(end);
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

/// Lets connections in, for as long as the proxy is there.
async fn accept(
    door: Arc<Door>,
    server: SocketAddr,
    control: watch::Sender<Control>,
    tally: Arc<Tally>,
) {
    let mut changes = control.subscribe();
    let mut relays = JoinSet::new();
    let mut number = 0;
    loop {
        // With the door locked, so that what was injected before it came in is for it, and what was
        // cut before it came in is not.
        let now = || {
            let control = control.borrow();
            (control.fault, control.ends)
        };
        let accepted = tokio::select! {
            // A door that was opened has a listener that is not yet waited for.
            _ = changes.changed() => continue,
            accepted = door.accept(now) => accepted,
        };
        match accepted {
            Ok((client, (Fault::AcceptThenReset, _))) => {
                tally.add(|hits| hits.rejected += 1);
                close(client, End::Reset);
            }
            Ok((client, (_, ends))) => {
                number += 1;
                let link = Link { control: control.clone(), tally: tally.clone(), ends, number };
                relays.spawn(relay(client, server, link));
            }
            Err(_) => sleep(BREATH).await,
        }
        while relays.try_join_next().is_some() {}
    }
}
