//! The servers, and what an operator does to all of them.

use registry_testkit::servers::{Etcd, EtcdCluster, Process, ServerError};
use std::path::Path;

/// How many members.
#[derive(Clone, Copy)]
#[allow(dead_code)] // each binary has one of them
pub(crate) enum Members {
    One,
    Three,
}

pub(crate) enum Running {
    One(Etcd),
    Three(EtcdCluster),
}

impl Members {
    pub(crate) async fn start(self) -> Result<Running, ServerError> {
        match self {
            Self::One => Etcd::start().await.map(Running::One),
            Self::Three => EtcdCluster::start().await.map(Running::Three),
        }
    }
}

impl Running {
    /// Where the first member is, who may lead or follow.
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::One(etcd) => etcd.endpoint(),
            Self::Three(cluster) => cluster.endpoint(0),
        }
    }

    pub(crate) async fn back_up_to(&mut self, backup: &Path) {
        for member in 0..self.members() {
            self.process(member).kill().unwrap();
        }
        for member in 0..self.members() {
            copy(&self.process(member).data_dir(), &backup.join(member.to_string()));
        }
        self.restart().await;
    }

    pub(crate) async fn restore_from(&mut self, backup: &Path) {
        for member in 0..self.members() {
            self.process(member).wipe().unwrap();
        }
        for member in 0..self.members() {
            copy(&backup.join(member.to_string()), &self.process(member).data_dir());
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

    async fn restart(&mut self) {
        match self {
            Self::One(etcd) => etcd.process().unwrap().restart().await.unwrap(),
            Self::Three(cluster) => cluster.restart_all().await.unwrap(),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
