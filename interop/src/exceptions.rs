//! Exceptions: figures that may be worse than those of Go with Go. `docs/go-zero.md` has the reasons.

use crate::report::{Figure, Pairing};
use crate::schedule::Schedule;
use crate::spec::{Language, RunSpec};

struct Exception {
    schedules: &'static [Schedule],
    /// `rust` or `mixed`, or empty for all.
    servers: &'static str,
    caller: Option<Language>,
    figure: Figure,
    /// The heading of the reason in the page.
    reason: &'static str,
}

const EXCEPTIONS: [Exception; 2] = [drained_holder(Figure::Lost), drained_holder(Figure::Gap)];

/// Returns an exception: a Go caller sees no instance while the holder of an id drains.
const fn drained_holder(figure: Figure) -> Exception {
    Exception {
        schedules: &[Schedule::SameId],
        servers: "rust",
        caller: Some(Language::Go),
        figure,
        reason: "a holder that drains keeps its id",
    }
}

/// Returns why a figure of a pairing may be worse.
pub(crate) fn reason(spec: &RunSpec, pairing: &Pairing, figure: Figure) -> Option<&'static str> {
    let is_it = |one: &&Exception| {
        one.schedules.contains(&spec.schedule)
            && (one.servers.is_empty() || one.servers == pairing.servers)
            && one.caller.is_none_or(|caller| caller == pairing.caller)
            && one.figure == figure
    };
    EXCEPTIONS.iter().find(is_it).map(|one| one.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_zero_page_has_each_reason() {
        let page = include_str!("../../docs/go-zero.md");
        for exception in &EXCEPTIONS {
            assert!(page.contains(exception.reason), "{}", exception.reason);
        }
    }
}
