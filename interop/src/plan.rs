//! The plan: the runs to execute.

use crate::options::Options;
use crate::schedule::Schedule;
use crate::spec::EtcdRelease::{V34, V35, V36, V37};
use crate::spec::Peer::{Naming, Zero16, Zero19, Zero110};
use crate::spec::{EtcdRelease, Peer, RunSpec};
use crate::store::MEMBERS;
use anyhow::{Result, ensure};

/// A release of etcd, its members, a Go library, and the number of etcd hosts that callers know.
type Place = (EtcdRelease, usize, Peer, usize);

/// The places of all schedules: the newest go-zero on the oldest and the newest etcd, with several hosts.
const FULL: [Place; 4] = [
    (V34, 1, Zero110, 2),
    (V34, MEMBERS, Zero110, 2),
    (V37, 1, Zero110, 2),
    (V37, MEMBERS, Zero110, 2),
];

/// The other places. Each pair of two values occurs in at least one place.
const PAIRWISE: [Place; 16] = [
    (V34, 1, Zero19, 1),
    (V34, MEMBERS, Zero16, 2),
    (V34, 1, Naming, 2),
    (V34, 1, Zero110, 1),
    (V35, 1, Zero110, 2),
    (V35, MEMBERS, Zero19, 2),
    (V35, 1, Zero16, 1),
    (V35, MEMBERS, Naming, 2),
    (V36, 1, Zero110, 2),
    (V36, MEMBERS, Zero19, 2),
    (V36, 1, Zero16, 2),
    (V36, 1, Naming, 1),
    (V37, 1, Zero110, 1),
    (V37, 1, Zero19, 2),
    (V37, MEMBERS, Zero16, 2),
    (V37, MEMBERS, Naming, 2),
];

/// The schedules in the other places.
const PAIRWISE_SCHEDULES: [Schedule; 4] =
    [Schedule::Join, Schedule::Drain, Schedule::Kill, Schedule::KeyDeleted];

/// Returns the runs in their order.
pub(crate) fn plan(options: &Options) -> Result<Vec<RunSpec>> {
    let mut runs = Vec::new();
    let mut add = |place: Place, schedules: &[Schedule]| {
        for schedule in schedules {
            let (etcd, members, peer, hosts) = place;
            let run = RunSpec { schedule: *schedule, etcd, members, peer, hosts };
            if schedule.runs_with(members, peer) && options.asks_for(&run) && !runs.contains(&run) {
                runs.push(run);
            }
        }
    };
    if options.quick {
        let quick: Vec<_> = Schedule::all().iter().copied().filter(|one| one.is_quick()).collect();
        add(FULL[0], &quick);
        add((V34, 1, Naming, 2), &[Schedule::Join, Schedule::Drain]);
    } else {
        for place in FULL {
            add(place, Schedule::all());
        }
        let is_chosen = !options.schedule.is_empty();
        let elsewhere = if is_chosen { Schedule::all() } else { &PAIRWISE_SCHEDULES };
        for place in PAIRWISE {
            add(place, elsewhere);
        }
    }
    ensure!(!runs.is_empty(), "none of these schedules runs with these options");
    Ok(runs)
}

impl Options {
    fn asks_for(&self, run: &RunSpec) -> bool {
        fn is_in<T: PartialEq>(asked: &[T], one: &T) -> bool {
            asked.is_empty() || asked.contains(one)
        }
        is_in(&self.schedule, &run.schedule)
            && is_in(&self.etcd, &run.etcd)
            && is_in(&self.members, &run.members)
            && is_in(&self.peer, &run.peer)
            && is_in(&self.hosts, &run.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::estimate;
    use clap::Parser;
    use std::time::Duration;

    fn took(line: &str) -> Duration {
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        plan(&options).unwrap().iter().map(estimate).sum()
    }

    #[test]
    fn both_forms_stay_within_their_time() {
        assert!(
            took("interop --quick") < Duration::from_secs(240),
            "{:?}",
            took("interop --quick")
        );
        assert!(took("interop") < Duration::from_secs(3 * 3_600), "{:?}", took("interop"));
    }

    /// Callers with several hosts send an authority that most servers reject. A caller with one host would hide that.
    #[test]
    fn all_schedules_are_run_with_several_hosts() {
        assert!(FULL.iter().all(|(_, _, _, hosts)| *hosts > 1));
    }

    #[test]
    fn each_pair_of_values_is_covered() {
        let all: Vec<Place> = FULL.iter().chain(&PAIRWISE).copied().collect();
        for etcd in [V34, V35, V36, V37] {
            for peer in [Zero110, Zero19, Zero16, Naming] {
                assert!(all.iter().any(|one| one.0 == etcd && one.2 == peer), "{etcd} {peer}");
            }
            for members in [1, MEMBERS] {
                assert!(
                    all.iter().any(|one| one.0 == etcd && one.1 == members),
                    "{etcd} {members}"
                );
            }
        }
        for peer in [Zero110, Zero19, Zero16, Naming] {
            for (members, hosts) in [(1, 1), (1, 2), (MEMBERS, 2)] {
                let is_it = |one: &&Place| one.1 == members && one.2 == peer && one.3 == hosts;
                assert!(all.iter().any(|one| is_it(&one)), "{peer} {members} {hosts}");
            }
        }
    }
}
