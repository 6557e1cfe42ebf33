//! What can be wrong with a network.

use std::time::Duration;

/// What happens to all connections until it is healed or replaced. There is one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Everything is passed on: a healthy network.
    #[default]
    Pass,
    /// What is sent arrives later, in order, and so does the end of a stream: a server far away, or
    /// queues on the way to it.
    ///
    /// Chunks wait beside each other, so that throughput stays, up to 4 MiB each way; then nothing
    /// more is read. What waits is passed on at once when the fault is healed or replaced. To
    /// connect takes no longer, since the kernel does that.
    Delay {
        /// How long each chunk takes, each way.
        each: Duration,
        /// How much longer at most, by chance. Every run has the same chances for the nth
        /// connection.
        jitter: Duration,
    },
    /// Replies arrive later, in order, and requests at once: a request takes effect long before its client hears
    /// of it. What waits is passed on at once when the fault is healed or replaced.
    DelayReplies {
        /// How long each chunk takes.
        each: Duration,
    },
    /// Each connection has so little bandwidth, each way: a full link, or a server short of CPU.
    ///
    /// What comes meanwhile waits, up to 4 MiB each way; then nothing more is read.
    Throttle {
        /// At least one.
        bytes_per_second: u32,
    },
    /// Connections stand and new ones are accepted, and nothing flows either way, not even the end
    /// of a stream: a cable that is out, a firewall that drops packets, a server that is paused.
    ///
    /// Nothing is lost. After it, what was sent flows on, as TCP sends it again: a request comes
    /// late, even that of a client that has given up meanwhile. New connections reach the server
    /// only then.
    Blackhole,
    /// HTTP/2: the server's messages are dropped on all streams that it has answered on until then. Streams that are
    /// opened later flow, and so does all else on the connection: a stream that its server forgot.
    SilentStreams,
    /// Every write is cut into pieces, so that whoever reads gets parts of a message: what small
    /// packets and TLS records do, and any network may.
    ///
    /// The first 32 pieces of a chunk are a millisecond apart and the rest as fast as the runtime
    /// goes, so that a reader that is slower than that gets several at once.
    Slice {
        /// How large a piece is at most. At least one.
        bytes: usize,
    },
    /// Each connection is closed after so many more bytes of replies: a server that dies while it
    /// answers. The rest of the reply is lost, and requests have arrived.
    ///
    /// Connections that stand count from the injection. If it is zero, they are closed instead of
    /// the first byte.
    CutAfter {
        /// How many bytes of replies pass.
        bytes: usize,
    },
    /// Each connection is closed after so many more bytes of requests: a client that dies while it asks,
    /// or a link that breaks under it. The server has a part of a request, and what it answers is lost.
    ///
    /// Connections that stand count from the injection. If it is zero, they are closed instead of
    /// the first byte.
    CutRequestsAfter {
        /// How many bytes of requests pass.
        bytes: usize,
    },
    /// Nobody listens: a server that is down, or that starts. To connect fails with
    /// `ConnectionRefused`.
    ///
    /// Connections that stand go on: [`cut`](super::Proxy::cut) or [`reset`](super::Proxy::reset)
    /// them for a server that crashed. Those that were not yet accepted are reset by the kernel.
    /// The proxy keeps its port meanwhile, and panics on the way back if another process listens
    /// there in spite of that.
    Refuse,
    /// New connections are reset as soon as they are accepted: a load balancer without a backend, a
    /// server that has too many clients. Connections that stand go on.
    ///
    /// The client may see it when it connects or when it first reads or writes.
    AcceptThenReset,
}
