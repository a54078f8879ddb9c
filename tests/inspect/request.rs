//! Which scanner a request gets, or which refusal.

use forge::endpoint::Endpoint;
use forge::error::ApiError;
use forge::proxy::inspect::Inspector;

fn refusal(endpoint: Endpoint, content_type: Option<&str>) -> Option<u16> {
    Inspector::for_request(endpoint.row(), content_type.map(str::as_bytes)).err().map(|error| error.status)
}

#[test]
fn the_content_type_chooses_the_scanner_or_a_refusal() {
    use Endpoint::{AudioTranscriptions as Audio, ChatCompletions as Chat, ImagesEdits as Edits};
    let boundary = |boundary: &str| format!("multipart/form-data; boundary={boundary}");
    let (longest, too_long) = (boundary(&"b".repeat(70)), boundary(&"b".repeat(71)));
    for (endpoint, content_type, status) in [
        (Chat, None, None),
        (Chat, Some("application/json"), None),
        (Chat, Some("Application/JSON ; charset=\"UTF-8\"; v=1"), None),
        (Chat, Some("application/json; charset=utf-16"), Some(415)),
        (Chat, Some("application/x-www-form-urlencoded"), None),
        (Chat, Some("text/plain;charset=UTF-8"), None),
        (Chat, Some("application/jsonp"), Some(415)),
        (Chat, Some("multipart/form-data; boundary=b"), Some(415)),
        (Chat, Some(""), Some(400)),
        (Chat, Some("application/json, application/json"), Some(400)),
        (Chat, Some("application/json; charset=utf-8; charset=utf-16"), Some(400)),
        (Audio, Some("multipart/form-data; boundary=b"), None),
        (Audio, Some("Multipart/Form-Data;Boundary=\"a'()+_,-./:=? b\""), None),
        (Audio, Some(&longest), None),
        (Audio, Some(&too_long), Some(400)),
        (Audio, Some("multipart/form-data"), Some(400)),
        (Audio, Some("multipart/form-data; boundary=\"\""), Some(400)),
        (Audio, Some("multipart/form-data; boundary=\"b \""), Some(400)),
        (Audio, Some("multipart/form-data; boundary=\"b*\""), Some(400)),
        (Audio, Some("multipart/form-data; boundary=a:b"), Some(400)),
        (Audio, Some("multipart/form-data; boundary=b; boundary=c"), Some(400)),
        (Audio, Some("multipart/form-data; boundary*=utf-8''b"), Some(400)),
        (Audio, Some("multipart/form-data; boundary=b; charset=utf-16"), Some(415)),
        (Audio, Some("multipart/mixed; boundary=b"), Some(415)),
        (Audio, Some("application/json"), Some(415)),
        (Audio, None, Some(415)),
        (Edits, Some("application/json"), None),
        (Edits, Some("multipart/form-data; boundary=b"), None),
        (Edits, None, None),
        (Edits, Some("text/html"), Some(415)),
    ] {
        assert_eq!(refusal(endpoint, content_type), status, "{endpoint:?} {content_type:?}");
    }
}

#[test]
fn a_fault_is_a_400_that_says_where_and_stays() {
    let mut inspector = Inspector::json();
    let fault = inspector.feed(b"{\"model\":1}").unwrap_err();
    assert_eq!(inspector.feed(b"more"), Err(fault));
    assert_eq!(inspector.finish(), Err(fault));
    let error = ApiError::from(fault);
    assert_eq!((error.status, error.code, error.param), (400, "invalid_value", Some("model")));
    assert!(error.message.contains("byte 9"), "{}", error.message);

    let error = ApiError::from(Inspector::json().feed(b"{]").unwrap_err());
    assert_eq!((error.status, error.code, error.param), (400, "invalid_json", None));
}
