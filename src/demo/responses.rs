//! `POST /v1/responses`. <https://platform.openai.com/docs/api-reference/responses/create>
//!
//! Nothing is stored: `previous_response_id` is repeated in the answer, and what came before is not known.

use axum::Json;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::chat::mode_of;
use super::fields::Fields;
use super::refusal::Refusal;
use super::stream;
use super::tools::{Call, Choice, Tool, Toolbox};
use super::turn::{Answer, Content, Format, Prompt, Turn};
use super::writing::{End, Limits, Written, id, now_unix, pieces};

pub(super) async fn create(fields: Fields) -> Result<Response, Refusal> {
    if fields.flag("background")? == Some(true) {
        return Err(Refusal::value("background", "the demo provider stores no responses to be polled."));
    }
    let turn = read(&fields)?;
    let answer = turn.answer(0);
    let frame = frame(&fields, &turn)?;
    let items = match &answer {
        Answer::Text(written) => vec![Item::Message { id: id("msg_"), written: written.clone() }],
        Answer::Calls(calls) => calls.iter().cloned().map(Item::call).collect(),
    };
    let reply = Reply { frame, items, input_tokens: turn.prompt.tokens, output_tokens: answer.tokens() };
    if fields.flag("stream")? == Some(true) {
        return Ok(stream::respond(reply.events()));
    }
    Ok(Json(reply.finished()).into_response())
}

fn read(fields: &Fields) -> Result<Turn, Refusal> {
    let model = fields.required_text("model")?.to_owned();
    let mut prompt = prompt(fields)?;
    prompt.count(fields.value("instructions"));
    prompt.count(fields.value("tools"));
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    let tokens_max = fields.count("max_output_tokens", 1..=u64::MAX)?;
    let limits = Limits { tokens_max, stops: vec![] };
    Ok(Turn { model, prompt, tools: toolbox(fields)?, format: format(fields)?, limits })
}

fn prompt(fields: &Fields) -> Result<Prompt, Refusal> {
    let mut prompt = Prompt::default();
    match fields.required("input")? {
        Value::String(_) => prompt.hear("user", &Content::read(fields.required("input")?, "input")?),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                hear_item(&mut prompt, item, &format!("input[{index}]"))?;
            }
        }
        _ => return Err(Refusal::wrong_type("input", "a string or an array of input items")),
    }
    Ok(prompt)
}

/// A message (with or without `type`), a tool's output, or an item that only counts.
fn hear_item(prompt: &mut Prompt, item: &Value, place: &str) -> Result<(), Refusal> {
    if !item.is_object() {
        return Err(Refusal::wrong_type(place, "an object"));
    }
    match (item["type"].as_str(), item["role"].as_str()) {
        (None | Some("message"), Some(_)) if item["content"].is_null() => {
            return Err(Refusal::missing(&format!("{place}.content")));
        }
        (None | Some("message"), Some(role)) => {
            prompt.hear(role, &Content::read(&item["content"], &format!("{place}.content"))?);
        }
        (None | Some("message"), None) => return Err(Refusal::missing(&format!("{place}.role"))),
        (Some("function_call_output" | "custom_tool_call_output"), _) => {
            prompt.hear("tool", &Content::read(&item["output"], &format!("{place}.output"))?);
        }
        (Some(_), _) => prompt.count(Some(item)),
    }
    Ok(())
}

/// Only functions are called; tools that run at the provider or take free text are left alone.
fn toolbox(fields: &Fields) -> Result<Toolbox, Refusal> {
    let mut tools = Vec::new();
    for (index, tool) in fields.list("tools")?.into_iter().flatten().enumerate() {
        match tool["type"].as_str() {
            Some("function") => tools.push(Tool::read(tool, "parameters", &format!("tools[{index}]"))?),
            Some(_) => {}
            None => return Err(Refusal::missing(&format!("tools[{index}].type"))),
        }
    }
    let choice = match fields.value("tool_choice") {
        None => Choice::Auto,
        Some(Value::String(mode)) => mode_of(mode)?,
        Some(choice) => match choice["name"].as_str() {
            Some(name) => Choice::Named(name.to_owned()),
            None => mode_of(choice["mode"].as_str().unwrap_or_default())?,
        },
    };
    Toolbox { tools, choice, parallel: fields.flag("parallel_tool_calls")? != Some(false) }.checked()
}

fn format(fields: &Fields) -> Result<Format, Refusal> {
    let format = fields.object("text")?.map_or(&Value::Null, |text| text.get("format").unwrap_or(&Value::Null));
    match (format["type"].as_str(), &format["schema"]) {
        (None | Some("text"), _) => Ok(Format::Text),
        (Some("json_object"), _) => Ok(Format::Json),
        (Some("json_schema"), schema @ Value::Object(_)) => Ok(Format::Schema(schema.clone())),
        (Some("json_schema"), _) => Err(Refusal::missing("text.format.schema")),
        (Some(_), _) => Err(Refusal::value("text.format.type", "supported are text, json_object and json_schema.")),
    }
}

/// The response object as it stands before anything is written.
fn frame(fields: &Fields, turn: &Turn) -> Result<Value, Refusal> {
    let or = |name: &str, default: Value| fields.value(name).cloned().unwrap_or(default);
    let mut text = json!({"format": {"type": "text"}, "verbosity": "medium"});
    for (name, value) in fields.object("text")?.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        text[name] = value.clone();
    }
    let mut reasoning = json!({"effort": null, "summary": null});
    for (name, value) in fields.object("reasoning")?.into_iter().flatten() {
        reasoning[name] = value.clone();
    }
    Ok(json!({
        "id": id("resp_"), "object": "response", "created_at": now_unix(), "completed_at": null,
        "status": "in_progress", "background": false, "error": null, "incomplete_details": null,
        "instructions": or("instructions", Value::Null),
        "max_output_tokens": or("max_output_tokens", Value::Null),
        "max_tool_calls": or("max_tool_calls", Value::Null),
        "metadata": or("metadata", json!({})),
        "model": turn.model, "output": [],
        "parallel_tool_calls": turn.tools.parallel,
        "previous_response_id": or("previous_response_id", Value::Null),
        "prompt_cache_key": or("prompt_cache_key", Value::Null),
        "reasoning": reasoning,
        "safety_identifier": or("safety_identifier", Value::Null),
        "service_tier": "default", "store": false,
        "temperature": or("temperature", json!(1.0)),
        "text": text,
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": or("tools", json!([])),
        "top_logprobs": or("top_logprobs", json!(0)),
        "top_p": or("top_p", json!(1.0)),
        "truncation": or("truncation", json!("disabled")),
        "usage": null,
    }))
}

/// One item of the output.
enum Item {
    Message { id: String, written: Written },
    Call { id: String, call_id: String, call: Call },
}

/// How far an item or part is when it is shown.
#[derive(Clone, Copy)]
enum Stage {
    Begun,
    Done,
}

impl Item {
    fn call(call: Call) -> Self {
        Self::Call { id: id("fc_"), call_id: id("call_"), call }
    }

    fn id(&self) -> &str {
        match self {
            Self::Message { id, .. } | Self::Call { id, .. } => id,
        }
    }

    fn value(&self, stage: Stage) -> Value {
        let status = match (stage, self) {
            (Stage::Begun, _) => "in_progress",
            (Stage::Done, Self::Message { written, .. }) if written.end == End::Length => "incomplete",
            (Stage::Done, Self::Message { .. } | Self::Call { .. }) => "completed",
        };
        match self {
            Self::Message { id, written } => {
                let content = match stage {
                    Stage::Begun => json!([]),
                    Stage::Done => json!([part(&written.text)]),
                };
                json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": content})
            }
            Self::Call { id, call_id, call } => {
                let arguments = match stage {
                    Stage::Begun => String::new(),
                    Stage::Done => call.arguments.to_string(),
                };
                json!({
                    "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": call.name,
                    "arguments": arguments,
                })
            }
        }
    }

    /// The events between `output_item.added` and `output_item.done`, but for what all events have.
    fn progress(&self) -> Vec<Value> {
        match self {
            Self::Message { written, .. } => {
                let text = &written.text;
                let deltas = pieces(text).into_iter().map(|piece| {
                    json!({"type": "response.output_text.delta", "content_index": 0, "delta": piece, "logprobs": []})
                });
                [json!({"type": "response.content_part.added", "content_index": 0, "part": part("")})]
                    .into_iter()
                    .chain(deltas)
                    .chain([
                        json!({"type": "response.output_text.done", "content_index": 0, "text": text, "logprobs": []}),
                        json!({"type": "response.content_part.done", "content_index": 0, "part": part(text)}),
                    ])
                    .collect()
            }
            Self::Call { call, .. } => {
                let arguments = call.arguments.to_string();
                let delta = |piece| json!({"type": "response.function_call_arguments.delta", "delta": piece});
                let done = json!({
                    "type": "response.function_call_arguments.done", "name": call.name, "arguments": arguments,
                });
                pieces(&arguments).into_iter().map(delta).chain([done]).collect()
            }
        }
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// The whole answer.
struct Reply {
    frame: Value,
    items: Vec<Item>,
    input_tokens: u64,
    output_tokens: u64,
}

impl Reply {
    fn is_cut(&self) -> bool {
        self.items.iter().any(|item| match item {
            Item::Message { written, .. } => written.end == End::Length,
            Item::Call { .. } => false,
        })
    }

    fn finished(&self) -> Value {
        let mut response = self.frame.clone();
        if self.is_cut() {
            response["status"] = "incomplete".into();
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            response["status"] = "completed".into();
            response["completed_at"] = now_unix().into();
        }
        response["output"] = self.items.iter().map(|item| item.value(Stage::Done)).collect();
        response["usage"] = json!({
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input_tokens + self.output_tokens,
        });
        response
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![
            json!({"type": "response.created", "response": self.frame}),
            json!({"type": "response.in_progress", "response": self.frame}),
        ];
        for (index, item) in self.items.iter().enumerate() {
            let mark = |kind: &str, stage| json!({"type": kind, "output_index": index, "item": item.value(stage)});
            events.push(mark("response.output_item.added", Stage::Begun));
            for mut event in item.progress() {
                event["item_id"] = item.id().into();
                event["output_index"] = index.into();
                events.push(event);
            }
            events.push(mark("response.output_item.done", Stage::Done));
        }
        let end = if self.is_cut() { "response.incomplete" } else { "response.completed" };
        events.push(json!({"type": end, "response": self.finished()}));
        for (number, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = number.into();
        }
        events.iter().map(stream::named).collect()
    }
}
