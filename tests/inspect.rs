//! The body scanners against other readers of the same bytes, at every split.

#[path = "inspect/json.rs"]
mod json;
#[path = "inspect/multipart.rs"]
mod multipart;
#[path = "inspect/request.rs"]
mod request;
