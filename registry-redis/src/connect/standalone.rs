//! A single server.

use super::address::Address;
use super::dial::parse_database;
use super::topology::Topology;
use crate::error::StoreError;
use crate::shard::KeyGroup;
use async_trait::async_trait;
use registry_core::{Error, ErrorKind, Result, Target};
use std::fmt;

#[derive(Debug)]
pub(super) struct Standalone(Address);

impl Standalone {
    const PORT: u16 = 6379;

    /// Returns the server of a URL and its database.
    pub(super) fn parse(target: &Target) -> Result<(Self, u32)> {
        let [host] = target.hosts() else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "redis:// must have exactly one host: use redis+sentinel:// or redis+cluster:// for several",
            ));
        };
        Ok((Self(Address::of(host, Self::PORT)), parse_database(target.path())?))
    }
}

#[async_trait]
impl Topology for Standalone {
    fn known_server(&self, _: KeyGroup) -> Option<Address> {
        Some(self.0.clone())
    }

    async fn locate(&self, _: KeyGroup) -> Result<Address, StoreError> {
        Ok(self.0.clone())
    }

    fn invalidate(&self, _: &Address) {}
}

impl fmt::Display for Standalone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
