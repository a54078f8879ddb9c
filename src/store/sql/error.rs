//! What the database says, as an error of the store.

use sqlx::error::ErrorKind;

use crate::store::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(fault) => match fault.kind() {
                ErrorKind::UniqueViolation => Self::Conflict("another one has the same name or secret".into()),
                ErrorKind::ForeignKeyViolation => Self::Conflict("something else refers to it".into()),
                _ => Self::Unavailable(error.to_string()),
            },
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::TypeNotFound { .. } => Self::Unreadable(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
                Self::Unreadable(format!("its schema has version {version}, which a newer Forge made"))
            }
            other => Self::Unreadable(other.to_string()),
        }
    }
}
