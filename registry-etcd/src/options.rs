//! Timeouts and other options of a connection to etcd.

use crate::layout::Layout;
use std::sync::Arc;
use std::time::Duration;

/// Timeouts and other options of an [`EtcdRegistry`](crate::EtcdRegistry).
///
/// ```
/// use registry_etcd::EtcdOptions;
/// use std::time::Duration;
///
/// let request_timeout = Duration::from_secs(10);
/// let patient = EtcdOptions { request_timeout, ..EtcdOptions::default() };
/// ```
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Timeout of each request, from the call to the complete response. 5 s by default.
    ///
    /// An operation takes several requests: `register` makes two to ten. `load` makes one for the first 1,000
    /// instances and one for every 5,000 more (1,000 if the records are large). If the timeout is shorter than a
    /// commit takes (100 ms and more on a loaded disk), every registration fails `Unavailable` although it was made.
    /// If it is longer than a third of a lease's ttl, a lost renewal is noticed too late to retry it.
    pub request_timeout: Duration,

    /// Timeout for making a connection, part of `request_timeout`. 2 s by default.
    ///
    /// It must be longer than a round trip, or no connection is ever made.
    pub connect_timeout: Duration,

    /// How long a connection may be silent while an answer is pending before it is pinged. 10 s by default.
    ///
    /// This option and `ping_timeout` end an idle watch whose server vanished. Below 5 s, etcd closes the
    /// connection for pinging too often (`--grpc-keepalive-min-time`, 5 s by default). A longer interval lets
    /// a watch be out of date for longer without noticing.
    pub ping_interval: Duration,

    /// How long a ping may stay unanswered before the connection is closed. 5 s by default.
    ///
    /// If it is shorter than the pauses of the network or the server, each such pause breaks all watches.
    pub ping_timeout: Duration,

    /// How long the source of a watch may show no sign of life before the watch ends `Unavailable`. Defaults to two
    /// thirds of the URL's `ttl`, or 6.7 s without one, see [`silence_timeout`](registry_core::silence_timeout).
    ///
    /// Three times within this period, the client probes a member: with a linearizable read of one key on the
    /// connection of its watches, and with a request on their stream.
    pub silence_timeout: Option<Duration>,

    /// How often each watch is audited for missed events, varied by up to a fifth; `None` disables it. 5
    /// minutes by default.
    ///
    /// Some releases of etcd lose events silently (issues 17529, 18089 and 19179; fixed in 3.4.36 and
    /// 3.5.18). An audit reads one key of each watched service. A longer interval costs less, but a view may
    /// be wrong for that long.
    pub audit_interval: Option<Duration>,

    /// A custom layout; `None`, the default, uses the layout that the URL names.
    ///
    /// Its root replaces the path of the URL. If the URL also has a path or the option `layout`, connecting
    /// fails `Invalid`.
    pub layout: Option<Arc<dyn Layout>>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            silence_timeout: None,
            audit_interval: Some(Duration::from_secs(300)),
            layout: None,
        }
    }
}
