//! The servers, and the operations on all of them.

#![allow(dead_code)] // each binary uses a part of it

use registry_testbed::servers::{Etcd, EtcdCluster, Process, ServerError, ServerOptions};
use std::path::Path;

/// How many members.
#[derive(Clone, Copy)]
pub(crate) enum Members {
    One,
    Three,
}

pub(crate) enum Running {
    One(Etcd),
    Three(EtcdCluster),
}

impl Members {
    /// Reads `REGISTRY_TEST_ETCD_MEMBERS`, one by default.
    pub(crate) fn from_env() -> Self {
        match std::env::var("REGISTRY_TEST_ETCD_MEMBERS").as_deref() {
            Ok("3") => Self::Three,
            Ok("1") | Err(_) => Self::One,
            Ok(other) => panic!("REGISTRY_TEST_ETCD_MEMBERS must be 1 or 3, got=`{other}`"),
        }
    }

    pub(crate) async fn start(self, options: ServerOptions) -> Result<Running, ServerError> {
        match self {
            Self::One => Etcd::start_with(options).await.map(Running::One),
            Self::Three => EtcdCluster::start_with(options).await.map(Running::Three),
        }
    }
}

impl Running {
    /// Returns the address of the first member, which may be leader or follower.
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::One(etcd) => etcd.endpoint(),
            Self::Three(cluster) => cluster.endpoint(0),
        }
    }

    pub(crate) fn pause(&mut self) {
        self.each(|member| member.pause().unwrap());
    }

    pub(crate) fn resume(&mut self) {
        self.each(|member| member.resume().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        self.each(|member| member.kill().unwrap());
    }

    /// Kills the servers and deletes their data.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        self.each(|member| member.wipe().unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        match self {
            Self::One(etcd) => etcd.process().unwrap().restart().await.unwrap(),
            Self::Three(cluster) => cluster.restart_all().await.unwrap(),
        }
    }

    pub(crate) async fn back_up_to(&mut self, backup: &Path) {
        self.kill();
        for member in 0..self.members() {
            self.process(member).copy_data(&backup.join(member.to_string())).unwrap();
        }
        self.restart().await;
    }

    pub(crate) async fn restore_from(&mut self, backup: &Path) {
        self.kill();
        for member in 0..self.members() {
            self.process(member).replace_data(&backup.join(member.to_string())).unwrap();
        }
        self.restart().await;
    }

    fn members(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Three(_) => 3,
        }
    }

    fn process(&mut self, member: usize) -> &mut Process {
        match self {
            Self::One(etcd) => etcd.process().unwrap(),
            Self::Three(cluster) => cluster.process(member),
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Process)) {
        (0..self.members()).for_each(|member| act(self.process(member)));
    }
}
