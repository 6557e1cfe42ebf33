//! Which history a store is the end of, and how a cursor proves that it belongs to it.

use std::fmt;
use std::str::FromStr;

/// Which history a model is the end of: revisions after the first of each pair were made in the
/// branch that is the second, up to those of the next pair.
///
/// A cursor is valid iff the revision it names was made in the branch it names. (What was made
/// before a rollback and is still there stays valid, what was undone does not, even when the numbers
/// are reached again.)
#[derive(Clone, Debug)]
pub(crate) struct Lineage(Vec<(u64, u64)>);

impl Lineage {
    pub(crate) fn new(branch: u64) -> Self {
        Self(vec![(0, branch)])
    }

    /// The branch that `revision` was, or would be, made in.
    pub(crate) fn branch_of(&self, revision: u64) -> u64 {
        let made_in = self.0.iter().rev().find(|(after, _)| *after < revision);
        made_in.or_else(|| self.0.first()).map_or(0, |(_, branch)| *branch)
    }

    /// Goes on in `branch` after the revision `after`.
    pub(crate) fn fork(&mut self, after: u64, branch: u64) {
        if after == 0 {
            self.0.clear(); // nothing is shared
        }
        self.0.push((after, branch));
    }
}

/// The proof in a cursor of this store.
pub(crate) struct Branch(pub(crate) u64);

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Branch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}
