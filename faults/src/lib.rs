//! What programs that make long series of runs share: the journal of their results, and a record of the lag.

mod journal;
mod lag_record;

pub use self::journal::Journal;
pub use self::lag_record::LagRecord;
