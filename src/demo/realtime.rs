//! `GET /v1/realtime`: a text conversation over WebSocket.
//!
//! Events: <https://platform.openai.com/docs/api-reference/realtime-server-events>. The demo model hears no
//! audio: what is put into the input buffer is counted in bytes and becomes a user's item on commit.

use std::time::Duration;

use axum::extract::Query;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::turn::{Content, Prompt};
use super::writing::{id, introduction, pieces, tokens};

/// The pause before every piece of text.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Deserialize)]
pub(super) struct Wish {
    model: Option<String>,
}

pub(super) async fn connect(
    Query(wish): Query<Wish>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|_| Refusal::NoUpgrade)?;
    let model = wish.model.filter(|model| !model.is_empty()).ok_or_else(|| Refusal::missing("model"))?;
    Ok(upgrade.protocols(["realtime"]).on_upgrade(|socket| async move {
        let mut session = Session::new(socket, model);
        if let Err(error) = session.run().await {
            log::debug!("a realtime session ended: {error}");
        }
    }))
}

struct Session {
    socket: WebSocket,
    conversation_id: String,
    settings: Value,
    prompt: Prompt,
    last_item_id: Option<String>,
    buffered_bytes: u64,
}

impl Session {
    fn new(socket: WebSocket, model: String) -> Self {
        let settings = json!({
            "type": "realtime", "object": "realtime.session", "id": id("sess_"), "model": model,
            "output_modalities": ["text"], "instructions": "", "tools": [], "tool_choice": "auto",
            "max_output_tokens": "inf",
        });
        Self {
            socket,
            conversation_id: id("conv_"),
            settings,
            prompt: Prompt::default(),
            last_item_id: None,
            buffered_bytes: 0,
        }
    }

    /// Answers events until the client leaves.
    async fn run(&mut self) -> Result<(), axum::Error> {
        self.send(json!({"type": "session.created", "session": self.settings})).await?;
        while let Some(message) = self.socket.recv().await {
            match message? {
                Message::Text(text) => self.take(&text).await?,
                Message::Binary(_) => self.refuse(None, "Events are JSON in text messages.").await?,
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => break,
            }
        }
        Ok(())
    }

    async fn take(&mut self, text: &str) -> Result<(), axum::Error> {
        let event: Value = match serde_json::from_str(text) {
            Ok(event @ Value::Object(_)) => event,
            Ok(_) | Err(_) => return self.refuse(None, "The event is not a JSON object.").await,
        };
        match event["type"].as_str().unwrap_or_default() {
            "session.update" => self.update(&event).await,
            "conversation.item.create" => self.add_item(&event).await,
            "response.create" => self.respond().await,
            "response.cancel" => self.refuse(Some(&event), "There is no response to cancel.").await,
            "input_audio_buffer.append" => self.append(&event).await,
            "input_audio_buffer.clear" => {
                self.buffered_bytes = 0;
                self.send(json!({"type": "input_audio_buffer.cleared"})).await
            }
            "input_audio_buffer.commit" => self.commit(&event).await,
            _ => self.refuse(Some(&event), "The demo provider does not know this event type.").await,
        }
    }

    async fn update(&mut self, event: &Value) -> Result<(), axum::Error> {
        let Some(changes) = event["session"].as_object() else {
            return self.refuse(Some(event), "Missing required parameter: 'session'.").await;
        };
        if let Some(modalities) = changes.get("output_modalities")
            && *modalities != json!(["text"])
        {
            return self.refuse(Some(event), "The demo model answers in text only.").await;
        }
        for (name, value) in changes.iter().filter(|(name, _)| !["id", "object", "model"].contains(&name.as_str())) {
            self.settings[name] = value.clone();
        }
        self.send(json!({"type": "session.updated", "session": self.settings})).await
    }

    async fn add_item(&mut self, event: &Value) -> Result<(), axum::Error> {
        let mut item = event["item"].clone();
        if !item.is_object() || !item["type"].is_string() {
            return self.refuse(Some(event), "Missing required parameter: 'item.type'.").await;
        }
        let role = if item["type"] == "message" { item["role"].as_str().unwrap_or_default() } else { "tool" };
        let words = if item["type"] == "message" { &item["content"] } else { &item["output"] };
        match Content::read(words, "item.content") {
            Ok(content) => self.prompt.hear(role, &content),
            Err(_) => return self.refuse(Some(event), "Invalid 'item.content'.").await,
        }
        if !item["id"].is_string() {
            item["id"] = id("item_").into();
        }
        item["object"] = "realtime.item".into();
        item["status"] = "completed".into();
        self.show_item("conversation.item.added", &item).await?;
        self.show_item("conversation.item.done", &item).await?;
        self.last_item_id = item["id"].as_str().map(str::to_owned);
        Ok(())
    }

    async fn show_item(&mut self, kind: &str, item: &Value) -> Result<(), axum::Error> {
        self.send(json!({"type": kind, "previous_item_id": self.last_item_id, "item": item})).await
    }

    async fn append(&mut self, event: &Value) -> Result<(), axum::Error> {
        match event["audio"].as_str() {
            Some(audio) => {
                self.buffered_bytes += audio.len() as u64 / 4 * 3;
                Ok(())
            }
            None => self.refuse(Some(event), "Missing required parameter: 'audio'.").await,
        }
    }

    async fn commit(&mut self, event: &Value) -> Result<(), axum::Error> {
        if self.buffered_bytes == 0 {
            return self.refuse(Some(event), "The input audio buffer is empty.").await;
        }
        let heard = format!("{} bytes of audio", std::mem::take(&mut self.buffered_bytes));
        self.prompt.said.clone_from(&heard);
        let item_id = id("item_");
        self.send(json!({
            "type": "input_audio_buffer.committed", "previous_item_id": self.last_item_id, "item_id": item_id,
        }))
        .await?;
        let content = json!([{"type": "input_audio", "transcript": heard}]);
        self.add_item(&json!({"item": {"id": item_id, "type": "message", "role": "user", "content": content}})).await
    }

    async fn respond(&mut self) -> Result<(), axum::Error> {
        let model = self.settings["model"].as_str().unwrap_or_default();
        let text = introduction(model, &self.prompt.said);
        let (response_id, item_id) = (id("resp_"), id("item_"));
        let place = json!({"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0});
        let item = |status: &str, content: Value| {
            json!({
                "id": item_id, "object": "realtime.item", "type": "message", "role": "assistant", "status": status,
                "content": content,
            })
        };
        let (begun, whole) =
            (item("in_progress", json!([])), item("completed", json!([{"type": "output_text", "text": text}])));

        let response = self.response(&response_id, "in_progress", &[]);
        self.send(json!({"type": "response.created", "response": response})).await?;
        self.send(
            json!({"type": "response.output_item.added", "response_id": response_id, "output_index": 0, "item": begun}),
        )
        .await?;
        self.show_item("conversation.item.added", &begun).await?;
        self.at(&place, json!({"type": "response.content_part.added", "part": {"type": "text", "text": ""}})).await?;
        for piece in pieces(&text) {
            tokio::time::sleep(PAUSE).await;
            self.at(&place, json!({"type": "response.output_text.delta", "delta": piece})).await?;
        }
        self.at(&place, json!({"type": "response.output_text.done", "text": text})).await?;
        self.at(&place, json!({"type": "response.content_part.done", "part": {"type": "text", "text": text}})).await?;
        self.send(
            json!({"type": "response.output_item.done", "response_id": response_id, "output_index": 0, "item": whole}),
        )
        .await?;
        self.show_item("conversation.item.done", &whole).await?;
        self.last_item_id = Some(item_id.clone());
        let mut response = self.response(&response_id, "completed", &[whole]);
        response["usage"] = self.usage(&text);
        self.prompt.tokens += tokens(&text);
        self.send(json!({"type": "response.done", "response": response})).await
    }

    fn response(&self, response_id: &str, status: &str, output: &[Value]) -> Value {
        json!({
            "id": response_id, "object": "realtime.response", "status": status, "status_details": null,
            "output": output, "conversation_id": self.conversation_id, "output_modalities": ["text"],
            "max_output_tokens": "inf", "usage": null, "metadata": null,
        })
    }

    fn usage(&self, text: &str) -> Value {
        let (read, written) = (self.prompt.tokens, tokens(text));
        json!({
            "input_tokens": read, "output_tokens": written, "total_tokens": read + written,
            "input_token_details": {"text_tokens": read, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": written, "audio_tokens": 0},
        })
    }

    /// Sends `event` with the members of `place`.
    async fn at(&mut self, place: &Value, mut event: Value) -> Result<(), axum::Error> {
        for (name, value) in place.as_object().into_iter().flatten() {
            event[name] = value.clone();
        }
        self.send(event).await
    }

    async fn refuse(&mut self, cause: Option<&Value>, message: &str) -> Result<(), axum::Error> {
        let cause_id = cause.map(|cause| &cause["event_id"]);
        self.send(json!({"type": "error", "error": {
            "type": "invalid_request_error", "code": "invalid_event", "message": message, "param": null,
            "event_id": cause_id,
        }}))
        .await
    }

    async fn send(&mut self, mut event: Value) -> Result<(), axum::Error> {
        event["event_id"] = id("event_").into();
        self.socket.send(Message::text(event.to_string())).await
    }
}
