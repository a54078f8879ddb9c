//! The parts of a form that Forge reads.

use std::ops::Range;

use super::fault::{BodyFault, FaultKind, Field, FieldFault, MultipartFault};
use super::fields::{ModelValue, Spelling, field_named};
use super::multipart::FileParts;
use super::part_head::{PartHead, PartKind};

/// What the parts said so far.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) model: Option<ModelValue>,
    pub(super) stream: Option<bool>,
    pub(super) files: u32,
    named: Named,
}

/// The fields whose part has begun.
#[derive(Debug, Default)]
struct Named {
    model: bool,
    stream: bool,
}

impl Form {
    /// A part begins; returns the field whose text it holds, if Forge reads it.
    pub(super) fn admit(&mut self, head: &PartHead, file_parts: FileParts) -> Result<Option<Field>, FaultKind> {
        // RFC 7578, section 4.6: this part would change how a reader decodes the others.
        if head.name == "_charset_" {
            return Err(FaultKind::Multipart(MultipartFault::CharsetPart));
        }
        if head.name == "file" {
            self.files += 1;
            return match file_parts {
                FileParts::One if self.files > 1 => Err(FaultKind::Multipart(MultipartFault::SecondFile)),
                FileParts::One | FileParts::Any => Ok(None),
            };
        }
        let Some((field, spelling)) = field_resembling(&head.name) else { return Ok(None) };
        let named = match field {
            Field::Model => &mut self.named.model,
            Field::Stream => &mut self.named.stream,
        };
        let fault = match (spelling, head.kind) {
            (Spelling::Miscased, _) => FieldFault::Miscased,
            (Spelling::Exact, PartKind::File) => FieldFault::NotText,
            (Spelling::Exact, PartKind::Text | PartKind::Ascii) if std::mem::replace(named, true) => {
                FieldFault::Duplicate
            }
            (Spelling::Exact, PartKind::Text | PartKind::Ascii) => return Ok(Some(field)),
        };
        Err(FaultKind::Field(field, fault))
    }

    /// The text of a field that [`admit`](Self::admit) returned, standing at `span`.
    pub(super) fn read(&mut self, field: Field, text: &[u8], span: Range<u64>) -> Result<(), BodyFault> {
        let at = span.start;
        match field {
            Field::Model => {
                let model = ModelValue::check(text, span).map_err(|fault| BodyFault::field(field, fault, at))?;
                self.model = Some(model);
            }
            Field::Stream => {
                self.stream = Some(match text {
                    b"true" => true,
                    b"false" => false,
                    _ => return Err(BodyFault::field(field, FieldFault::Type, at)),
                });
            }
        }
        Ok(())
    }
}

/// The field that some reader may take `name` for: some trim it, some read `model[]` as `model`.
fn field_resembling(name: &str) -> Option<(Field, Spelling)> {
    let bare = name.split('[').next().unwrap_or(name).trim();
    let (field, spelling) = field_named(bare.as_bytes())?;
    Some((field, if bare == name { spelling } else { Spelling::Miscased }))
}
