//! What the scanner says about a body, for comparison.

use std::ops::Range;

use forge::proxy::inspect::{BodyFault, Inspector};

/// All that it says.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub model: Option<(String, Range<u64>)>,
    pub stream: Option<bool>,
    pub spliced: Option<(Range<u64>, Vec<u8>)>,
}

/// The reading of a body that comes in these chunks.
pub fn read(inspector: Inspector, chunks: &[&[u8]]) -> Result<Reading, BodyFault> {
    let mut inspector = inspector;
    for chunk in chunks {
        inspector.feed(chunk)?;
    }
    inspector.finish()?;
    Ok(Reading {
        model: inspector.model().map(|model| (model.name.clone(), model.span.clone())),
        stream: inspector.stream(),
        spliced: inspector.splice("up").map(|splice| (splice.at, splice.with.to_vec())),
    })
}
