//! The schema and its versions. One text serves both databases; a version that was released is never edited, a new
//! file is added.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Every version, oldest first.
const VERSIONS: [(i64, &str, &str); 2] = [
    (1, "initial", include_str!("migrations/0001_initial.sql")),
    (2, "files", include_str!("migrations/0002_files.sql")),
];

/// What brings a database up to date. A database of a version that is not listed is refused.
pub(super) fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(VERSIONS.map(migration).into())
}
