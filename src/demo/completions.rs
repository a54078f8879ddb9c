//! `POST /v1/completions`. <https://platform.openai.com/docs/api-reference/completions/create>

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::fields::Fields;
use super::input::inputs;
use super::refusal::Refusal;
use super::writing::{End, Limits, Written, id, introduction, now_unix, pieces, tokens};
use super::{chat, stream};

/// `max_tokens` when the request does not say, as the reference has it.
const TOKENS_MAX: u64 = 16;

pub(super) async fn create(fields: Fields) -> Result<Response, Refusal> {
    let model = fields.required_text("model")?;
    let prompts = inputs(&fields, "prompt")?;
    let n = fields.count("n", 1..=128)?.unwrap_or(1);
    fields.number("temperature", 0.0..=2.0)?;
    let tokens_max = fields.count("max_tokens", 0..=u64::MAX)?.unwrap_or(TOKENS_MAX);
    let limits = Limits { tokens_max: Some(tokens_max), stops: fields.texts("stop")? };
    let with_prompt = fields.flag("echo")? == Some(true);

    let mut choices = Vec::new();
    for prompt in &prompts {
        for _ in 0..n {
            let written = limits.apply(introduction(model, &prompt.text));
            let lead = if with_prompt { prompt.text.as_str() } else { "" };
            choices.push(Choice { lead: lead.to_owned(), written });
        }
    }
    let usage = chat::usage(
        prompts.iter().map(|prompt| prompt.tokens).sum(),
        choices.iter().map(|choice| tokens(&choice.written.text)).sum(),
    );
    let completion = Completion { id: id("cmpl-"), created: now_unix(), model: model.to_owned(), choices, usage };
    if fields.flag("stream")? != Some(true) {
        return Ok(Json(completion.whole()).into_response());
    }
    let mut chunks = completion.chunks();
    if stream::Usage::wished(&fields)? == stream::Usage::Last {
        chunks.iter_mut().for_each(|chunk| chunk["usage"] = Value::Null);
        let mut last = completion.object(json!([]));
        last["usage"] = completion.usage.clone();
        chunks.push(last);
    }
    Ok(stream::respond(chunks.iter().map(stream::data).chain([stream::done()]).collect()))
}

struct Choice {
    /// The prompt, when `echo` asks for it.
    lead: String,
    written: Written,
}

impl Choice {
    fn finish_reason(&self) -> &'static str {
        match self.written.end {
            End::Natural | End::Stop(_) => "stop",
            End::Length => "length",
        }
    }
}

struct Completion {
    id: String,
    created: u64,
    model: String,
    choices: Vec<Choice>,
    usage: Value,
}

impl Completion {
    fn object(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "choices": choices, "system_fingerprint": "fp_forge_demo",
        })
    }

    fn whole(&self) -> Value {
        let choices = self.choices.iter().enumerate().map(|(index, choice)| {
            let text = format!("{}{}", choice.lead, choice.written.text);
            json!({"index": index, "text": text, "logprobs": null, "finish_reason": choice.finish_reason()})
        });
        let mut whole = self.object(choices.collect());
        whole["usage"] = self.usage.clone();
        whole
    }

    fn chunks(&self) -> Vec<Value> {
        let mut chunks = Vec::new();
        for (index, choice) in self.choices.iter().enumerate() {
            let chunk = |text: &str, finish: Value| {
                self.object(json!([{"index": index, "text": text, "logprobs": null, "finish_reason": finish}]))
            };
            let texts = pieces(&choice.lead).into_iter().chain(pieces(&choice.written.text));
            chunks.extend(texts.map(|piece| chunk(piece, Value::Null)));
            chunks.push(chunk("", choice.finish_reason().into()));
        }
        chunks
    }
}
