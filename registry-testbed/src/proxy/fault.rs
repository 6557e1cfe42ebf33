//! Network faults.

use std::time::Duration;

/// A network fault on all connections, until it is healed or replaced. A proxy has one fault at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Forwards everything: a healthy network.
    #[default]
    Pass,
    /// Delays everything both ways, including the end of a stream, and keeps the order. Models a distant server, or
    /// queues on the way to it.
    ///
    /// Chunks are delayed concurrently, so throughput stays the same up to 4 MiB in flight each way; then the proxy
    /// stops reading. When the fault is healed or replaced, delayed chunks are forwarded at once. Connecting is not
    /// delayed, since the kernel does it.
    Delay {
        /// The delay of each chunk, each way.
        each: Duration,
        /// The maximum of a random additional delay. Every run draws the same delays for the nth connection.
        jitter: Duration,
    },
    /// Delays replies and keeps their order. Requests are not delayed, so a request takes effect long before its
    /// client gets the reply. When the fault is healed or replaced, delayed chunks are forwarded at once.
    DelayReplies {
        /// The delay of each chunk.
        each: Duration,
    },
    /// Limits the bandwidth of each connection, each way. Models a congested link, or a server short of CPU.
    ///
    /// Up to 4 MiB wait each way; then the proxy stops reading.
    Throttle {
        /// The bandwidth, at least 1.
        bytes_per_second: u32,
    },
    /// Holds up everything both ways, including the end of a stream. Connections stay open, and new ones are accepted.
    /// Models an unplugged cable, a firewall that drops packets, or a paused server.
    ///
    /// Nothing is lost: afterwards everything is forwarded, as by TCP's retransmissions. So a request may arrive late,
    /// even after its client has given up. New connections reach the server only afterwards.
    Blackhole,
    /// Drops the server's HTTP/2 DATA frames on all streams that it has answered on at the injection. Later streams and
    /// all other frames pass. Models a stream that the server has forgotten.
    SilentStreams,
    /// Splits every write into pieces, so that readers get partial messages, as with small packets or TLS records.
    ///
    /// The first 32 pieces of a chunk are a millisecond apart. The others follow as fast as the runtime allows, so a
    /// slow reader may get several at once.
    Slice {
        /// The maximum size of a piece, at least 1.
        bytes: usize,
    },
    /// Closes each connection after this many more bytes of replies. Models a server that crashes while it answers:
    /// requests have arrived, but the rest of the reply is lost.
    ///
    /// Open connections count from the injection. With zero, they are closed before the first byte of a reply.
    CutAfter {
        /// The number of bytes of replies that pass.
        bytes: usize,
    },
    /// Closes each connection after this many more bytes of requests. Models a client that crashes, or a link that
    /// breaks, during a request: the server has only a part of it, and its replies are lost.
    ///
    /// Open connections count from the injection. With zero, they are closed before the first byte of a request.
    CutRequestsAfter {
        /// The number of bytes of requests that pass.
        bytes: usize,
    },
    /// Stops listening, so that connecting fails with `ConnectionRefused`. Models a server that is down or starting.
    ///
    /// Open connections continue: [`cut`](super::Proxy::cut) or [`reset`](super::Proxy::reset) them to model a crash.
    /// The kernel resets connections that were not yet accepted. The proxy keeps its port. It panics at the heal if
    /// another process listens on the port nevertheless.
    Refuse,
    /// Resets new connections as soon as they are accepted. Open connections continue. Models a load balancer without
    /// a backend, or a server with too many clients.
    ///
    /// The client may fail when it connects, or at its first read or write.
    AcceptThenReset,
}
