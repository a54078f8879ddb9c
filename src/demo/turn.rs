//! One turn of a conversation, whatever API it came by: what is asked, and what the demo model answers.

use serde_json::{Value, json};

use super::tools::{Call, Toolbox};
use super::writing::{Limits, Written, introduction, quoted, tokens};
use super::{refusal::Refusal, sample};

/// What an image or another part without text counts as, in tokens.
const PART_TOKENS: u64 = 85;

/// What is asked of the model.
#[derive(Debug)]
pub(super) struct Turn {
    pub model: String,
    pub prompt: Prompt,
    pub tools: Toolbox,
    pub format: Format,
    pub limits: Limits,
}

/// The form the answer's text is to have.
#[derive(Debug)]
pub(super) enum Format {
    Text,
    /// Any JSON object.
    Json,
    /// JSON by this schema.
    Schema(Value),
}

/// What the model answers.
#[derive(Debug)]
pub(super) enum Answer {
    Text(Written),
    Calls(Vec<Call>),
}

impl Turn {
    /// The `nth` answer (from 0) to this turn.
    pub(super) fn answer(&self, nth: u64) -> Answer {
        if self.prompt.tool_result.is_none() {
            let calls = self.tools.calls(&self.prompt.said);
            if !calls.is_empty() {
                return Answer::Calls(calls);
            }
        }
        Answer::Text(self.limits.apply(self.draft(nth)))
    }

    fn draft(&self, nth: u64) -> String {
        match &self.format {
            Format::Schema(schema) => sample::value(schema).to_string(),
            Format::Json => {
                json!({"model": self.model, "answer": "Forge's built-in demo model", "you_wrote": quoted(&self.prompt.said)})
                    .to_string()
            }
            Format::Text => {
                let mut draft = introduction(&self.model, &self.prompt.said);
                if let Some(result) = &self.prompt.tool_result {
                    draft = format!("The tool said: \"{}\". {draft}", quoted(result));
                }
                if nth > 0 {
                    draft = format!("({}) {draft}", nth + 1);
                }
                draft
            }
        }
    }
}

impl Answer {
    /// The output tokens of this answer.
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Text(written) => tokens(&written.text),
            Self::Calls(calls) => {
                calls.iter().map(|call| tokens(&call.name) + tokens(&call.arguments.to_string())).sum()
            }
        }
    }
}

/// What was said so far, as far as the demo model cares.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    /// Input tokens, by the demo model's estimate.
    pub tokens: u64,
    /// The user's last words.
    pub said: String,
    /// The tool's words, when the conversation ends with a tool's result.
    pub tool_result: Option<String>,
}

impl Prompt {
    /// Counts text that is part of the input but said by nobody: instructions, tool definitions.
    pub(super) fn count(&mut self, extra: Option<&Value>) {
        self.tokens += match extra {
            None => 0,
            Some(Value::String(text)) => tokens(text),
            Some(other) => tokens(&other.to_string()),
        };
    }

    /// Takes in what a user said, or what anyone else did if `role` is not `user`.
    pub(super) fn hear(&mut self, role: &str, content: &Content) {
        self.tokens += content.tokens();
        if let Some(result) = &content.tool_result {
            self.tool_result = Some(result.clone());
        } else if role == "tool" {
            self.tool_result = Some(content.text.clone());
        } else if role == "user" {
            self.tool_result = None;
        }
        if role == "user" && !content.text.is_empty() {
            self.said.clone_from(&content.text);
        }
    }
}

/// A message's content: a string, or a list of typed parts.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The text of all text parts.
    pub text: String,
    /// The text of Anthropic's `tool_result` parts, if there is one.
    pub tool_result: Option<String>,
    other_tokens: u64,
}

impl Content {
    /// Reads `content`; `place` is its path in the request, for a refusal.
    pub(super) fn read(content: &Value, place: &str) -> Result<Self, Refusal> {
        let mut read = Self::default();
        match content {
            Value::Null => {}
            Value::String(text) => read.text.clone_from(text),
            Value::Array(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    read.part(part, &format!("{place}.{index}"))?;
                }
            }
            _ => return Err(Refusal::wrong_type(place, "a string or an array of parts")),
        }
        Ok(read)
    }

    fn part(&mut self, part: &Value, place: &str) -> Result<(), Refusal> {
        let Some(kind) = part["type"].as_str() else {
            return Err(Refusal::missing(&format!("{place}.type")));
        };
        match kind {
            "text" | "input_text" | "output_text" => {
                let text = part["text"].as_str().ok_or_else(|| Refusal::missing(&format!("{place}.text")))?;
                if !self.text.is_empty() {
                    self.text.push('\n');
                }
                self.text.push_str(text);
            }
            "tool_result" => {
                let result = Self::read(&part["content"], &format!("{place}.content"))?;
                self.other_tokens += result.other_tokens;
                self.tool_result = Some(result.text);
            }
            "tool_use" => self.other_tokens += tokens(&part["input"].to_string()),
            _ => self.other_tokens += PART_TOKENS,
        }
        Ok(())
    }

    fn tokens(&self) -> u64 {
        tokens(&self.text) + self.tool_result.as_deref().map_or(0, tokens) + self.other_tokens
    }
}
