//! How long to wait for etcd.

use crate::layout::Layout;
use std::sync::Arc;
use std::time::Duration;

/// How long an [`EtcdRegistry`](crate::EtcdRegistry) waits for etcd.
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
    /// How long each request may take, from the call to the whole answer. 5 s by default.
    ///
    /// An operation is a few requests: `register` makes two to ten, `load` one for the first 1,000
    /// instances and one for every 5,000 more (1,000, if they are large). Shorter than a commit takes
    /// (a disk under load: 100 ms and more), every registration is `Unavailable` though it was made.
    /// Longer than a third of a lease's ttl, one lost renewal is noticed too late to repeat it.
    pub request_timeout: Duration,

    /// How long a connection may take to be made, part of `request_timeout`. 2 s by default.
    ///
    /// Shorter than a round trip, no connection is ever made.
    pub connect_timeout: Duration,

    /// How long a connection may be silent, while something is waited for, until it is pinged. 10 s
    /// by default.
    ///
    /// This and `ping_timeout` are what ends a quiet watch whose server is gone without a word.
    /// Below 5 s etcd closes the connection for pinging too often (`--grpc-keepalive-min-time`, 5 s
    /// by default); the longer it is, the longer a watch may be out of date and not know it.
    pub ping_interval: Duration,

    /// How long a ping may go unanswered until the connection is given up. 5 s by default.
    ///
    /// Shorter than the longest pause of the network or the server, every pause cuts all watches.
    pub ping_timeout: Duration,

    /// How long the source of a watch may give no sign of life, until the watch ends `Unavailable`. By default
    /// two thirds of the URL's `ttl`, as [`silence_timeout`](registry_core::silence_timeout) says: 6.7 s unless
    /// it states one.
    ///
    /// Three times in that time a member is asked for two signs: a linearizable read of one key over the
    /// connection of its watches, and an answer on their stream.
    pub silence_timeout: Option<Duration>,

    /// How often it is looked whether a watch has missed anything, a fifth more or less; `None` never
    /// looks. 5 minutes by default.
    ///
    /// Some releases of etcd lose events in silence (issues 17529, 18089 and 19179; none from 3.4.36 and
    /// 3.5.18 on). It costs a read of one key for each watched service. Often, that adds up; seldom, a
    /// view may be wrong for that long.
    pub audit_interval: Option<Duration>,

    /// A layout that is not built in; `None`, the default, uses the one that the URL names.
    ///
    /// Its root replaces the path of the URL. A URL with a path or the option `layout` is `Invalid`
    /// beside it.
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
