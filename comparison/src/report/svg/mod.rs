//! Plots, in colours that the page sets for light and dark.

mod bars;
mod lines;

use super::finding::Plot;
use std::fmt::{self, Display, Formatter};

const WIDTH: f64 = 720.0;

/// A plot, with its title as the text alternative.
pub(super) struct Figure<'a> {
    pub(super) title: &'a str,
    pub(super) plot: &'a Plot,
}

impl Display for Figure<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.plot {
            Plot::Bars(bars) => bars::draw(f, self.title, bars),
            Plot::Lines(lines) => lines::draw(f, self.title, lines),
        }
    }
}
