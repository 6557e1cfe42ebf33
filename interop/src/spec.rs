//! The specification of a run: a schedule, an etcd and a Go library.

use crate::schedule::Schedule;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) schedule: Schedule,
    pub(crate) etcd: EtcdRelease,
    pub(crate) members: usize,
    pub(crate) peer: Peer,
    /// The number of hosts in the configuration of clients. With a cluster it lists all members.
    pub(crate) hosts: usize,
}

/// A release of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub(crate) enum EtcdRelease {
    #[value(name = "3.4")]
    V34,
    #[value(name = "3.5")]
    V35,
    #[value(name = "3.6")]
    V36,
    #[value(name = "3.7")]
    V37,
}

/// The library of the Go programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Peer {
    #[value(name = "go-zero-1.10")]
    Zero110,
    #[value(name = "go-zero-1.9")]
    Zero19,
    #[value(name = "go-zero-1.6")]
    Zero16,
    /// etcd's own `naming/resolver` and `naming/endpoints`.
    #[value(name = "naming")]
    Naming,
}

/// The language of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Language {
    Go,
    Rust,
}

impl Peer {
    /// Returns the name of the Go program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Zero110 | Self::Naming => "interop-1.10",
            Self::Zero19 => "interop-1.9",
            Self::Zero16 => "interop-1.6",
        }
    }

    pub(crate) fn server_role(self) -> &'static str {
        if self == Self::Naming { "naming-server" } else { "server" }
    }

    pub(crate) fn caller_role(self) -> &'static str {
        if self == Self::Naming { "naming-caller" } else { "caller" }
    }
}

impl RunSpec {
    /// Returns the name of the run for use in a file name.
    pub(crate) fn file_name(&self) -> String {
        self.to_string().replace([' ', ','], "-")
    }
}

impl fmt::Display for RunSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedule, etcd, members, peer, hosts } = self;
        write!(f, "{schedule} {peer} etcd-{etcd}x{members} hosts-{hosts}")
    }
}

/// The name on the command line.
macro_rules! display_by_value {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.pad(value.as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}

display_by_value!(EtcdRelease, Peer, Schedule);

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Go => "Go",
            Self::Rust => "Rust",
        })
    }
}
