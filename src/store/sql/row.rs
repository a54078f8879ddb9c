//! Columns into values and back: lists and maps are JSON, hashes hexadecimal, counts signed.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::store::{Result, StoreError};

/// Text that is never null.
pub fn text(row: &AnyRow, column: &str) -> Result<String> {
    Ok(row.try_get(column)?)
}

/// Text that may be null.
pub fn maybe_text(row: &AnyRow, column: &str) -> Result<Option<String>> {
    Ok(row.try_get(column)?)
}

/// A number that is never null.
pub fn number(row: &AnyRow, column: &str) -> Result<i64> {
    Ok(row.try_get(column)?)
}

/// A number that may be null.
pub fn maybe_number(row: &AnyRow, column: &str) -> Result<Option<i64>> {
    Ok(row.try_get(column)?)
}

/// An amount; below zero it is taken for none.
pub fn amount(row: &AnyRow, column: &str) -> Result<u64> {
    Ok(u64::try_from(number(row, column)?).unwrap_or(0))
}

/// A list or map.
pub fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T> {
    parse(&text(row, column)?, column)
}

/// A list or map in JSON.
pub fn parse<T: DeserializeOwned>(text: &str, column: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable(format!("{column}: {error}")))
}

/// A word of a closed set.
pub fn word<T>(row: &AnyRow, column: &str, by_name: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text = text(row, column)?;
    by_name(&text).ok_or_else(|| StoreError::Unreadable(format!("{column}: '{text}'")))
}

/// A list or map as it is stored.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Invalid(error.to_string()))
}

/// An amount as it is stored; what no column holds is taken for the largest.
pub fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// A hash as it is stored.
pub fn hex(hash: &[u8; 32]) -> String {
    crate::credential::hex(hash)
}
