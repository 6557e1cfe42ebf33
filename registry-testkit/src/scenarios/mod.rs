//! One scenario for each clause of each law, as plain functions over a [`Case`].

mod cancel;
mod expiry;
mod fold;
mod history;
mod isolation;
mod lineage;
mod lost_write;
mod options;
mod order;
mod own_record;
mod poison;
mod reason;
mod repeat;
mod resume;
mod silence;
mod takeover;
mod visibility;

use crate::scenario::Scenario;
use crate::{Case, Traits};
use futures_util::FutureExt;

/// Lists the scenarios of each law, which are functions of its module: `law { clause, clause if applies }`.
macro_rules! scenarios {
    ($($law:ident { $($clause:ident $(if $applies:expr)?),* $(,)? })*) => {
        const ALL: &[Scenario] = &[$($(Scenario {
            name: concat!(stringify!($law), "::", stringify!($clause)),
            applies: { #[allow(unused_variables)] let applies: fn(&Traits) -> bool = |_| true; $(let applies: fn(&Traits) -> bool = $applies;)? applies },
            run: |case: Case<'_>| $law::$clause(case).boxed(),
        }),*),*];
    };
}

scenarios! {
    fold {
        a_load_shows_every_instance_with_all_its_fields,
        an_unknown_service_loads_empty_and_can_be_watched,
        a_snapshot_with_the_batches_after_it_equals_a_later_load,
        a_change_between_load_and_watch_is_not_missed,
        a_record_carries_its_lease_ttl_and_revision,
        a_load_of_more_than_one_page_is_complete,
    }
    order {
        revisions_strictly_increase,
        changes_of_one_revision_arrive_in_one_batch if |traits| traits.evicts_at_one_revision,
        every_watch_of_a_service_sees_the_same_batches,
    }
    resume {
        a_watch_resumes_from_every_cursor_it_returned,
        a_cursor_can_be_written_as_text_and_parsed,
        a_cursor_older_than_a_compaction_is_compacted,
        a_cursor_at_the_compacted_revision_resumes,
        a_caught_up_watch_survives_a_compaction,
        a_cursor_that_was_rolled_back_has_diverged,
        a_cursor_from_before_a_rollback_resumes,
        a_cursor_of_another_service_is_invalid,
        a_disconnected_watch_is_unavailable_and_resumes,
        a_backlog_longer_than_the_watch_buffer_is_delivered_in_full,
        a_resumed_watch_reports_when_it_has_caught_up,
        a_cursor_older_than_the_kept_history_is_compacted_or_resumes_without_a_gap if |traits| traits.history.is_some(),
        a_cursor_of_another_store_is_refused if |traits| traits.foreign_cursor.is_some(),
        a_resumed_watch_delivers_all_changes_of_one_revision if |traits| traits.evicts_at_one_revision,
        a_rolled_back_cursor_is_refused_before_the_next_write,
    }
    visibility {
        a_registered_instance_is_seen_by_the_next_load,
        an_update_replaces_the_record_in_place,
        an_instance_that_fails_its_check_is_refused_and_changes_nothing,
        a_withdrawn_instance_is_deleted_once,
        a_renewed_instance_outlives_its_ttl,
        services_lists_the_names_with_live_instances,
        services_lists_more_than_one_page,
    }
    expiry {
        an_instance_without_renewals_is_deleted_once_at_its_ttl,
        an_instance_expires_without_a_watcher,
        an_expired_lease_is_lost_and_cannot_be_renewed,
        a_revoked_lease_is_lost_and_its_instance_deleted,
        leases_that_expire_together_are_each_deleted_once,
        a_renewal_grants_and_returns_one_whole_ttl,
        an_update_restarts_the_ttl,
        an_expired_lease_is_lost_without_a_read_in_between,
        an_expired_holder_does_not_supersede_a_claim,
        an_expired_instance_does_not_list_its_service,
        a_claim_repeated_after_its_expiry_registers_again,
        an_expired_holder_is_deleted_before_its_successor_is_put,
        a_watch_opened_after_the_expiry_reports_it,
        an_expiry_does_not_delete_a_concurrent_claim,
        a_ttl_is_granted_to_the_millisecond_or_longer,
        the_longest_ttl_is_granted,
    }
    reason {
        a_withdrawal_is_reported_if_the_store_knows_it,
        an_expiry_is_reported_if_the_store_knows_it,
        a_deletion_by_others_has_no_reason,
        a_withdrawal_after_the_ttl_is_an_expiry,
        a_repeated_claim_is_no_longer_withdrawn,
    }
    takeover {
        a_claim_without_takeover_is_superseded,
        the_last_claim_that_takes_over_wins,
        a_superseded_lease_is_lost_and_harmless,
        a_superseded_claim_that_retries_does_not_displace_the_holder,
        a_vacant_id_can_be_claimed_by_anyone,
        exactly_one_of_many_concurrent_claims_wins,
        a_refused_claim_names_the_holder,
        holder_returns_the_current_holder_and_none_for_a_vacant_id,
        an_expired_lease_holds_no_id,
        a_claim_that_names_another_holder_changes_nothing,
        a_claim_that_names_a_holder_takes_a_vacant_id,
        an_update_does_not_change_the_holder,
        a_holder_that_registers_again_is_another_holder,
        a_holder_from_before_a_rollback_is_not_mistaken_for_the_one_after_it,
        a_superseded_lease_does_not_extend_its_successor,
        a_refused_claim_does_not_extend_the_holder,
        an_undecodable_record_holds_its_id_and_can_be_displaced if |traits| traits.remote,
    }
    lost_write {
        a_record_lost_in_a_rollback_is_noticed,
        an_update_lost_in_a_rollback_is_noticed,
        an_evicted_record_is_noticed_and_registered_again,
        a_lease_is_lost_if_its_revision_is_reused_after_a_rollback,
        the_lease_from_before_an_update_is_lost,
        the_lease_from_before_an_eviction_is_lost_after_its_claim_is_repeated,
    }
    own_record {
        an_own_record_watch_reports_an_eviction if |traits| traits.watches_records,
        an_own_record_watch_reports_the_expiry if |traits| traits.watches_records,
        an_own_record_watch_reports_a_takeover if |traits| traits.watches_records,
        an_own_record_watch_reports_an_overwritten_record if |traits| traits.watches_records && traits.remote,
        an_own_record_watch_ignores_renewals_and_other_records if |traits| traits.watches_records,
        an_own_record_watch_of_a_lost_lease_reports_the_loss if |traits| traits.watches_records,
        an_own_record_watch_reports_a_rollback if |traits| traits.watches_records,
        a_disconnected_own_record_watch_is_unavailable if |traits| traits.watches_records,
    }
    lineage {
        the_lineage_does_not_change_with_writes,
        a_rollback_starts_another_lineage,
    }
    isolation {
        services_that_share_a_prefix_see_only_their_own_instances,
        names_with_special_characters_are_stored_and_listed,
        services_that_share_a_shard_do_not_mix,
    }
    poison {
        an_undecodable_record_is_skipped_and_counted if |traits| traits.remote,
        overwriting_a_record_with_an_undecodable_one_is_a_delete if |traits| traits.remote,
        an_undecodable_record_in_replayed_history_is_skipped if |traits| traits.remote,
        a_service_with_only_an_undecodable_record_is_listed if |traits| traits.remote,
    }
    repeat {
        a_repeated_registration_changes_nothing,
        a_repeated_registration_renews_its_lease,
        a_lease_keeps_its_ttl_and_its_instance,
        a_withdrawn_claim_can_be_repeated,
        a_withdrawn_claim_can_be_repeated_with_another_ttl,
        a_registration_whose_reply_was_lost_leaves_one_record if |traits| traits.remote,
        a_takeover_whose_reply_was_lost_can_be_repeated if |traits| traits.remote,
        a_withdrawal_whose_reply_was_lost_can_be_repeated if |traits| traits.remote,
        every_call_ends_if_its_reply_is_lost if |traits| traits.remote,
    }
    cancel {
        a_dropped_registration_leaves_at_most_one_record,
        a_dropped_watch_does_not_disturb_others,
        an_unread_watch_lags_without_blocking_others,
    }
    silence {
        a_watch_of_a_silent_source_ends_in_time if |traits| traits.silence.is_some(),
        every_watch_of_a_silent_source_ends_in_time if |traits| traits.silence.is_some(),
        a_watch_without_changes_stays_open_while_its_source_answers if |traits| traits.silence.is_some(),
    }
    options {
        no_call_outlasts_the_timeout_of_its_caller if |traits| traits.silence.is_some(),
        a_short_timeout_does_not_disturb_other_calls,
        the_timeout_of_a_watch_limits_only_its_opening,
        the_timeout_of_an_own_record_watch_limits_only_its_opening if |traits| traits.watches_records,
        a_proven_renewal_renews_but_does_not_revive_an_expired_lease,
        a_stale_load_is_a_complete_earlier_state,
    }
    history {
        concurrent_writers_and_readers_keep_every_law,
    }
}

/// Returns every scenario, including those that do not apply to a store.
pub fn all() -> impl Iterator<Item = Scenario> {
    ALL.iter().copied()
}
