//! The functions a request offers, and which of them the demo model calls.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::sample;

/// The most tools of one request.
const TOOLS_MAX: usize = 1024;
/// How far into a message the model looks for a tool's name, in bytes.
const LOOKED_AT_BYTES: usize = 4096;

/// A function the model may call.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub name: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// What the request says about calling tools.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// The model decides.
    Auto,
    /// No call.
    Never,
    /// At least one call.
    Required,
    /// This one.
    Named(String),
}

/// The tools of a request, and how they are to be used.
#[derive(Debug)]
pub(super) struct Toolbox {
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// Whether more than one call may come in one answer.
    pub parallel: bool,
}

/// A call the demo model makes.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub name: String,
    pub arguments: Value,
}

impl Toolbox {
    /// Refuses a choice that names no tool of the request, and more tools than anyone reads.
    pub(super) fn checked(self) -> Result<Self, Refusal> {
        if self.tools.len() > TOOLS_MAX {
            return Err(Refusal::value("tools", format!("at most {TOOLS_MAX} tools.")));
        }
        match &self.choice {
            Choice::Named(name) if !self.tools.iter().any(|tool| tool.name == *name) => {
                Err(Refusal::value("tool_choice", format!("tool '{name}' not found in 'tools'.")))
            }
            Choice::Required if self.tools.is_empty() => {
                Err(Refusal::value("tool_choice", "a tool is required but 'tools' has no function."))
            }
            Choice::Auto | Choice::Never | Choice::Required | Choice::Named(_) => Ok(self),
        }
    }

    /// The calls to make in answer to `said`. Left to itself, the model calls the tools whose name shares a
    /// word with it; when it must call, also the first.
    pub(super) fn calls(&self, said: &str) -> Vec<Call> {
        let said = &said[..said.floor_char_boundary(LOOKED_AT_BYTES)];
        let mentioned = || self.tools.iter().filter(|tool| is_mentioned(&tool.name, said));
        let mut chosen: Vec<&Tool> = match &self.choice {
            Choice::Never => vec![],
            Choice::Auto => mentioned().collect(),
            Choice::Required if mentioned().next().is_none() => self.tools.iter().take(1).collect(),
            Choice::Required => mentioned().collect(),
            Choice::Named(name) => self.tools.iter().filter(|tool| tool.name == *name).take(1).collect(),
        };
        if !self.parallel {
            chosen.truncate(1);
        }
        chosen.into_iter().map(Tool::call).collect()
    }
}

impl Tool {
    /// A tool by its `name` and the schema under `parameters_key`, both members of `definition`.
    pub(super) fn read(definition: &Value, parameters_key: &str, place: &str) -> Result<Self, Refusal> {
        let name = definition["name"].as_str().ok_or_else(|| Refusal::missing(&format!("{place}.name")))?;
        let parameters = match &definition[parameters_key] {
            Value::Null => json!({"type": "object", "properties": {}}),
            schema @ Value::Object(_) => schema.clone(),
            _ => return Err(Refusal::wrong_type(&format!("{place}.{parameters_key}"), "an object")),
        };
        Ok(Self { name: name.to_owned(), parameters })
    }

    fn call(&self) -> Call {
        let arguments = match sample::value(&self.parameters) {
            object @ Value::Object(_) => object,
            _ => json!({}),
        };
        Call { name: self.name.clone(), arguments }
    }
}

/// Whether `said` holds the tool's whole name or, of a name such as `get_weather`, a word of five letters or
/// more. Names of one word are verbs too often ("Write a poem") to be taken as a wish.
fn is_mentioned(name: &str, said: &str) -> bool {
    const WORD_CHARS_MIN: usize = 5;
    let parts: Vec<String> = name.split(['_', '-']).map(str::to_lowercase).collect();
    if parts.len() < 2 {
        return false;
    }
    said.contains(name)
        || said
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() >= WORD_CHARS_MIN)
            .any(|word| parts.contains(&word.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolbox(choice: Choice, parallel: bool) -> Toolbox {
        let tool = |name: &str| Tool { name: name.to_owned(), parameters: json!({"type": "object"}) };
        Toolbox { tools: vec![tool("get_weather"), tool("get_stock_price"), tool("Write")], choice, parallel }
    }

    fn names(toolbox: &Toolbox, said: &str) -> Vec<String> {
        toolbox.calls(said).into_iter().map(|call| call.name).collect()
    }

    #[test]
    fn the_choice_decides() {
        let said = "The weather and the stock price, please";
        assert_eq!(names(&toolbox(Choice::Auto, true), said), ["get_weather", "get_stock_price"]);
        assert_eq!(names(&toolbox(Choice::Auto, false), said), ["get_weather"]);
        assert_eq!(names(&toolbox(Choice::Auto, true), "Write a haiku"), [""; 0]);
        assert_eq!(names(&toolbox(Choice::Never, true), said), [""; 0]);
        assert_eq!(names(&toolbox(Choice::Required, true), "Hello"), ["get_weather"]);
        assert_eq!(names(&toolbox(Choice::Named("Write".into()), true), said), ["Write"]);
        assert!(toolbox(Choice::Named("nothing".into()), true).checked().is_err());
    }
}
