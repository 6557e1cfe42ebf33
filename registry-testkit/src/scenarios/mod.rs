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

/// Names the scenarios of a law, each a function of its module: `law { clause, clause if applies }`.
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
        a_snapshot_and_the_batches_after_it_are_the_later_load,
        a_change_between_load_and_watch_is_not_missed,
        a_record_names_its_lease_its_ttl_and_its_revision,
        a_load_of_more_than_a_page_is_whole,
    }
    order {
        revisions_strictly_increase,
        changes_of_one_revision_come_together if |traits| traits.evicts_at_one_revision,
        every_watch_of_a_service_sees_the_same,
    }
    resume {
        a_watch_resumes_after_every_cursor_it_gave,
        a_cursor_survives_being_written_down,
        a_cursor_older_than_a_compaction_is_compacted,
        a_cursor_as_new_as_a_compaction_resumes,
        a_watch_that_has_read_all_survives_a_compaction,
        a_cursor_that_was_rolled_back_has_diverged,
        a_cursor_from_before_a_rollback_resumes,
        a_cursor_of_another_service_is_invalid,
        a_cut_watch_says_so_and_resumes,
        a_backlog_longer_than_a_watch_holds_is_given_whole,
        a_resumed_watch_says_when_it_has_all_that_the_store_had,
        a_cursor_older_than_the_kept_history_is_told if |traits| traits.history.is_some(),
        a_cursor_of_another_store_is_refused if |traits| traits.foreign_cursor.is_some(),
        a_resume_gives_all_changes_of_one_revision if |traits| traits.evicts_at_one_revision,
        a_rolled_back_cursor_is_refused_though_nothing_is_written,
    }
    visibility {
        a_registered_instance_is_seen_by_the_next_load,
        an_update_replaces_the_record_in_place,
        an_instance_that_fails_its_check_is_refused_and_changes_nothing,
        a_withdrawn_instance_is_gone_with_one_delete,
        a_renewed_instance_outlives_its_ttl,
        services_lists_the_names_with_live_instances,
        services_lists_more_names_than_a_page,
    }
    expiry {
        an_unrenewed_instance_is_gone_with_one_delete_on_time,
        an_instance_nobody_watches_expires_as_well,
        an_expired_lease_is_lost_and_resurrects_nothing,
        a_revoked_lease_is_lost_and_its_instance_deleted,
        many_leases_that_end_together_end_once_each,
        a_renewal_grants_one_whole_ttl_and_says_how_long_that_is,
        an_update_restarts_the_ttl,
        a_dead_lease_is_lost_though_nobody_looked,
        a_dead_holder_supersedes_nobody_though_nobody_looked,
        a_dead_instance_is_not_listed_as_a_service_though_nobody_looked,
        a_claim_that_is_repeated_after_its_death_registers_anew,
        a_dead_holder_is_deleted_before_its_successor_is_put,
        a_watch_that_opens_after_the_deadline_tells_of_the_expiry,
        an_expiry_deletes_no_claim_that_came_meanwhile,
        a_ttl_is_granted_to_the_millisecond_or_longer,
        the_longest_ttl_is_granted,
    }
    reason {
        a_withdrawal_is_told_if_the_store_knows,
        an_expiry_is_told_if_the_store_knows,
        a_deletion_by_others_has_no_reason,
        a_withdrawal_after_the_ttl_is_an_expiry,
        a_claim_that_is_made_again_is_no_longer_withdrawn,
    }
    takeover {
        without_takeover_it_is_superseded,
        the_last_claim_that_takes_over_wins,
        a_superseded_lease_is_lost_and_harmless,
        two_holders_of_one_id_do_not_fight,
        a_vacant_id_is_free_for_all,
        of_many_claims_at_once_one_wins,
        a_refused_claim_names_the_holder,
        a_read_names_the_present_holder_and_none_of_a_vacant_id,
        a_dead_lease_holds_no_id_though_nobody_looked,
        a_claim_that_names_another_holder_changes_nothing,
        a_claim_that_names_a_holder_takes_a_vacant_id,
        an_update_does_not_change_the_holder,
        a_holder_that_left_and_came_back_is_another_holder,
        a_holder_from_before_a_rollback_is_not_its_successor,
        a_superseded_lease_does_not_extend_its_successor,
        a_refused_claim_does_not_extend_the_holder,
        an_undecodable_record_holds_its_id_and_can_be_displaced if |traits| traits.remote,
    }
    lost_write {
        a_record_lost_in_a_rollback_is_noticed,
        an_update_lost_in_a_rollback_is_noticed,
        a_record_deleted_behind_the_owners_back_is_noticed_and_repaired,
        a_lease_whose_revision_was_used_again_after_a_rollback_is_lost,
        the_lease_of_before_an_update_is_lost,
        the_lease_of_before_an_eviction_is_lost_though_its_claim_was_made_again,
    }
    own_record {
        an_owner_is_told_of_an_eviction if |traits| traits.watches_records,
        an_owner_is_told_of_its_expiry if |traits| traits.watches_records,
        an_owner_is_told_of_a_takeover if |traits| traits.watches_records,
        an_owner_is_told_that_its_record_was_overwritten if |traits| traits.watches_records && traits.remote,
        an_owner_is_not_told_of_renewals_and_of_others if |traits| traits.watches_records,
        a_lease_that_was_lost_before_cannot_be_watched_in_silence if |traits| traits.watches_records,
        a_record_that_was_rolled_back_cannot_be_watched_in_silence if |traits| traits.watches_records,
        an_own_record_watch_that_was_cut_says_so if |traits| traits.watches_records,
    }
    lineage {
        the_lineage_stays_while_nothing_happens,
        a_rollback_begins_another_lineage,
    }
    isolation {
        names_that_share_a_prefix_see_their_own_only,
        odd_names_are_stored_and_found,
        services_that_lie_together_do_not_mix,
    }
    poison {
        an_undecodable_record_is_skipped_and_counted if |traits| traits.remote,
        an_undecodable_record_over_a_good_one_is_a_delete if |traits| traits.remote,
        an_undecodable_record_in_replayed_history_is_skipped if |traits| traits.remote,
        a_name_with_only_an_undecodable_record_is_listed if |traits| traits.remote,
    }
    repeat {
        a_repeated_registration_changes_nothing,
        a_registration_is_refreshed_by_repeating_it,
        a_lease_keeps_its_ttl_and_its_instance,
        a_withdrawn_claim_may_be_made_again,
        a_withdrawn_claim_may_be_made_again_with_another_ttl,
        a_registration_whose_reply_was_lost_leaves_one_record if |traits| traits.remote,
        a_takeover_whose_reply_was_lost_is_a_takeover if |traits| traits.remote,
        a_withdrawal_whose_reply_was_lost_may_be_repeated if |traits| traits.remote,
        no_call_waits_for_ever_for_a_reply if |traits| traits.remote,
    }
    cancel {
        a_dropped_registration_leaves_at_most_one_record,
        a_dropped_watch_disturbs_no_other,
        a_watch_nobody_reads_lags_and_blocks_no_other,
    }
    silence {
        a_watch_of_a_silent_source_ends_in_time if |traits| traits.silence.is_some(),
        every_watch_of_a_silent_source_ends_in_time if |traits| traits.silence.is_some(),
        a_quiet_watch_of_an_answering_source_stays_open if |traits| traits.silence.is_some(),
    }
    options {
        no_call_outlasts_the_timeout_of_its_caller if |traits| traits.silence.is_some(),
        an_impatient_caller_disturbs_no_other,
        the_timeout_of_a_watch_limits_its_opening_only,
        the_timeout_of_an_own_record_watch_limits_its_opening_only if |traits| traits.watches_records,
        a_proven_renewal_renews_and_revives_nothing,
        a_stale_load_is_all_of_an_earlier_state,
    }
    history {
        concurrent_writers_and_readers_keep_every_law,
    }
}

/// Every scenario, whether it applies to a store or not.
pub fn all() -> impl Iterator<Item = Scenario> {
    ALL.iter().copied()
}
