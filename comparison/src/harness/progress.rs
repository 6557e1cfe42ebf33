//! The progress of a measurement: a bar on a terminal, or else a line per step.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};

pub struct Progress {
    name: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    const STEPS: u32 = 1000;

    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(Self::STEPS.into()).with_prefix(name.clone());
            let style = ProgressStyle::with_template("{prefix} {bar:30} {elapsed} {wide_msg}");
            style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        Self { name, bar }
    }

    /// Shows the next step, and the completed share from 0 to 1.
    pub fn update(&self, step: &str, share: f64) {
        match &self.bar {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
            Some(bar) => {
                bar.set_position((share * f64::from(Self::STEPS)) as u64);
                bar.set_message(step.to_owned());
            }
            None => eprintln!("{} {:.0} %: {step}", self.name, share * 100.0),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
