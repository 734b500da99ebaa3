//! The claims that every backend must satisfy.
//!
//! [`conformance!`](crate::conformance) makes one test of each claim; [`run`] checks them all.
//! [`backend`] has the places in which the three backends are tested.

pub mod backend;
pub mod durability;
pub mod groups;
pub mod make;
pub mod model;
pub mod scans;
pub mod writes;

use std::sync::Arc;

use async_trait::async_trait;

use crate::Store;

/// Makes empty places for tables.
#[async_trait]
pub trait Backend: Send + Sync {
    /// An empty place of its own.
    async fn fresh(&self) -> Box<dyn Place>;
}

/// A place that tables live in, beyond the process that has them open.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the tables. All that was handed out before has been dropped.
    async fn open(&self) -> Arc<dyn Store>;

    /// True if batches that wait together share a transaction.
    fn groups(&self) -> bool {
        true
    }

    /// Removes the tables.
    async fn remove(self: Box<Self>) {}
}

/// Lists the claims once, for [`run`] and for the macro.
macro_rules! claims {
    (($d:tt) $($module:ident { $($name:ident),* $(,)? })*) => {
        /// Checks every claim, each in a place of its own. Panics at the first that does not hold.
        /// Needs a multi-threaded runtime.
        pub async fn run(backend: &dyn Backend) {
            $($(
                let place = backend.fresh().await;
                $module::$name(place.as_ref()).await;
                place.remove().await;
            )*)*
        }

        /// One test per claim. The expression is an `Option` of a [`Backend`](crate::suite::Backend);
        /// with `None` the tests say that they were left out. The crate needs `tokio`.
        #[macro_export]
        macro_rules! conformance {
            ($d backend:expr) => {
                $($(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        let Some(backend) = $d backend else {
                            println!("left out");
                            return;
                        };
                        let place = $crate::suite::Backend::fresh(&backend).await;
                        $crate::suite::$module::$name(place.as_ref()).await;
                        place.remove().await;
                    }
                )*)*
            };
        }
    };
}

claims! {
    ($)
    writes {
        first_write_is_version_one_and_each_later_one_counts_up,
        stale_version_is_refused_and_named,
        row_that_exists_cannot_be_made_again,
        row_that_is_absent_cannot_be_updated,
        guard_that_holds_leaves_its_row_alone,
        guard_that_fails_stops_the_whole_batch,
        guard_on_an_absent_row_holds_until_it_is_written,
        conflict_in_one_write_undoes_all_others,
        deleted_row_is_absent_and_begins_again_at_one,
        stale_writer_of_a_deleted_row_is_refused,
        deleting_an_absent_row_does_nothing,
        batch_without_writes_checks_its_guards,
        batch_that_contradicts_itself_is_refused,
        large_and_empty_bodies_come_back_whole,
        ids_of_any_bytes_are_kept_apart,
        same_id_in_two_tables_is_two_rows,
        rows_come_back_in_the_order_asked,
        thousand_rows_go_in_and_out_in_one_batch,
    }
    scans {
        listed_row_is_found_until_it_is_unlisted,
        entry_moves_in_one_write,
        entry_taken_away_and_added_in_one_write_stays,
        adding_and_taking_away_twice_does_nothing,
        scan_finds_the_latest_body,
        prefix_finds_exactly_its_entries,
        range_begins_inclusive_and_ends_exclusive,
        descending_is_the_reverse_of_ascending,
        limit_is_kept,
        ties_come_in_order_of_table_and_id,
        row_listed_twice_is_found_twice,
        indexes_do_not_mix,
        entries_of_an_absent_row_are_left_out,
        long_scan_is_complete_and_in_order,
    }
    groups {
        exactly_one_of_many_writers_of_a_row_wins,
        exactly_one_of_many_makers_of_a_row_wins,
        independent_batches_all_pass_and_share_transactions,
        transfers_conserve_the_sum,
        batches_that_guard_against_each_other_never_both_pass,
        acknowledged_write_is_seen_by_the_next_read,
        reads_see_whole_batches_only,
        counters_count_batches_and_conflicts,
    }
    durability {
        new_place_is_empty,
        acknowledged_batches_survive_a_restart,
        versions_go_on_after_a_restart,
        abandoned_batch_is_whole_or_absent,
    }
    model {
        random_batches_do_what_they_do_in_memory,
    }
}
