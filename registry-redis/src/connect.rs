//! Connections to the servers of a prefix.

mod address;
mod cluster;
mod config;
mod dial;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod link;
mod reply_meter;
mod sentinel;
mod standalone;
#[cfg(feature = "tls")]
mod tls;
mod topology;

pub(crate) use self::address::Address;
pub(crate) use self::config::ConnectConfig;
pub(crate) use self::dial::Dialer;
pub(crate) use self::link::{Link, Traffic};
pub(crate) use self::reply_meter::Violation;
pub(crate) use self::topology::{Redirect, Topology};
