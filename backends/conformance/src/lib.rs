//! The suite that every backend passes.
//!
//! A backend crate calls [`suite!`](crate::suite) once in a test file; it gets one named test per case.
//! The memory backend is the reference: it passes the same suite, under virtual time.
//!
//! ```text
//! celeriac_conformance::suite!(start_paused = true; InMemory(Memory::new()));
//! ```
//!
//! Besides the cases there are whole runs: the rows of [`table`] and the canvases of [`random`], which a
//! [`whole::Crew`] puts through coordinators and workers and holds against the reference evaluator. And
//! there is what is done to the operations themselves, many times over: the same at random on two
//! backends ([`differential`]), and every completion three times ([`duplicates`], and [`growth`] for
//! runs that grow).

pub mod bench;
pub mod cases;
pub mod differential;
pub mod duplicates;
pub mod growth;
mod prepared;
pub mod random;
pub mod table;
mod table_added;
mod table_catalogue;
mod table_errors;
mod table_policies;
mod table_replaced;
mod table_values;
pub mod tasks;
pub mod whole;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::Backend;

pub use bench::Bench;

/// A backend under test, empty when the case gets it, and its clock.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The backend.
    fn backend(&self) -> &dyn Backend;

    /// The same, to be shared.
    fn shared(&self) -> Arc<dyn Backend>;

    /// Lets time pass by the backend's clock.
    async fn pass(&self, time: Duration);
}

/// One test per case. What stands before the semicolon is handed to `tokio::test`; what stands after it
/// makes a fresh [`Subject`](crate::Subject), and may await. With `threads` before the semicolon: the
/// cases that need several.
#[macro_export]
macro_rules! suite {
    // Where leaves keep threads to themselves: in real time, on several threads.
    (threads; $subject:expr) => {
        $crate::suite!(@threads $subject;
            a_quick_leaf_is_reported_while_the_next_keeps_its_thread
            a_leaf_that_has_waited_is_reported_while_the_next_keeps_its_thread
            a_failure_is_reported_while_the_next_leaf_keeps_its_thread
            a_retry_is_reported_while_the_next_leaf_keeps_its_thread
            a_leaf_that_runs_at_most_once_is_reported_while_the_next_keeps_its_thread
            the_last_of_many_quick_leaves_is_reported_while_the_next_keeps_its_thread
            leaves_of_two_lanes_are_reported_while_the_next_keep_their_threads
            a_free_lane_is_given_leaves_while_another_keeps_its_thread
            leaves_go_on_beside_one_that_has_waited_and_keeps_its_thread
            progress_is_told_while_its_leaf_keeps_its_thread
            leaves_that_wait_for_each_other_meet_after_quick_ones
            leaves_that_keep_their_threads_meet_after_quick_ones
        );
    };
    (@threads $subject:expr; $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
        async fn $case() {
            $crate::cases::hands::$case(&$subject).await;
        })*
    };
    ($($argument:ident = $value:expr),*; $subject:expr) => {
        $crate::suite!(@module [$($argument = $value),*] $subject;
            store {
                a_submitted_run_is_stored_and_announced
                a_run_whose_first_leaves_are_ready_starts_with_its_submission
                leaves_that_are_not_the_first_of_a_run_do_not_start_it
                a_run_is_forgotten_when_its_time_after_its_end_is_over
                a_run_is_kept_for_its_own_time_also_under_an_id_that_was_taken_before
                the_same_submission_again_is_the_same_run
                another_canvas_under_the_same_id_is_a_conflict_and_changes_nothing
                a_plan_comes_back_as_it_was
                an_unknown_run_is_unknown_everywhere
                whoever_waits_for_a_change_is_woken_by_it
                a_wait_for_a_change_ends_in_time
                whoever_waits_for_the_value_gets_it_with_the_decision
                runs_are_listed_newest_first_and_page_by_page
                a_status_counts_the_leaves_that_have_ended
                a_forgotten_run_leaves_nothing
            }
            settle {
                a_chord_body_waits_for_every_header_task
                a_chord_body_gets_its_header_in_the_order_written
                a_duplicate_completion_with_other_bytes_changes_nothing
                the_first_outcome_wins
                header_tasks_that_finish_at_the_same_time_release_the_body_once
                arms_of_unequal_length_meet_in_their_body
                an_empty_header_calls_the_body_with_an_empty_list
                an_empty_chain_in_a_header_hands_its_input_on
                a_header_of_one_is_a_list_of_one
                a_nested_group_reaches_the_body_flat_and_in_order
                a_failing_arm_ends_the_run_and_its_siblings_go_on
                a_revoked_member_ends_its_chord
                every_way_to_fail_ends_the_run
                an_ignored_leaf_hands_null_on
                a_retry_in_a_header_does_not_release_the_body
                a_completion_of_an_older_attempt_changes_nothing
                a_completion_of_a_leaf_that_was_not_released_changes_nothing
                an_error_callback_is_released_once_with_the_first_failure
                a_failing_callback_does_not_fail_the_run
                a_header_of_8001_releases_its_body_once
                completions_delivered_three_times_in_any_order_count_once
                several_runs_settle_in_one_batch
            }
            policies {
                whatever_ends_a_member_counts_for_its_list
                a_member_that_fails_counts_once
                members_that_end_at_the_same_time_release_the_body_once
                a_run_that_ends_in_a_list_that_tolerates_yields_it
                a_wide_header_that_fails_altogether_calls_its_body
                finally_runs_once_and_the_run_waits_for_it
            }
            growth {
                a_leaf_that_was_replaced_hears_of_its_segment_alone
                a_leaf_that_asked_to_run_again_is_not_replaced_by_its_earlier_attempt
                a_failing_segment_closes_the_scopes_of_its_leaf
                a_segment_is_noted_once_and_a_run_has_only_so_many_nodes
                a_segment_knows_its_leaf_and_is_not_listed
                a_forgotten_run_takes_its_segments_with_it
                a_run_whose_time_is_over_is_kept_while_a_segment_goes_on
            }
            dispatch {
                the_first_leaves_wait_in_the_outbox
                a_release_is_queued_once_however_often_it_is_dispatched
                what_was_not_released_is_not_queued
                a_release_without_dispatch_is_handed_out_again_by_its_completion
                a_run_that_owes_a_dispatch_is_found_by_the_sweep
                a_leaf_goes_to_the_queue_it_names
                prepared_leaves_are_queued_when_their_completions_release_them
                prepared_leaves_that_the_same_step_ends_or_releases_again_are_not_queued
                prepared_leaves_are_queued_in_the_order_in_which_they_are_given
                events_are_acknowledged_when_nothing_is_left_to_dispatch
            }
            queue {
                leaves_come_in_the_order_in_which_they_were_queued
                a_leaf_is_with_one_worker_at_a_time
                a_leaf_is_not_queued_before_its_time
                a_worker_that_waits_is_woken_by_a_leaf
                a_finished_leaf_is_reported_and_does_not_come_again
                a_leaf_whose_lease_has_passed_goes_to_another_worker
                a_renewed_lease_does_not_pass
                each_delivery_has_the_lease_with_which_it_was_taken_or_renewed
                many_leaves_finished_at_once_leave_those_between_them
                a_leaf_that_is_handed_back_comes_at_once_and_is_not_counted
                a_late_report_of_a_reclaimed_leaf_changes_nothing
                a_leaf_that_is_reported_while_it_waits_to_come_again_does_not_come_again
                what_comes_again_comes_before_all_that_is_new
                whoever_held_them_all_leaves_come_again_in_one_sweep
                leaves_of_a_higher_priority_go_first_and_bulk_goes_last
                a_lane_that_never_empties_does_not_hold_up_the_others_for_ever
                a_leaf_that_kills_its_workers_ends_as_worker_lost
            }
            reports {
                reports_of_small_runs_pass_those_on_leaves_in_bulk
                reports_on_lost_leaves_in_bulk_give_way
                reports_on_expired_leaves_in_bulk_give_way
                a_report_on_a_leaf_in_bulk_comes_again_until_it_is_acknowledged
                a_run_of_which_a_report_in_bulk_is_there_is_not_announced_again
                reports_on_leaves_in_bulk_are_not_held_up_for_ever
            }
            suspects {
                a_leaf_that_kills_its_workers_takes_nobody_with_it
                what_was_only_held_beside_a_culprit_is_not_counted
                two_culprits_are_found_among_the_others
                five_culprits_are_found_among_the_others
                culprits_in_several_queues_and_lanes_are_found
                a_worker_has_one_suspect_at_a_time_and_none_when_it_says_so
                leaves_that_have_lost_one_worker_come_together_and_before_new_ones
                what_was_handed_back_comes_before_what_has_lost_one_worker
                a_suspect_is_counted_when_it_begins_and_not_when_it_is_taken
                a_suspect_that_is_handed_back_is_the_next_and_stays_one
                whoever_comes_back_before_another_has_it_keeps_it
                a_leaf_that_runs_once_at_most_begins_again_only_for_the_same_worker
                a_leaf_that_runs_once_at_most_and_was_only_held_begins
                a_leaf_that_runs_once_at_most_and_was_handed_back_begins
                another_attempt_of_a_leaf_that_runs_once_at_most_begins_by_itself
                no_leaf_that_runs_once_at_most_begins_for_a_run_that_is_forgotten
                a_forgotten_run_takes_its_marks_with_it
            }
            life {
                a_countdown_delays_its_leaf_and_no_other
                an_eta_is_kept_and_one_that_is_past_delays_nothing
                a_countdown_of_the_run_delays_what_starts_it
                a_delayed_leaf_survives_its_coordinator_and_runs_once
                a_leaf_that_nobody_starts_in_time_expires
                a_leaf_that_has_started_does_not_expire
                when_a_leaf_expires_is_reckoned_by_the_clock_of_the_store
                an_expiry_of_the_run_holds_for_every_leaf
                a_route_and_a_declaration_choose_the_queue
                a_policy_runs_a_failed_leaf_again_and_its_chord_waits
                a_policy_ends_with_the_last_error_and_lets_other_errors_pass
                a_task_runs_again_later_with_other_arguments
                a_task_that_always_asks_for_another_attempt_fails_in_the_end
                a_rejected_leaf_fails_and_an_ignored_one_hands_null_on
                a_leaf_past_its_time_limit_is_cut_off
                a_leaf_past_its_soft_time_limit_is_told_so
                a_leaf_that_is_acknowledged_early_runs_at_most_once
                a_leaf_that_is_acknowledged_early_and_was_only_held_runs
                a_leaf_that_runs_at_most_once_is_lost_when_its_worker_cuts_it_off
                a_leaf_that_runs_at_most_once_is_lost_when_its_worker_stops_at_once
                leaves_that_a_worker_cuts_off_at_once_run_again_without_waiting_for_a_lease
                an_ignored_result_is_not_kept_unless_somebody_takes_it
                a_task_reads_its_headers_and_stamps
                progress_can_be_read_while_a_task_runs
                a_canvas_with_a_task_id_is_one_run_under_it
                a_compressed_message_reaches_its_worker
                a_task_that_is_not_heard_of_fails_and_one_that_is_goes_on
                a_leaf_of_an_unknown_task_waits_for_a_worker_that_knows_it
                a_leaf_of_a_task_that_nobody_knows_fails_in_the_end
                a_stamp_reaches_what_runs_in_the_place_of_a_task
            }
            hands {
                a_fresh_worker_begins_a_leaf_beside_those_that_never_end
                a_worker_whose_leaves_were_slow_begins_a_leaf_beside_those_that_never_end
                a_worker_whose_leaves_were_quick_begins_a_leaf_beside_those_that_never_end
                a_free_lane_takes_leaves_of_every_queue_and_priority
                a_worker_without_a_free_lane_leaves_to_others_what_they_can_begin
                leaves_that_wait_for_each_other_meet_after_quick_ones
                a_worker_that_holds_nothing_besides_leaves_all_that_waits_to_others
                a_worker_holds_at_most_as_many_leaves_besides_as_it_was_told
            }
            clients {
                many_who_ask_and_are_not_polled_hold_up_nobody
                many_who_submit_and_are_not_polled_hold_up_nobody
                large_values_that_are_half_read_hold_up_nobody
                large_arguments_that_are_half_written_hold_up_nobody
                what_was_given_up_in_the_middle_holds_up_nobody
            }
            boundless {
                an_error_without_an_end_is_cut_and_its_worker_lives
                a_canvas_nested_too_deep_fails_the_leaf_that_asks_for_it
                a_submission_nested_too_deep_is_refused_and_its_client_lives
                a_state_of_any_length_is_cut_and_takes_no_other_report_along
            }
            large {
                a_text_of_any_length_is_kept_and_comes_back
                a_text_is_not_kept_for_a_run_that_is_not_there
                a_forgotten_run_takes_its_texts_with_it
                what_a_delivery_kept_that_did_not_count_is_discarded
                arguments_that_are_kept_apart_belong_to_the_canvas
                large_values_reach_whoever_takes_them
                large_arguments_reach_their_task_in_every_spelling
                large_values_of_what_runs_in_the_place_of_a_leaf_are_the_leafs
                a_large_value_beside_large_members_goes_to_whom_it_should
                a_large_canvas_runs_in_the_place_of_its_leaf
                a_leaf_runs_again_with_large_arguments
                leaves_that_hold_many_bytes_take_turns
            }
            limits {
                a_result_over_the_limit_fails_its_leaf_at_once
                arguments_over_the_limit_fail_their_leaf_at_once
                arguments_at_the_limit_run_and_those_above_are_refused
                a_canvas_over_a_limit_is_refused_in_every_spelling
                options_over_the_limit_are_refused_in_every_spelling
                leaves_with_long_options_are_queued_in_parts
                what_replaces_a_leaf_has_a_limit
                errors_and_progress_are_cut_to_their_limits
            }
            incarnations {
                a_late_report_changes_nothing_in_the_run_that_has_the_id_now
                a_worker_of_the_first_run_reports_late_to_nobody
                a_header_does_not_count_the_members_of_the_run_before
                leaves_composed_for_the_first_run_are_not_queued_for_the_second
                nothing_grows_in_a_run_that_is_gone
                a_segment_of_the_first_run_reports_to_nobody
                late_progress_is_told_to_nobody
                a_reader_of_the_first_run_reads_nothing_of_the_second
                whoever_waits_for_a_run_is_told_when_its_id_is_used_again
                a_submission_that_finds_its_run_is_told_which
                forgetting_the_first_run_again_leaves_the_second_where_it_is
                a_countdown_of_a_forgotten_run_starts_nothing
                an_expiry_of_a_forgotten_run_reports_nothing
                thousands_of_leaves_of_a_forgotten_run_are_taken_by_nobody
                a_leaf_of_a_forgotten_run_does_not_come_again
                a_forgotten_run_takes_the_leaves_of_its_segments_along
                a_key_used_again_yields_the_value_of_its_own_run
                a_client_with_the_first_plan_at_hand_reads_the_second_run
            }
            keys {
                the_same_canvas_with_a_relative_time_under_one_key_is_one_run
                a_canvas_with_a_task_id_and_a_relative_time_is_one_run
                another_relative_time_under_the_same_key_is_a_conflict
                a_run_submitted_again_expires_when_it_would_have
                a_key_that_is_used_again_counts_from_its_own_submission
            }
            replaced {
                what_replaces_a_task_runs_where_its_own_tasks_are_declared_or_routed
                what_is_replaced_three_deep_runs_where_its_tasks_are_declared
                what_a_task_adds_runs_where_its_tasks_are_declared_or_routed
                what_replaces_a_task_and_says_nothing_runs_where_the_task_did
                what_replaces_a_task_has_its_own_priority_or_that_of_the_task
                a_typed_signature_runs_where_its_task_is_declared_wherever_it_is_submitted
                a_typed_signature_that_replaces_a_task_runs_where_its_own_task_is_declared
            }
            events {
                an_event_is_with_one_coordinator_at_a_time
                an_event_that_is_not_acknowledged_comes_again
                an_acknowledged_event_never_comes_again
                an_event_that_is_set_aside_comes_again_when_it_is_requeued
                dead_letters_come_in_order_and_are_dropped_one_by_one
                an_event_that_is_handed_back_comes_at_once_and_is_not_counted
                events_that_come_again_come_by_themselves_and_in_small_numbers
                a_renewed_event_is_with_nobody_else
                a_coordinator_that_waits_is_woken_by_an_event
                a_run_whose_events_are_gone_is_announced_again
                a_run_of_which_a_report_is_there_is_not_announced_again
            }
        );
    };
    (@module $arguments:tt $subject:expr; $($module:ident { $($case:ident)* })*) => {
        $(mod $module {
            #[allow(unused_imports, reason = "the subject may be named by a path from the crate's root")]
            use super::*;
            $($crate::suite!(@case $arguments $subject; $module $case);)*
        })*
    };
    (@case [$($argument:ident = $value:expr),*] $subject:expr; $module:ident $case:ident) => {
        #[tokio::test($($argument = $value),*)]
        async fn $case() {
            $crate::cases::$module::$case(&$subject).await;
        }
    };
}
