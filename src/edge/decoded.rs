//! The rules for heads, asked of one that HTTP/2 carried: already decoded, its framing already sound.

use http::Method;
use http::header::CONTENT_LENGTH;
use pingora::http::RequestHeader;

use super::fault::Fault;
use super::grammar;
use super::head::HeadLimits;

/// Checks a decoded head by the rules that hold for HTTP/1 as well.
///
/// # Errors
/// The rule that it breaks.
pub fn check_decoded(head: &RequestHeader, limits: &HeadLimits) -> Result<(), Fault> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Fault::Method);
    }
    if !grammar::is_method(head.method.as_str().as_bytes()) {
        return Err(Fault::RequestLine);
    }
    let target = head.raw_path();
    if target.len() > limits.target_bytes_max {
        return Err(Fault::TargetTooLong);
    }
    if !grammar::is_target(target) {
        return Err(Fault::Target);
    }
    check_fields(head, limits)?;
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map(|length| grammar::content_length(length.as_bytes()));
    if length == Some(None) || lengths.next().is_some() {
        return Err(Fault::Framing);
    }
    let host = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = host.or_else(|| head.headers.get(http::header::HOST).map(http::HeaderValue::as_bytes));
    if !host.is_some_and(grammar::is_host) {
        return Err(Fault::Host);
    }
    Ok(())
}

fn check_fields(head: &RequestHeader, limits: &HeadLimits) -> Result<(), Fault> {
    if head.headers.len() > limits.fields_max {
        return Err(Fault::TooManyFields);
    }
    let mut bytes = 0;
    for (name, value) in &head.headers {
        let name = name.as_str().as_bytes();
        let line = name.len() + value.len();
        bytes += line;
        if line > limits.field_bytes_max || bytes > limits.fields_bytes_max {
            return Err(Fault::FieldsTooLarge);
        }
        if !grammar::is_field_name(name) {
            return Err(Fault::FieldName);
        }
        if !grammar::is_field_value(value.as_bytes()) {
            return Err(Fault::FieldValue);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn check(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(), Fault> {
        let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        head.append_header("host", "forge.test").unwrap();
        for (name, value) in fields {
            head.append_header(HeaderName::from_bytes(name.as_bytes()).unwrap(), *value).unwrap();
        }
        check_decoded(&head, &HeadLimits::default())
    }

    #[test]
    fn the_rules_for_heads_hold_over_http2_too() {
        assert_eq!(check("POST", "/v1/messages?beta=true", &[("content-length", "3")]), Ok(()));
        assert_eq!(check("TRACE", "/", &[]), Err(Fault::Method));
        assert_eq!(check(&"A".repeat(33), "/", &[]), Err(Fault::RequestLine));
        assert_eq!(check("GET", &format!("/{}", "a".repeat(8 << 10)), &[]), Err(Fault::TargetTooLong));
        assert_eq!(check("GET", "/v1/%00", &[]), Err(Fault::Target));
        assert_eq!(check("GET", "/", &[("a_b", "c")]), Err(Fault::FieldName));
        assert_eq!(check("GET", "/", &[("a", &"b".repeat(40 << 10))]), Err(Fault::FieldsTooLarge));
        assert_eq!(check("GET", "/", &[("a", "b"); 100]), Err(Fault::TooManyFields));
        assert_eq!(check("GET", "/", &[("content-length", "+3")]), Err(Fault::Framing));
        assert_eq!(check("GET", "/", &[("content-length", "3"), ("content-length", "3")]), Err(Fault::Framing));
    }
}
