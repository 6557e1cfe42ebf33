//! Properties of the state machine for every sequence of events and times: the store gives any answer at any time, the
//! scheduler stops for any reason, the process is paused, and callers update and stop at any time.

mod driver;

use self::driver::Driver;
use super::Action;
use proptest::prelude::*;
use registry_core::{Error, ErrorKind, Holder, LeaseId, Result};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(9);

/// The course of the action that the machine decided on.
#[derive(Clone, Debug)]
struct Step {
    /// How long it waits for a permit, if it must wait.
    waits: Option<Duration>,
    /// How long it takes, unless its timeout passes first.
    takes: Duration,
    /// How long the process is paused before the task handles the end of the action.
    paused: Duration,
    answer: Answer,
    /// The command that a handle sends during the action.
    command: Option<Command>,
    /// The number of renewals before the scheduler ends.
    renewals: u32,
    random: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// A grant of a multiple of the requested ttl.
    Ok(u32),
    Superseded(Option<i64>),
    Err(ErrorKind),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Command {
    Update,
    Stop,
}

impl Answer {
    fn result(self) -> Result<u32> {
        match self {
            Self::Ok(factor) => Ok(factor),
            Self::Err(kind) => Err(Error::new(kind, "an answer")),
            Self::Superseded(lease) => {
                let error = Error::new(ErrorKind::Superseded, "an answer");
                Err(match lease {
                    Some(lease) => error.with_holder(holder(lease)),
                    None => error,
                })
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use ErrorKind::{Denied, Internal, Invalid, LeaseLost, Unavailable};
    let answer = prop_oneof![
        6 => (1_u32..4).prop_map(Answer::Ok),
        2 => proptest::option::of(1_i64..4).prop_map(Answer::Superseded),
        4 => Just(Answer::Err(Unavailable)),
        2 => prop::sample::select(vec![LeaseLost, Internal, Invalid, Denied]).prop_map(Answer::Err),
    ];
    let takes = prop_oneof![3 => 0_u64..50, 2 => 0_u64..12_000];
    let paused = prop_oneof![6 => Just(0_u64), 2 => 0_u64..20, 1 => 0_u64..40_000];
    let command = prop_oneof![
        16 => Just(None),
        6 => Just(Some(Command::Update)),
        1 => Just(Some(Command::Stop)),
    ];
    let waits = prop_oneof![4 => Just(None), 1 => (0_u64..12_000).prop_map(Some)];
    let step = (waits, takes, paused, answer, command, 0_u32..4, 0.0..1.0);
    let step = step.prop_map(|(waits, takes, paused, answer, command, renewals, random)| {
        let (takes, paused) = (Duration::from_millis(takes), Duration::from_millis(paused));
        let waits = waits.map(Duration::from_millis);
        Step { waits, takes, paused, answer, command, renewals, random }
    });
    proptest::collection::vec(step, 1..80)
}

fn holder(lease: i64) -> Holder {
    Holder::new(Some(LeaseId::new(lease).unwrap()), None)
}

proptest! {
    #[test]
    fn the_rules_hold_for_every_sequence_of_events(takeover: bool, steps in steps()) {
        let mut driver = Driver::new(takeover);
        let mut action = driver.first_action();
        let stop = Step {
            waits: None,
            takes: Duration::ZERO,
            paused: Duration::ZERO,
            answer: Answer::Ok(1),
            command: Some(Command::Stop),
            renewals: 0,
            random: 0.5,
        };
        let end = Step { command: None, ..stop.clone() };
        for step in steps.iter().chain([&stop; 4]).chain([&end; 4]) {
            if matches!(action, Action::End(_)) {
                break;
            }
            action = driver.perform(&action, step);
        }
        prop_assert!(matches!(action, Action::End(_)), "not ended by a stop: {:?}", action);
        let replies = driver.into_replies();
        prop_assert!(replies.iter().all(|count| *count == 1), "{:?}", replies);
    }
}
