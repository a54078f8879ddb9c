//! The contract of the store: one suite, against SQLite and against a real Postgres.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../support/postgres.rs"]
mod server;

mod contract;
mod files;
mod opening;
mod usage;

use std::sync::Arc;

use forge::store::{PostgresStore, SqliteStore, Store};

/// Runs each of these against both stores; each has a store of its own.
macro_rules! both {
    ($($name:path => $test:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("made/on first start/forge?.db");
                $name(Arc::new(SqliteStore::open(&path).await.unwrap())).await;
            })*
        }

        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let url = server::shared_database().await;
                $name(Arc::new(PostgresStore::open(&url).await.unwrap())).await;
            })*
        }
    };
}

/// What a contract is tried on.
type AnyStore = Arc<dyn Store>;

both! {
    files::a_file_is_seen_once_it_is_ready => a_file_is_seen_once_it_is_ready,
    files::files_are_listed_in_both_orders => files_are_listed_in_both_orders,
    files::a_team_sees_what_is_shared => a_team_sees_what_is_shared,
    files::what_has_expired_or_died_is_doomed => what_has_expired_or_died_is_doomed,
    files::bounds_hold_for_keys_and_tiers_also_at_once => bounds_hold_for_keys_and_tiers_also_at_once,
    contract::keys_are_created_found_and_listed => keys_are_created_found_and_listed,
    contract::keys_change => keys_change,
    contract::rotation_has_a_grace => rotation_has_a_grace,
    contract::holders_nest => holders_nest,
    contract::what_cannot_be_is_refused => what_cannot_be_is_refused,
    contract::asking_twice_creates_once => asking_twice_creates_once,
    contract::applications_are_decided_once => applications_are_decided_once,
    contract::every_change_is_in_the_audit_log => every_change_is_in_the_audit_log,
    contract::admin_tokens => admin_tokens,
    contract::changes_are_numbered_and_hinted => changes_are_numbered_and_hinted,
    contract::changes_at_once_are_all_seen => changes_at_once_are_all_seen,
    contract::counters_add_up => counters_add_up,
    contract::pages_are_whole => pages_are_whole,
    usage::records_count_once => records_count_once,
    usage::sums_are_by_what_was_asked => sums_are_by_what_was_asked,
    usage::large_batches => large_batches,
    usage::old_records_go_and_sums_stay => old_records_go_and_sums_stay,
}
