//! What is wrong with a file, said so that its writer can mend it without a manual.

use std::fmt;

/// One thing to mend: where it stands, what was expected, and a guess at what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    /// The dotted path, e.g. `models.priyo-smart.to[1].weight`; empty for the file as a whole.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
    /// The nearest thing that would have been accepted.
    pub meant: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean '{meant}'?"),
            None => Ok(()),
        }
    }
}

/// Every fault of a file at once; the file is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The file's name as it was given.
    pub file: String,
    /// In the order of their lines; at least one.
    pub list: Vec<Finding>,
}

impl Faults {
    /// A file that could not be read at all.
    pub(super) fn unreadable(file: &str, error: impl fmt::Display) -> Self {
        let message = format!("cannot be read: {error}");
        Self { file: file.to_owned(), list: vec![Finding { line: 1, path: String::new(), message, meant: None }] }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.list.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{finding}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The candidate nearest to `text`, if one is near enough to be a slip of the fingers.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let distance_max = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= distance_max && *candidate != text)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}
