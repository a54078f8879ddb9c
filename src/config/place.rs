//! Reading a tree: a [`Place`] is a value with its path, and the way to say what is wrong with it.

use std::cell::RefCell;

use super::finding::{Finding, nearest};
use super::tree::{Kind, Node, join};

/// What was found in a file so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    faults: RefCell<Vec<Finding>>,
    warnings: RefCell<Vec<Finding>>,
}

impl Report {
    /// Faults and warnings, each in the order of their lines.
    pub fn finish(self) -> (Vec<Finding>, Vec<Finding>) {
        let sorted = |findings: RefCell<Vec<Finding>>| {
            let mut findings = findings.into_inner();
            findings.sort_by_key(|finding| finding.line);
            findings
        };
        (sorted(self.faults), sorted(self.warnings))
    }
}

/// A value where it stands.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub node: &'a Node,
    /// The line of the key, where there is one, else of the value.
    pub line: usize,
    pub path: String,
    report: &'a Report,
}

impl<'a> Place<'a> {
    pub fn root(node: &'a Node, report: &'a Report) -> Self {
        Self { node, line: node.line, path: String::new(), report }
    }

    /// Says what is wrong here.
    pub fn fault(&self, message: impl Into<String>) {
        self.fault_meant(message, None);
    }

    /// Says what is wrong here, and which of `candidates` may have been meant instead of `text`.
    pub fn fault_near<'c>(
        &self,
        message: impl Into<String>,
        text: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) {
        self.fault_meant(message, nearest(text, candidates));
    }

    /// Says what is wrong here, and what was meant.
    pub fn fault_meant(&self, message: impl Into<String>, meant: Option<String>) {
        self.report.faults.borrow_mut().push(self.finding(message.into(), meant));
    }

    /// Says what is doubtful here; the file is used all the same.
    pub fn warn(&self, message: impl Into<String>) {
        self.report.warnings.borrow_mut().push(self.finding(message.into(), None));
    }

    fn finding(&self, message: String, meant: Option<String>) -> Finding {
        Finding { line: self.line, path: self.path.clone(), message, meant }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(text) => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The value of a key of this map; a key without a value counts as absent.
    pub fn get(&self, name: &str) -> Option<Place<'a>> {
        self.entries().find(|(key, place)| *key == name && place.node.kind != Kind::Null).map(|(_, place)| place)
    }

    /// As [`get`](Self::get), where anything but a map is the short form of `{name: …}`.
    pub fn get_or_short(&self, name: &str) -> Option<Place<'a>> {
        match &self.node.kind {
            Kind::Map(_) => self.get(name),
            Kind::Scalar(_) | Kind::List(_) => Some(self.clone()),
            Kind::Null => None,
        }
    }

    /// Keys and values of a map, in file order; none for anything else.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Place<'a>)> + use<'a> {
        let entries = match &self.node.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null | Kind::Scalar(_) | Kind::List(_) => &[],
        };
        let (path, report) = (self.path.clone(), self.report);
        entries.iter().map(move |entry| {
            let place = Place { node: &entry.value, line: entry.line, path: join(&path, &entry.name), report };
            (entry.name.as_str(), place)
        })
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub fn items(&self) -> Vec<Place<'a>> {
        match &self.node.kind {
            Kind::List(items) => items.iter().enumerate().map(|(index, node)| self.item(index, node)).collect(),
            Kind::Scalar(_) | Kind::Map(_) => vec![self.clone()],
            Kind::Null => Vec::new(),
        }
    }

    fn item(&self, index: usize, node: &'a Node) -> Place<'a> {
        Place { node, line: node.line, path: format!("{}[{index}]", self.path), report: self.report }
    }

    /// A key's scalar read by `read`; what it cannot read has been reported by the shape.
    pub fn read<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        read(self.get(name)?.text()?)
    }
}
