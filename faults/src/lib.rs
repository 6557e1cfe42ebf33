//! The shared parts of programs that make long series of runs: a journal of results, and a record of scheduling lag.

mod journal;
mod lag_record;

pub use self::journal::Journal;
pub use self::lag_record::LagRecord;
