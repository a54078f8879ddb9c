//! Programmable routing: the rules of a snapshot, in order; the first whose condition holds decides.
//!
//! A rule that fails while it is evaluated, e.g. because the header it reads is not there, does not match.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use cel::Program;
use cel::common::ast::IdedExpr;

use super::expression::{Variables, compile, constant, context, holds};
use super::model::Resolver;
use super::place::Place;
use super::snapshot::Model;
use crate::endpoint::Endpoint;

/// What a rule may read of one request. Built only where rules exist.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The model the client named.
    pub model: &'a str,
    /// The endpoint called.
    pub endpoint: Endpoint,
    /// The body's `stream`; false where it is absent.
    pub stream: bool,
    /// Name of the key's tier.
    pub tier: &'a str,
    /// Name of the key.
    pub key_name: &'a str,
    /// Metadata of the key.
    pub key_metadata: &'a HashMap<String, String>,
    /// Request headers; credentials among them stay hidden from rules.
    pub headers: &'a http::HeaderMap,
    /// The undecoded path.
    pub path: &'a str,
    /// The peer's address.
    pub client_ip: Option<IpAddr>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Seconds since 1970; `time` is a CEL timestamp.
    pub time_unix: i64,
}

/// The rules of a snapshot, in order.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Some rule reads `stream`: the body is read to its end before routing.
    pub reads_stream: bool,
    /// Some rule reads `body_bytes` or `input_tokens_estimate`: a body of unknown length is read to its end.
    pub reads_body_bytes: bool,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// The expression as written, for `forge explain` and the log.
    pub when: String,
    /// Where a matching request goes instead.
    pub model: Arc<Model>,
    program: Program,
}

impl Rules {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The first rule that matches, with its position from 0. Costs nothing where there are no rules.
    pub fn first_match(&self, facts: &Facts<'_>) -> Option<(usize, &Rule)> {
        if self.rules.is_empty() {
            return None;
        }
        let variables = Variables::of(facts);
        let context = context(&variables);
        self.rules.iter().enumerate().find(|(_, rule)| holds(&rule.program, &context))
    }

    /// Reads `rules:`; reports expressions that cannot work and rules that cannot be reached.
    pub(super) fn read<'a>(section: &Place<'a>, resolver: &Resolver<'a>) -> Self {
        let mut rules = Self::default();
        let mut seen: Vec<(usize, IdedExpr)> = Vec::new();
        let mut always: Option<usize> = None;
        for (index, place) in section.items().iter().enumerate() {
            if let Some(first) = always {
                place.fault(format!("never reached: rules[{first}] matches every request"));
            }
            let model = place.get("use").and_then(|used| resolver.rule_model(&used));
            let Some(when) = place.get("when") else { continue };
            let Some(program) = compile(&when) else { continue };
            if constant(&program, &when) == Some(true) {
                always.get_or_insert(index);
            }
            if let Some((first, _)) = seen.iter().find(|(_, condition)| condition == program.expression()) {
                when.fault(format!("never reached: rules[{first}] has the same condition"));
            }
            seen.push((index, program.expression().clone()));
            rules.add(program, &when, model);
        }
        rules
    }

    fn add(&mut self, program: Program, when: &Place<'_>, model: Option<Arc<Model>>) {
        let reads = program.references();
        self.reads_stream |= reads.has_variable("stream");
        self.reads_body_bytes |= reads.has_variable("body_bytes") || reads.has_variable("input_tokens_estimate");
        drop(reads);
        if let (Some(model), Some(text)) = (model, when.text()) {
            self.rules.push(Rule { when: text.to_owned(), model, program });
        }
    }
}
