//! Output with timestamps.

use crate::tally::{Tally, Totals};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{self, Display};
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, interval_at};

const SECOND: Duration = Duration::from_secs(1);

/// Prints lines with the elapsed time, and on a terminal a progress bar.
#[derive(Clone)]
pub(crate) struct Timeline {
    start: Instant,
    progress: Option<ProgressBar>,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        let progress = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let progress =
                ProgressBar::new_spinner().with_style(style.expect("a template as above"));
            progress.enable_steady_tick(SECOND / 10);
            progress
        });
        Self { start: Instant::now(), progress }
    }

    pub(crate) fn say(&self, what: impl Display) {
        let at = self.start.elapsed().as_secs_f64();
        let print = || println!("{at:5.1} s  {what}");
        match &self.progress {
            Some(progress) => progress.suspend(print),
            None => print(),
        }
    }

    /// Prints every second which server handled which share of the calls.
    pub(crate) async fn follow(&self, tally: &Tally) -> Infallible {
        let mut seconds = interval_at(Instant::now() + SECOND, SECOND);
        loop {
            seconds.tick().await;
            self.say(Shares(tally.take_shares()));
            if let Some(progress) = &self.progress {
                progress.set_message(tally.totals().to_string());
            }
        }
    }

    /// Prints the last lines, and returns the exit code.
    pub(crate) fn end(&self, tally: &Tally) -> ExitCode {
        let totals = tally.totals();
        if let Some(failure) = tally.failure() {
            self.say(format_args!("the first failure: {failure}"));
        }
        if let Some(progress) = &self.progress {
            progress.finish_and_clear();
        }
        println!("{} lookups, of which {} were repeated", totals.lookups, totals.repeated);
        println!("{totals}");
        if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls, {} failed", self.calls, self.failed)
    }
}

/// Shares of the calls: a bar of the first letters of the servers, and the number of calls of each.
struct Shares(BTreeMap<String, u64>);

impl Shares {
    const WIDTH: u64 = 30;
}

impl Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.0.values().sum();
        let (mut drawn, mut served) = (0, 0);
        for (name, share) in &self.0 {
            served += share;
            let end = served * Self::WIDTH / total;
            let letter = name.get(..1).unwrap_or("?");
            (drawn..end).try_for_each(|_| f.write_str(letter))?;
            drawn = end;
        }
        (drawn..Self::WIDTH).try_for_each(|_| f.write_str("."))?;
        self.0.iter().try_for_each(|(name, share)| write!(f, "  {name} {share}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_the_same_width_for_any_number_of_servers() {
        let bar = |shares: &[(&str, u64)]| {
            let shares = shares.iter().map(|(name, share)| ((*name).to_owned(), *share));
            Shares(shares.collect()).to_string()
        };
        assert_eq!(bar(&[]), "..............................");
        assert_eq!(bar(&[("ann", 7)]), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  ann 7");
        let two = bar(&[("ann", 1), ("bob", 2)]);
        assert_eq!(two, "aaaaaaaaaabbbbbbbbbbbbbbbbbbbb  ann 1  bob 2");
    }
}
