//! YAML text -> a tree whose every value knows its line.
//!
//! Scalars stay text: what a scalar means is decided by the place it stands in (shape.rs), so `no`, `1.10` and
//! `2024-10-21` never turn into something else on the way.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde::Deserialize;

use super::finding::Finding;

/// Nesting beyond this is a fault; the deepest place a file can use is 6.
const DEPTH_MAX: usize = 32;
/// Values in one file, copies made by aliases included: a bound on "billion laughs".
const NODES_MAX: usize = 200_000;

/// A value and the line it starts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In file order, names unique.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    pub line: usize,
    pub value: Node,
}

/// Reads one document. Duplicate keys are all reported; broken YAML ends the reading.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Finding>> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span.start.line()),
            Err(error) => Err(not_yaml(&error)),
        };
        if let Err(finding) = step {
            builder.findings.push(finding);
            return Err(builder.findings);
        }
    }
    agree(text)?;
    let root = builder.root.unwrap_or(Node { line: 1, kind: Kind::Null });
    if builder.findings.is_empty() { Ok(root) } else { Err(builder.findings) }
}

/// A second reader must take the text for YAML too: what only one reads is a trap for every other tool that
/// looks at the file. The first gives the lines, which `serde_yaml` keeps to itself.
fn agree(text: &str) -> Result<(), Vec<Finding>> {
    let mut documents = serde_yaml::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    let read = documents.try_for_each(|document| serde::de::IgnoredAny::deserialize(document).map(drop));
    read.map_err(|error| {
        let line = error.location().map_or(1, |place| place.line());
        vec![at(line, String::new(), format!("not valid YAML: {error}"))]
    })
}

fn not_yaml(error: &ScanError) -> Finding {
    at(error.marker().line(), String::new(), format!("not valid YAML: {}", error.info()))
}

fn at(line: usize, path: String, message: String) -> Finding {
    Finding { line: line.max(1), path, message, meant: None }
}

/// A list or map whose end has not come yet.
enum Open {
    List {
        line: usize,
        anchor: usize,
        items: Vec<Node>,
    },
    /// `name`: a key whose value has not come yet. `lines`: of every key, to find one given twice.
    Map {
        line: usize,
        anchor: usize,
        entries: Vec<Entry>,
        name: Option<(String, usize)>,
        lines: HashMap<String, usize>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
    findings: Vec<Finding>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Finding> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(line),
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let kind = if null { Kind::Null } else { Kind::Scalar(text.into_owned()) };
                self.value(Node { line, kind }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.push(Open::List { line, anchor, items: Vec::new() }),
            Event::MappingStart(anchor, _) => {
                let (entries, lines) = (Vec::new(), HashMap::new());
                self.push(Open::Map { line, anchor, entries, name: None, lines })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += count(&node);
                    self.value(node, 0)
                }
                None => Err(at(line, self.path(), "an alias to a value that is not finished".to_owned())),
            },
        }
    }

    fn document(&mut self, line: usize) -> Result<(), Finding> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        Err(at(line, String::new(), "a second YAML document; one file holds one".to_owned()))
    }

    fn push(&mut self, open: Open) -> Result<(), Finding> {
        let (Open::List { line, .. } | Open::Map { line, .. }) = &open;
        if self.open.len() >= DEPTH_MAX {
            return Err(at(*line, self.path(), format!("nested more than {DEPTH_MAX} deep")));
        }
        if let Some(Open::Map { name: None, .. }) = self.open.last() {
            return Err(at(*line, self.path(), "a key must be plain text".to_owned()));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Finding> {
        match self.open.pop() {
            Some(Open::List { line, anchor, items }) => self.value(Node { line, kind: Kind::List(items) }, anchor),
            Some(Open::Map { line, anchor, entries, .. }) => {
                self.value(Node { line, kind: Kind::Map(entries) }, anchor)
            }
            None => Ok(()),
        }
    }

    /// A finished value takes its place: in the list, as a key, as a key's value, or as the root.
    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Finding> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(at(node.line, self.path(), format!("more than {NODES_MAX} values")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            self.nodes += count(&node);
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { name, entries, .. }) => match name.take() {
                Some((name, line)) => entries.push(Entry { name, line, value: node }),
                None => return self.key(node),
            },
        }
        Ok(())
    }

    fn key(&mut self, node: Node) -> Result<(), Finding> {
        let path = self.path();
        let key = match node.kind {
            Kind::Scalar(text) if text == "<<" => {
                return Err(at(node.line, path, "merge keys (<<) are not read; use an alias as a value".to_owned()));
            }
            Kind::Scalar(text) => text,
            Kind::Null | Kind::List(_) | Kind::Map(_) => {
                return Err(at(node.line, path, "a key must be plain text".to_owned()));
            }
        };
        if let Some(Open::Map { name, lines, .. }) = self.open.last_mut() {
            match lines.get(&key) {
                Some(first) => {
                    let message = format!("given twice; first on line {first}");
                    self.findings.push(at(node.line, join(&path, &key), message));
                }
                None => drop(lines.insert(key.clone(), node.line)),
            }
            *name = Some((key, node.line));
        }
        Ok(())
    }

    /// The path of the value being read.
    fn path(&self) -> String {
        self.open.iter().fold(String::new(), |path, open| match open {
            Open::List { items, .. } => format!("{path}[{}]", items.len()),
            Open::Map { name: Some((name, _)), .. } => join(&path, name),
            Open::Map { name: None, .. } => path,
        })
    }
}

/// `path` with one more name.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Null | Kind::Scalar(_) => 1,
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|entry| count(&entry.value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_value_knows_its_line() {
        let root = parse("a: 1\nb:\n  - x\n  - { c: ~ }\n").unwrap();
        let Kind::Map(entries) = root.kind else { panic!() };
        let Kind::List(items) = &entries[1].value.kind else { panic!() };
        assert_eq!((entries[0].line, entries[1].line, items[0].line, items[1].line), (1, 2, 3, 4));
        let Kind::Map(inner) = &items[1].kind else { panic!() };
        assert_eq!(inner[0].value.kind, Kind::Null);
    }

    #[test]
    fn duplicate_keys_are_all_found() {
        assert_eq!(
            faults("a: 1\na: 2\nb:\n  - {c: 1, c: 2}\n"),
            ["2: a: given twice; first on line 1", "4: b[0].c: given twice; first on line 4"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert!(faults("a: [1\nb: 2")[0].contains("not valid YAML"));
        assert!(faults("a: 1\n---\nb: 2\n")[0].starts_with("2: a second YAML document"));
        assert!(faults("? [a]\n: 1\n")[0].contains("a key must be plain text"));
        assert!(faults(&"[".repeat(100))[0].contains("nested more than 32 deep"));
        let laughs = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, i| {
            let before = format!("*a{},", i - 1).repeat(9);
            format!("{text}a{i}: &a{i} [{before}]\n")
        });
        assert!(faults(&laughs)[0].contains("more than 200000 values"));
    }
}
