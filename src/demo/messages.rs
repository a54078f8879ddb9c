//! `POST /v1/messages` and `/v1/messages/count_tokens`. <https://docs.anthropic.com/en/api/messages>
//!
//! Stream events and their order: <https://docs.anthropic.com/en/api/messages-streaming>

use axum::Json;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::stream;
use super::tools::{Call, Choice, Tool, Toolbox};
use super::turn::{Answer, Content, Format, Prompt, Turn};
use super::writing::{End, Limits, id, pieces};

pub(super) async fn create(fields: Fields) -> Result<Response, Refusal> {
    let turn = read(&fields)?;
    let message =
        Message { id: id("msg_"), answer: turn.answer(0), input_tokens: turn.prompt.tokens, model: turn.model };
    if fields.flag("stream")? == Some(true) {
        return Ok(stream::respond(message.events()));
    }
    Ok(Json(message.whole()).into_response())
}

pub(super) async fn count_tokens(fields: Fields) -> Result<Json<Value>, Refusal> {
    fields.required_text("model")?;
    Ok(Json(json!({"input_tokens": prompt(&fields)?.tokens})))
}

fn read(fields: &Fields) -> Result<Turn, Refusal> {
    let model = fields.required_text("model")?.to_owned();
    let tokens_max = fields.count("max_tokens", 1..=u64::MAX)?.ok_or_else(|| Refusal::missing("max_tokens"))?;
    fields.number("temperature", 0.0..=1.0)?;
    let limits = Limits { tokens_max: Some(tokens_max), stops: fields.texts("stop_sequences")? };
    Ok(Turn { model, prompt: prompt(fields)?, tools: toolbox(fields)?, format: format(fields)?, limits })
}

fn prompt(fields: &Fields) -> Result<Prompt, Refusal> {
    let mut prompt = Prompt::default();
    if let Some(system) = fields.value("system") {
        prompt.hear("system", &Content::read(system, "system")?);
    }
    for (index, message) in fields.required_list("messages")?.iter().enumerate() {
        let place = format!("messages.{index}");
        if !message.is_object() {
            return Err(Refusal::wrong_type(&place, "an object"));
        }
        let role = message["role"].as_str().ok_or_else(|| Refusal::missing(&format!("{place}.role")))?;
        if !["user", "assistant", "system"].contains(&role) {
            return Err(Refusal::value(&format!("{place}.role"), "Input should be 'user' or 'assistant'"));
        }
        if message["content"].is_null() {
            return Err(Refusal::missing(&format!("{place}.content")));
        }
        prompt.hear(role, &Content::read(&message["content"], &format!("{place}.content"))?);
    }
    prompt.count(fields.value("tools"));
    Ok(prompt)
}

/// Tools that the provider would run by itself (they have a `type` and no schema) are never called.
fn toolbox(fields: &Fields) -> Result<Toolbox, Refusal> {
    let mut tools = Vec::new();
    for (index, tool) in fields.list("tools")?.into_iter().flatten().enumerate() {
        let custom = matches!(tool["type"].as_str(), None | Some("custom"));
        if custom && tool["input_schema"].is_null() {
            return Err(Refusal::missing(&format!("tools.{index}.input_schema")));
        }
        if custom {
            tools.push(Tool::read(tool, "input_schema", &format!("tools.{index}"))?);
        }
    }
    let wish = fields.object("tool_choice")?;
    let named = |key: &str| wish.and_then(|wish| wish.get(key));
    let choice = match named("type").and_then(Value::as_str) {
        None if wish.is_some() => return Err(Refusal::missing("tool_choice.type")),
        None | Some("auto") => Choice::Auto,
        Some("any") => Choice::Required,
        Some("none") => Choice::Never,
        Some("tool") => match named("name").and_then(Value::as_str) {
            Some(name) => Choice::Named(name.to_owned()),
            None => return Err(Refusal::missing("tool_choice.name")),
        },
        Some(_) => return Err(Refusal::value("tool_choice.type", "Input should be auto, any, tool or none")),
    };
    let parallel = named("disable_parallel_tool_use") != Some(&Value::Bool(true));
    Toolbox { tools, choice, parallel }.checked()
}

fn format(fields: &Fields) -> Result<Format, Refusal> {
    let config = fields.object("output_config")?;
    let format = match config.and_then(|config| config.get("format")).filter(|format| !format.is_null()) {
        Some(format) => format,
        None => match fields.value("output_format") {
            Some(format) => format,
            None => return Ok(Format::Text),
        },
    };
    match (format["type"].as_str(), &format["schema"]) {
        (Some("json_schema"), schema @ Value::Object(_)) => Ok(Format::Schema(schema.clone())),
        _ => Err(Refusal::value("output_config.format", "Input should be a 'json_schema' with 'schema'")),
    }
}

struct Message {
    id: String,
    model: String,
    input_tokens: u64,
    answer: Answer,
}

impl Message {
    fn whole(&self) -> Value {
        let mut message = self.empty();
        message["content"] = match &self.answer {
            Answer::Text(written) => json!([text_block(&written.text)]),
            Answer::Calls(calls) => calls.iter().map(|call| tool_block(call, call.arguments.clone())).collect(),
        };
        (message["stop_reason"], message["stop_sequence"]) = self.stop();
        message["usage"] = self.usage(self.answer.tokens());
        message
    }

    /// The message as a stream starts it.
    fn empty(&self) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": self.usage(1),
        })
    }

    fn usage(&self, output_tokens: u64) -> Value {
        json!({
            "input_tokens": self.input_tokens, "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        })
    }

    fn stop(&self) -> (Value, Value) {
        match &self.answer {
            Answer::Calls(_) => ("tool_use".into(), Value::Null),
            Answer::Text(written) => match &written.end {
                End::Natural => ("end_turn".into(), Value::Null),
                End::Length => ("max_tokens".into(), Value::Null),
                End::Stop(sequence) => ("stop_sequence".into(), sequence.as_str().into()),
            },
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![json!({"type": "message_start", "message": self.empty()}), json!({"type": "ping"})];
        match &self.answer {
            Answer::Text(written) => {
                let deltas = pieces(&written.text).into_iter().map(|text| json!({"type": "text_delta", "text": text}));
                events.extend(block(0, text_block(""), deltas.collect()));
            }
            Answer::Calls(calls) => {
                for (index, call) in calls.iter().enumerate() {
                    let json = call.arguments.to_string();
                    let deltas = [""].into_iter().chain(pieces(&json));
                    let deltas = deltas.map(|part| json!({"type": "input_json_delta", "partial_json": part}));
                    events.extend(block(index, tool_block(call, json!({})), deltas.collect()));
                }
            }
        }
        let (reason, sequence) = self.stop();
        events.push(json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": {
                "input_tokens": self.input_tokens, "output_tokens": self.answer.tokens(),
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            },
        }));
        events.push(json!({"type": "message_stop"}));
        events.iter().map(stream::named).collect()
    }
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text, "citations": null})
}

fn tool_block(call: &Call, input: Value) -> Value {
    json!({"type": "tool_use", "id": id("toolu_"), "name": call.name, "input": input})
}

/// The events of one content block, from its start to its stop.
fn block(index: usize, start: Value, deltas: Vec<Value>) -> Vec<Value> {
    let deltas = deltas.into_iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
    [json!({"type": "content_block_start", "index": index, "content_block": start})]
        .into_iter()
        .chain(deltas)
        .chain([json!({"type": "content_block_stop", "index": index})])
        .collect()
}
