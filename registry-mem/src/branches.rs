//! The branches of a history, with which a cursor proves that it belongs to the store's history.

use std::fmt;
use std::str::FromStr;

/// The branches of a history as pairs `(after, branch)`: the revisions above `after` were made in `branch`,
/// up to those of the next pair.
///
/// A cursor is valid if and only if its revision was made in its branch. So a cursor from before a rollback
/// stays valid. One that was rolled back does not, even when its revision is reached again.
#[derive(Clone, Debug)]
pub(crate) struct Branches(Vec<(u64, u64)>);

impl Branches {
    pub(crate) fn new(branch: u64) -> Self {
        Self(vec![(0, branch)])
    }

    /// Returns the branch in which `revision` was, or would be, made.
    pub(crate) fn branch_of(&self, revision: u64) -> u64 {
        let made_in = self.0.iter().rev().find(|(after, _)| *after < revision);
        made_in.or_else(|| self.0.first()).map_or(0, |(_, branch)| *branch)
    }

    /// Continues in `branch` after the revision `after`.
    pub(crate) fn fork(&mut self, after: u64, branch: u64) {
        if after == 0 {
            self.0.clear(); // the branches share nothing
        }
        self.0.push((after, branch));
    }
}

/// The proof in a cursor of this store.
pub(crate) struct Branch(pub(crate) u64);

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl FromStr for Branch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}
