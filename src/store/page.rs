//! Pages of lists, found again by an opaque cursor over (time, id): stable while rows come and go.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Rows at most, 1..=[`LIMIT_MAX`](Self::LIMIT_MAX); what is outside is taken for the nearest.
    pub limit: u32,
    /// Where the page before ended; `None`: the first page.
    pub after: Option<Cursor>,
}

impl PageRequest {
    /// The most rows of a page.
    pub const LIMIT_MAX: u32 = 1000;

    /// The first page of this many rows.
    pub fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }

    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit.clamp(1, Self::LIMIT_MAX))
    }

    /// What rows must be below: everything, on the first page.
    pub(super) fn below(&self) -> (i64, &str) {
        self.after.as_ref().map_or((i64::MAX, ""), |cursor| (cursor.unix_ms, &cursor.id))
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self::first(100)
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows, the newest first.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of the rows found when one more than wanted was asked for.
    pub(super) fn of(mut items: Vec<T>, request: &PageRequest, position: impl Fn(&T) -> (i64, &str)) -> Self {
        let wanted = usize::try_from(request.rows()).unwrap_or(usize::MAX);
        let more = items.len() > wanted;
        items.truncate(wanted);
        let last = items.last().filter(|_| more).map(position);
        let next = last.map(|(unix_ms, id)| Cursor { unix_ms, id: id.to_owned() });
        Self { items, next }
    }
}

/// A place in a list. Clients see text and should not read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    unix_ms: i64,
    id: String,
}

impl Cursor {
    /// Reads what [`Display`](std::fmt::Display) wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (unix_ms, id) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
        let well_formed = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic());
        let unix_ms = unix_ms.parse().ok()?;
        well_formed.then(|| Self { unix_ms, id: id.to_owned() })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{}:{}", self.unix_ms, self.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        let cursor = Cursor { unix_ms: 1_700_000_000_123, id: "key_ab".into() };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for text in ["", "x", "1:key", &URL_SAFE_NO_PAD.encode("1"), &URL_SAFE_NO_PAD.encode("1:a b"), "%%%"] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_page_ends_where_one_more_row_was_found() {
        let request = PageRequest::first(2);
        let page = Page::of(vec!["c", "b", "a"], &request, |id| (7, id));
        assert_eq!(page.items, ["c", "b"]);
        assert_eq!(page.next, Some(Cursor { unix_ms: 7, id: "b".into() }));
        assert_eq!(Page::of(vec!["c", "b"], &request, |id| (7, id)).next, None);
    }
}
