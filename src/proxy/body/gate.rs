//! Holds the head of an answer back until the answer's first byte, so that until then nothing is written and
//! another provider may be tried. It also lets a short answer leave whole: in one write, with its length.
//! A stream can be held longer: its opening says nothing yet, and what follows may be an error.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;
use pingora_core::protocols::http::HttpTask;

/// What of one attempt's answer is held.
#[derive(Default)]
pub(super) struct Gate {
    held: Vec<HttpTask>,
    open: bool,
    /// Bytes are held as well.
    holding: bool,
}

impl Gate {
    /// Forgets what is held; another attempt begins.
    pub(super) fn close(&mut self) {
        self.held.clear();
        self.holding = false;
    }

    /// Holds bytes, too, until [`release`](Self::release).
    pub(super) fn hold(&mut self) {
        self.holding = true;
    }

    /// Lets the first byte open it again.
    pub(super) fn release(&mut self) {
        self.holding = false;
    }

    /// Whether the answer was let through.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// What may be written now that `tasks` have come; `None`: nothing yet.
    pub(super) fn admit(&mut self, tasks: Vec<HttpTask>) -> Option<Vec<HttpTask>> {
        if self.open {
            return Some(tasks);
        }
        for task in tasks {
            match task {
                HttpTask::Failed(error) if self.holding || !self.held.iter().any(has_bytes) => {
                    return Some(vec![HttpTask::Failed(error)]);
                }
                HttpTask::Header(head, false) if is_interim(&head) => {}
                task => self.held.push(task),
            }
        }
        if self.holding || !self.held.iter().any(|task| has_bytes(task) || task.is_end()) {
            return None;
        }
        self.open = true;
        let mut tasks = std::mem::take(&mut self.held);
        tasks.retain(|task| task.is_end() || has_bytes(task) || matches!(task, HttpTask::Header(..)));
        give_length(&mut tasks);
        Some(tasks)
    }
}

/// 1xx: nobody asked for these. RFC 9110 section 15.2 lets a proxy leave out those it caused itself.
fn is_interim(head: &ResponseHeader) -> bool {
    head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
}

fn has_bytes(task: &HttpTask) -> bool {
    match task {
        HttpTask::Body(bytes, _) | HttpTask::UpgradedBody(bytes, _) => bytes.as_ref().is_some_and(|it| !it.is_empty()),
        HttpTask::Header(..) | HttpTask::Trailer(_) | HttpTask::Done | HttpTask::Failed(_) => false,
    }
}

/// Gives an answer that is here whole its Content-Length instead of chunks.
fn give_length(tasks: &mut [HttpTask]) {
    let Some((HttpTask::Header(head, false), rest)) = tasks.split_first_mut() else { return };
    let mut length = 0;
    for task in rest.iter() {
        match task {
            HttpTask::Body(bytes, _) => length += bytes.as_ref().map_or(0, bytes::Bytes::len),
            HttpTask::Done => {}
            HttpTask::Header(..) | HttpTask::UpgradedBody(..) | HttpTask::Trailer(_) | HttpTask::Failed(_) => return,
        }
    }
    let whole = rest.last().is_some_and(HttpTask::is_end);
    if whole && !head.headers.contains_key(CONTENT_LENGTH) {
        head.remove_header(&TRANSFER_ENCODING);
        // A number is always a valid value.
        let _ = head.insert_header(CONTENT_LENGTH, length);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pingora::{Error, ErrorType};

    use super::*;

    fn head(status: u16) -> HttpTask {
        let mut head = ResponseHeader::build(status, None).unwrap();
        head.insert_header(TRANSFER_ENCODING, "chunked").unwrap();
        HttpTask::Header(Box::new(head), false)
    }

    fn body(text: &'static str, end: bool) -> HttpTask {
        HttpTask::Body(Some(Bytes::from_static(text.as_bytes())), end)
    }

    fn length(tasks: &[HttpTask]) -> Option<&str> {
        match &tasks[0] {
            HttpTask::Header(head, _) => head.headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap()),
            _ => None,
        }
    }

    #[test]
    fn a_head_waits_for_the_first_byte() {
        let mut gate = Gate::default();
        assert!(gate.admit(vec![head(200)]).is_none());
        assert!(gate.admit(vec![body("", false)]).is_none());
        assert!(!gate.is_open());
        let tasks = gate.admit(vec![body("a", false)]).unwrap();
        assert_eq!((tasks.len(), length(&tasks)), (2, None));
        assert!(gate.is_open());
        assert_eq!(gate.admit(vec![body("b", false)]).unwrap().len(), 1);
    }

    #[test]
    fn a_whole_answer_leaves_with_its_length() {
        let tasks = Gate::default().admit(vec![head(200), body("ab", false), body("c", true)]).unwrap();
        assert_eq!(length(&tasks), Some("3"));
        let tasks = Gate::default().admit(vec![head(200), body("ab", false), HttpTask::Done]).unwrap();
        assert_eq!(length(&tasks), Some("2"));
        let tasks = Gate::default().admit(vec![head(200), body("ab", false)]).unwrap();
        assert_eq!(length(&tasks), None);
    }

    #[test]
    fn a_failure_before_the_first_byte_leaves_nothing_written() {
        let mut gate = Gate::default();
        assert!(gate.admit(vec![head(200)]).is_none());
        let failed = HttpTask::Failed(Error::new(ErrorType::ConnectionClosed));
        assert!(matches!(gate.admit(vec![failed]).unwrap()[..], [HttpTask::Failed(_)]));
        assert!(!gate.is_open());
        gate.close();
        assert_eq!(gate.admit(vec![head(200), body("a", true)]).unwrap().len(), 2);
    }

    #[test]
    fn an_opening_is_held_until_it_is_released_or_fails() {
        let mut gate = Gate::default();
        gate.hold();
        assert!(gate.admit(vec![head(200), body("role", false)]).is_none());
        assert!(gate.admit(Vec::new()).is_none() && !gate.is_open());
        gate.release();
        assert_eq!(gate.admit(Vec::new()).unwrap().len(), 2);
        assert!(gate.is_open());

        let mut gate = Gate::default();
        gate.hold();
        assert!(gate.admit(vec![head(200), body("role", false)]).is_none());
        let failed = HttpTask::Failed(Error::new(ErrorType::ConnectionClosed));
        assert!(matches!(gate.admit(vec![failed]).unwrap()[..], [HttpTask::Failed(_)]), "the opening is dropped");
        gate.close();
        assert_eq!(gate.admit(vec![head(200), body("a", false)]).unwrap().len(), 2, "the next attempt is not held");
    }

    #[test]
    fn interim_heads_are_left_out() {
        let mut gate = Gate::default();
        assert!(gate.admit(vec![head(103)]).is_none());
        assert_eq!(gate.admit(vec![head(200), body("a", false)]).unwrap().len(), 2);
    }
}
