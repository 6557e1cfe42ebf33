//! The errors that describe how a record was lost.

use registry_core::{Batch, Change, DeleteReason, Error, ErrorKind, LeaseId};

/// Returns the error for the last change of `batch` to the record.
pub(super) fn lost_by(batch: &Batch) -> Error {
    match batch.changes.last() {
        Some(Change::Put(record)) => overwritten_by(record.lease()),
        Some(Change::Delete(deleted)) if deleted.reason() == Some(DeleteReason::Expired) => {
            lease_lost("the lease expired")
        }
        _ => lease_lost("the record was deleted, but not by its registration"),
    }
}

pub(super) fn overwritten_by(lease: Option<LeaseId>) -> Error {
    let by = lease.map_or_else(|| "none".to_owned(), |lease| lease.to_string());
    lease_lost(&format!("the record was overwritten, lease=`{by}`"))
}

pub(super) fn lease_lost(message: &str) -> Error {
    Error::new(ErrorKind::LeaseLost, message)
}
