//! Which servers hold a prefix, and how to connect to them.

mod address;
mod cluster;
mod config;
mod dial;
mod sentinel;
mod standalone;
mod topology;

pub(crate) use self::address::Address;
pub(crate) use self::config::ConnectConfig;
pub(crate) use self::dial::Dialer;
pub(crate) use self::topology::{Redirect, Topology};
