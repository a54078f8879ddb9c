//! Completes a JSON document that was cut, with an `error` as its last member.

/// What must follow `cut` so that it is a JSON object whose last member is `error`, a JSON value; `None` when
/// no text could do that: `cut` is no beginning of an object, is malformed, or is whole already.
pub(super) fn with_error(cut: &[u8], error: &str) -> Option<String> {
    let mut reader = Reader::default();
    for byte in cut {
        reader.read(*byte)?;
    }
    reader.complete(error)
}

/// What is open, and what may come next in the innermost of it.
#[derive(Debug, Default)]
struct Reader {
    /// `true` is an object.
    open: Vec<bool>,
    next: Next,
    /// The number or literal that is being read.
    scalar: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    #[default]
    Start,
    /// A key, or the end of an object without any.
    FirstKey,
    Key,
    Colon,
    Value,
    /// A value, or the end of an array without any.
    FirstItem,
    /// A comma or the end.
    Comma,
    Scalar,
    String {
        is_key: bool,
        escape: Escape,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// Behind the backslash.
    Begun,
    /// So many hexadecimal digits are to come.
    Digits(usize),
}

impl Reader {
    /// `None`: the document is malformed, or ends here.
    fn read(&mut self, byte: u8) -> Option<()> {
        if let Next::String { is_key, escape } = self.next {
            self.next = in_string(is_key, escape, byte)?;
            return Some(());
        }
        if self.next == Next::Scalar {
            if !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
                self.scalar.push(byte);
                return Some(());
            }
            self.next = Next::Comma;
        }
        self.next = self.token(byte)?;
        Some(())
    }

    fn token(&mut self, byte: u8) -> Option<Next> {
        Some(match (self.next, byte) {
            (next, b' ' | b'\t' | b'\n' | b'\r') => next,
            (Next::Start | Next::Value | Next::FirstItem, b'{') => self.enter(true),
            (Next::Value | Next::FirstItem, b'[') => self.enter(false),
            (Next::FirstKey | Next::Key, b'"') => Next::String { is_key: true, escape: Escape::None },
            (Next::Value | Next::FirstItem, b'"') => Next::String { is_key: false, escape: Escape::None },
            (Next::Colon, b':') => Next::Value,
            (Next::Comma, b',') if *self.open.last()? => Next::Key,
            (Next::Comma, b',') => Next::Value,
            (Next::Comma | Next::FirstKey, b'}') => self.leave(true)?,
            (Next::Comma | Next::FirstItem, b']') => self.leave(false)?,
            (Next::Value | Next::FirstItem, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.scalar = vec![byte];
                Next::Scalar
            }
            _ => return None,
        })
    }

    fn enter(&mut self, is_object: bool) -> Next {
        self.open.push(is_object);
        if is_object { Next::FirstKey } else { Next::FirstItem }
    }

    fn leave(&mut self, is_object: bool) -> Option<Next> {
        let innermost = self.open.pop()?;
        (innermost == is_object && !self.open.is_empty()).then_some(Next::Comma)
    }

    fn complete(mut self, error: &str) -> Option<String> {
        let mut rest = String::new();
        let mut needs_comma = self.end_token(&mut rest)?;
        while self.open.len() > 1 {
            if self.open.pop()? {
                if !needs_comma && self.next == Next::Key {
                    rest.push_str("\"\":null");
                }
                rest.push('}');
            } else {
                if !needs_comma && self.next == Next::Value {
                    rest.push_str("null");
                }
                rest.push(']');
            }
            needs_comma = true;
            self.next = Next::Comma;
        }
        let comma = if needs_comma { "," } else { "" };
        rest.push_str(&format!("{comma}\"error\":{error}}}"));
        Some(rest)
    }

    /// Ends the token or member that is cut; says whether a comma must stand before a further member.
    fn end_token(&mut self, rest: &mut String) -> Option<bool> {
        let in_object = *self.open.last()?;
        match self.next {
            Next::Start => return None,
            Next::FirstKey | Next::Key | Next::FirstItem => return Some(false),
            Next::Value if !in_object => return Some(false),
            Next::Colon => rest.push_str(":null"),
            Next::Value => rest.push_str("null"),
            Next::Comma => {}
            Next::Scalar => rest.push_str(scalar_rest(&self.scalar)?),
            Next::String { is_key, escape } => {
                match escape {
                    Escape::None => {}
                    Escape::Begun => rest.push('\\'),
                    Escape::Digits(left) => rest.extend(std::iter::repeat_n('0', left)),
                }
                rest.push_str(if is_key { "\":null" } else { "\"" });
            }
        }
        Some(true)
    }
}

fn in_string(is_key: bool, escape: Escape, byte: u8) -> Option<Next> {
    let escape = match (escape, byte) {
        (_, 0..=0x1F) => return None,
        (Escape::None, b'"') if is_key => return Some(Next::Colon),
        (Escape::None, b'"') => return Some(Next::Comma),
        (Escape::None, b'\\') => Escape::Begun,
        (Escape::Begun, b'u') => Escape::Digits(4),
        (Escape::Digits(left), _) if left > 1 => Escape::Digits(left - 1),
        (Escape::None | Escape::Begun | Escape::Digits(_), _) => Escape::None,
    };
    Some(Next::String { is_key, escape })
}

/// What a cut literal or number lacks.
fn scalar_rest(scalar: &[u8]) -> Option<&'static str> {
    for literal in ["true", "false", "null"] {
        if literal.as_bytes().starts_with(scalar) {
            return literal.get(scalar.len()..);
        }
    }
    match scalar.last()? {
        b'0'..=b'9' => Some(""),
        b'-' | b'+' | b'.' | b'e' | b'E' => Some("0"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_of_an_event_is_completed() {
        let event = r#" {"id":"c\u00e9\n","a":[],"b":{},"n":[-1.5e+3,0,{"x":[true,false,null,{"y":"z\\"}]}],"t":"হ\"" , "u":{"v":1} }"#;
        for end in (0..event.len()).filter(|end| event.is_char_boundary(*end)) {
            let cut = &event[..end];
            match with_error(cut.as_bytes(), r#"{"message":"m"}"#) {
                None => assert_eq!(cut.trim(), "", "{cut}"),
                Some(rest) => {
                    let whole: serde_json::Value =
                        serde_json::from_str(&format!("{cut}{rest}")).unwrap_or_else(|e| panic!("{cut}{rest}: {e}"));
                    assert_eq!(whole["error"]["message"], "m", "{cut}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_become_an_object_is_let_alone() {
        for cut in
            ["", " ", "[DO", "[1", "\"a", "{}", "{\"a\":1}", "{]", "{\"a\":x", "{\"a\":truu", "{\"a\" 1", "{\"a\nb"]
        {
            assert_eq!(with_error(cut.as_bytes(), "1"), None, "{cut}");
        }
    }
}
