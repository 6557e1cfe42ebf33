//! Counts the connections that a change moves for a client that connects to 32 of 1,000 instances. go-zero takes the
//! first 32 of a new shuffle at each change (`subset` in its `zrpc/resolver/internal`).

use crate::harness::{Figure, Figures, as_f64};
use registry_balance::{client_number, subset};
use std::collections::BTreeSet;

const INSTANCES: u32 = 1_000;
const SUBSET: usize = 32;

pub(super) fn figures(quick: bool) -> Figures {
    let changes = if quick { 20 } else { 300 };
    let mut figures = Figures::default();
    let client = client_number("one of many");
    let ours = moved(changes, |listed| subset(client, SUBSET, listed, String::as_str));
    let shuffled = moved(changes, |mut listed| {
        fastrand::shuffle(&mut listed);
        listed.into_iter().take(SUBSET).collect()
    });
    for (arm, moved) in [("ours", ours), ("a new shuffle", shuffled)] {
        let name = |what: &str| format!("{arm}: connections moved per change, {what}");
        figures.add(Figure::median(name("median"), &moved, ""));
        let mean = moved.iter().sum::<f64>() / as_f64(moved.len());
        let mean = Figure::counted(name("mean"), mean, "");
        figures.add(if arm == "ours" { mean.at_most(1.0) } else { mean });
    }
    figures.note(format!("{changes} changes to {INSTANCES} instances, each of which adds or removes one; every fourth change removes a connected instance; a closed connection and its replacement count as one"));
    figures
}

/// Returns the number of newly chosen instances at each change.
fn moved(changes: u32, choose: impl Fn(Vec<String>) -> Vec<String>) -> Vec<f64> {
    let mut listed: Vec<String> = (0..INSTANCES).map(|n| format!("10.0.0.1:{n}")).collect();
    let chosen = |listed: &[String]| choose(listed.to_vec()).into_iter().collect::<BTreeSet<_>>();
    let (mut before, mut moved) = (chosen(&listed), Vec::new());
    for change in 0..changes {
        let removed = match change % 4 {
            0 => listed.iter().position(|address| before.contains(address)),
            2 => Some(fastrand::usize(..listed.len())),
            _ => None,
        };
        match removed {
            Some(n) => drop(listed.swap_remove(n)),
            None => listed.push(format!("10.0.0.2:{change}")),
        }
        let after = chosen(&listed);
        moved.push(as_f64(after.difference(&before).count()));
        before = after;
    }
    moved
}
