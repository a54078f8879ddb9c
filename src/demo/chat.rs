//! `POST /v1/chat/completions`. <https://platform.openai.com/docs/api-reference/chat/create>

use axum::Json;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::stream::{self, Usage};
use super::tools::{Call, Choice, Tool, Toolbox};
use super::turn::{Answer, Content, Format, Prompt, Turn};
use super::writing::{End, Limits, id, now_unix, pieces};

pub(super) async fn create(fields: Fields) -> Result<Response, Refusal> {
    let turn = read(&fields)?;
    let n = fields.count("n", 1..=128)?.unwrap_or(1);
    let completion = Completion {
        id: id("chatcmpl-"),
        created: now_unix(),
        answers: (0..n).map(|nth| turn.answer(nth)).collect(),
        prompt_tokens: turn.prompt.tokens,
        model: turn.model,
    };
    if fields.flag("stream")? != Some(true) {
        return Ok(Json(completion.whole()).into_response());
    }
    Ok(stream::respond(completion.events(Usage::wished(&fields)?)))
}

fn read(fields: &Fields) -> Result<Turn, Refusal> {
    let model = fields.required_text("model")?.to_owned();
    let mut prompt = prompt(fields)?;
    prompt.count(fields.value("tools"));
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    let tokens_max = match fields.count("max_completion_tokens", 1..=u64::MAX)? {
        Some(tokens) => Some(tokens),
        None => fields.count("max_tokens", 1..=u64::MAX)?,
    };
    let limits = Limits { tokens_max, stops: fields.texts("stop")? };
    Ok(Turn { model, prompt, tools: toolbox(fields)?, format: format(fields)?, limits })
}

fn prompt(fields: &Fields) -> Result<Prompt, Refusal> {
    const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];
    let mut prompt = Prompt::default();
    for (index, message) in fields.required_list("messages")?.iter().enumerate() {
        let place = format!("messages[{index}]");
        if !message.is_object() {
            return Err(Refusal::wrong_type(&place, "an object"));
        }
        let role = message["role"].as_str().ok_or_else(|| Refusal::missing(&format!("{place}.role")))?;
        if !ROLES.contains(&role) {
            return Err(Refusal::value(
                &format!("{place}.role"),
                format!("supported values are: {}.", ROLES.join(", ")),
            ));
        }
        if message["content"].is_null() && role != "assistant" {
            return Err(Refusal::missing(&format!("{place}.content")));
        }
        prompt.hear(role, &Content::read(&message["content"], &format!("{place}.content"))?);
        prompt.count(message.get("tool_calls"));
    }
    Ok(prompt)
}

fn toolbox(fields: &Fields) -> Result<Toolbox, Refusal> {
    let mut tools = Vec::new();
    for (index, tool) in fields.list("tools")?.into_iter().flatten().enumerate() {
        match tool["type"].as_str() {
            Some("function") => {
                tools.push(Tool::read(&tool["function"], "parameters", &format!("tools[{index}].function"))?);
            }
            Some(_) => {}
            None => return Err(Refusal::missing(&format!("tools[{index}].type"))),
        }
    }
    let choice = match fields.value("tool_choice") {
        None => Choice::Auto,
        Some(Value::String(mode)) => mode_of(mode)?,
        Some(choice) => match choice["function"]["name"].as_str() {
            Some(name) => Choice::Named(name.to_owned()),
            None => mode_of(choice["allowed_tools"]["mode"].as_str().unwrap_or_default())?,
        },
    };
    Toolbox { tools, choice, parallel: fields.flag("parallel_tool_calls")? != Some(false) }.checked()
}

/// OpenAI's `tool_choice` as a word, in chat and in responses.
pub(super) fn mode_of(mode: &str) -> Result<Choice, Refusal> {
    match mode {
        "auto" => Ok(Choice::Auto),
        "none" => Ok(Choice::Never),
        "required" => Ok(Choice::Required),
        _ => Err(Refusal::value("tool_choice", "supported are none, auto, required and a function.")),
    }
}

fn format(fields: &Fields) -> Result<Format, Refusal> {
    let Some(format) = fields.object("response_format")? else { return Ok(Format::Text) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Json),
        Some("json_schema") => match format.get("json_schema").map(|format| &format["schema"]) {
            Some(schema @ Value::Object(_)) => Ok(Format::Schema(schema.clone())),
            Some(_) | None => Err(Refusal::missing("response_format.json_schema.schema")),
        },
        Some(_) => Err(Refusal::value("response_format.type", "supported are text, json_object and json_schema.")),
        None => Err(Refusal::missing("response_format.type")),
    }
}

struct Completion {
    id: String,
    created: u64,
    model: String,
    prompt_tokens: u64,
    answers: Vec<Answer>,
}

impl Completion {
    fn whole(&self) -> Value {
        let choices: Vec<Value> =
            self.answers.iter().enumerate().map(|(index, answer)| choice(index, answer)).collect();
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": choices, "usage": self.usage(), "service_tier": "default", "system_fingerprint": "fp_forge_demo",
        })
    }

    fn usage(&self) -> Value {
        usage(self.prompt_tokens, self.answers.iter().map(Answer::tokens).sum())
    }

    fn events(&self, usage: Usage) -> Vec<Event> {
        let mut chunks = Vec::new();
        for (index, answer) in self.answers.iter().enumerate() {
            let choice = |delta: Value, finish: Value| json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]);
            chunks.extend(deltas(answer).into_iter().map(|delta| choice(delta, Value::Null)));
            chunks.push(choice(json!({}), finish_reason(answer).into()));
        }
        let mut chunks: Vec<Value> = chunks.into_iter().map(|choices| self.chunk(choices)).collect();
        if usage == Usage::Last {
            chunks.iter_mut().for_each(|chunk| chunk["usage"] = Value::Null);
            let mut last = self.chunk(json!([]));
            last["usage"] = self.usage();
            chunks.push(last);
        }
        chunks.iter().map(stream::data).chain([stream::done()]).collect()
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices, "service_tier": "default", "system_fingerprint": "fp_forge_demo",
        })
    }
}

/// OpenAI's `CompletionUsage`.
pub(super) fn usage(prompt_tokens: u64, completion_tokens: u64) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

fn choice(index: usize, answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    match answer {
        Answer::Text(written) => message["content"] = written.text.as_str().into(),
        Answer::Calls(calls) => message["tool_calls"] = calls.iter().map(tool_call).collect(),
    }
    json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)})
}

fn tool_call(call: &Call) -> Value {
    json!({
        "id": id("call_"), "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer {
        Answer::Text(written) => match written.end {
            End::Natural | End::Stop(_) => "stop",
            End::Length => "length",
        },
        Answer::Calls(_) => "tool_calls",
    }
}

/// What a stream says of one choice before it finishes; the first names the role.
fn deltas(answer: &Answer) -> Vec<Value> {
    match answer {
        Answer::Text(written) => [json!({"role": "assistant", "content": "", "refusal": null})]
            .into_iter()
            .chain(pieces(&written.text).into_iter().map(|piece| json!({"content": piece})))
            .collect(),
        Answer::Calls(calls) => [json!({"role": "assistant", "content": null})]
            .into_iter()
            .chain(calls.iter().enumerate().flat_map(|(index, call)| call_deltas(index, call)))
            .collect(),
    }
}

fn call_deltas(index: usize, call: &Call) -> Vec<Value> {
    let mut head = tool_call(call);
    head["index"] = index.into();
    head["function"]["arguments"] = "".into();
    let arguments = call.arguments.to_string();
    let parts = pieces(&arguments).into_iter().map(|part| json!({"index": index, "function": {"arguments": part}}));
    [head].into_iter().chain(parts).map(|part| json!({"tool_calls": [part]})).collect()
}
