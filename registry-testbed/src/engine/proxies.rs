//! The network between a server and both sides: a proxy for each side.

use super::{Fault, Side};
use crate::proxy::{self, Hits, Proxy, Script};
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

/// The bandwidth of a throttled connection: enough for a few renewals a second.
const BYTES_PER_SECOND: u32 = 8_000;

/// The size of the pieces of sliced messages.
const PIECE: usize = 7;

/// A proxy for the publishers, and one for the subscribers.
#[derive(Debug)]
pub struct ProxyPair {
    publisher: Proxy,
    subscriber: Proxy,
    /// The maximum delay of [`Fault::Delay`].
    delay: Duration,
    /// The injected fault.
    active: Mutex<Option<ActiveFault>>,
}

#[derive(Debug)]
struct ActiveFault {
    fault: Fault,
    side: Side,
    before: [Hits; 2],
}

impl ProxyPair {
    /// Starts both in front of `server`. `delay` is the maximum delay of [`Fault::Delay`].
    ///
    /// # Errors
    ///
    /// An IO error if no port on loopback is free.
    pub async fn start(server: SocketAddr, delay: Duration) -> io::Result<Self> {
        let publisher = Proxy::start(server).await?;
        let subscriber = Proxy::start(server).await?;
        Ok(Self { publisher, subscriber, delay, active: Mutex::new(None) })
    }

    /// Returns the address that a side connects to.
    pub fn address(&self, side: Side) -> SocketAddr {
        match side {
            Side::Subscriber => self.subscriber.address(),
            _ => self.publisher.address(),
        }
    }

    /// Injects a network fault.
    ///
    /// # Panics
    ///
    /// Panics if it is a fault of the store.
    pub fn inject(&self, fault: Fault, side: Side) {
        let before = [self.publisher.hits(), self.subscriber.hits()];
        for proxy in self.of(side) {
            self.begin(fault, proxy);
        }
        *self.active.lock().unwrap() = Some(ActiveFault { fault, side, before });
    }

    /// Delays the replies to a side until the fault is healed. Requests are not delayed.
    pub fn delay_replies(&self, side: Side, by: Duration) {
        let before = [self.publisher.hits(), self.subscriber.hits()];
        for proxy in self.of(side) {
            proxy.inject(proxy::Fault::DelayReplies { each: by });
        }
        *self.active.lock().unwrap() = Some(ActiveFault { fault: Fault::Delay, side, before });
    }

    /// Ends the injected fault.
    ///
    /// # Panics
    ///
    /// Panics if it had no effect on a side that it was injected on.
    pub fn heal(&self) {
        let Some(ActiveFault { fault, side, before }) = self.active.lock().unwrap().take() else {
            return;
        };
        for proxy in self.of(side) {
            proxy.heal();
            let before = before[usize::from(std::ptr::eq(proxy, &raw const self.subscriber))];
            let now = proxy.hits();
            assert!(
                count(fault, now) > count(fault, before),
                "{fault:?} of {side:?} had no effect"
            );
        }
    }

    /// Plays a random script on each proxy.
    ///
    /// # Panics
    ///
    /// Panics if no fault of a script had an effect.
    pub async fn play(&self, seed: u64, length: Duration) {
        let scripts = [2 * seed, 2 * seed + 1].map(|seed| Script::random(seed, length));
        tokio::join!(self.publisher.play(&scripts[0]), self.subscriber.play(&scripts[1]));
        for (proxy, script) in [&self.publisher, &self.subscriber].into_iter().zip(scripts) {
            assert_ne!(proxy.hits(), Hits::default(), "no step had an effect:\n{script}");
        }
    }

    fn of(&self, side: Side) -> impl Iterator<Item = &Proxy> {
        let publisher = side.has_publisher().then_some(&self.publisher);
        publisher.into_iter().chain(side.has_subscriber().then_some(&self.subscriber))
    }

    fn begin(&self, fault: Fault, proxy: &Proxy) {
        match fault {
            Fault::Cut => proxy.cut(),
            Fault::Reset => proxy.reset(),
            Fault::Silence => proxy.inject(proxy::Fault::Blackhole),
            Fault::LostReplies => proxy.lose_replies(),
            Fault::Outage => {
                proxy.inject(proxy::Fault::Refuse);
                proxy.cut();
            }
            Fault::Delay => {
                let (each, jitter) = (self.delay / 2, self.delay / 2);
                proxy.inject(proxy::Fault::Delay { each, jitter });
            }
            Fault::Slice => proxy.inject(proxy::Fault::Slice { bytes: PIECE }),
            Fault::Throttle => {
                proxy.inject(proxy::Fault::Throttle { bytes_per_second: BYTES_PER_SECOND });
            }
            _ => panic!("{fault:?} is not a network fault"),
        }
    }
}

/// Returns how often a fault had an effect.
fn count(fault: Fault, hits: Hits) -> u64 {
    match fault {
        Fault::Cut => hits.cut,
        Fault::Reset => hits.reset,
        Fault::Silence => hits.held_directions,
        Fault::LostReplies => hits.lost_bytes,
        Fault::Outage => hits.closed_listeners.min(hits.cut),
        Fault::Delay => hits.delayed_chunks,
        Fault::Slice => hits.sliced_chunks,
        Fault::Throttle => hits.throttled_bytes,
        _ => 0,
    }
}
