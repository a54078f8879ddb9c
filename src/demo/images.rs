//! `POST /v1/images/generations`, `/v1/images/edits`, `/v1/images/variations`.
//!
//! <https://platform.openai.com/docs/api-reference/images>

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fields::Fields;
use super::picture::{Size, png};
use super::refusal::Refusal;
use super::stream;
use super::upload::Upload;
use super::writing::{now_unix, tokens};

/// One token of output for every square of so many pixels.
const PIXELS_PER_TOKEN: u64 = 32 * 32;

pub(super) async fn generate(fields: Fields) -> Result<Response, Refusal> {
    let prompt = fields.required_text("prompt")?;
    Order { prompt, model: "gpt-image-1", event: "image_generation", fields: &fields }.fill()
}

/// Takes a form with `image` files, or JSON with `images`.
pub(super) async fn edit(request: Request) -> Result<Response, Refusal> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let fields = if media_type.to_ascii_lowercase().starts_with("application/json") {
        let fields = Fields::from_request(request, &()).await?;
        fields.required_list("images")?;
        fields
    } else {
        let upload = Upload::from_request(request, &()).await?;
        upload.file("image")?;
        upload.fields
    };
    let prompt = fields.required_text("prompt")?;
    Order { prompt, model: "gpt-image-1", event: "image_edit", fields: &fields }.fill()
}

pub(super) async fn vary(upload: Upload) -> Result<Response, Refusal> {
    let image = upload.file("image")?;
    let prompt = format!("{} of {} bytes", image.name, image.size_bytes);
    Order { prompt: &prompt, model: "dall-e-2", event: "image_variation", fields: &upload.fields }.fill()
}

/// What is to be drawn.
struct Order<'a> {
    prompt: &'a str,
    /// The model when the request names none.
    model: &'static str,
    /// What the events of a stream are named after.
    event: &'static str,
    fields: &'a Fields,
}

impl Order<'_> {
    fn fill(&self) -> Result<Response, Refusal> {
        let n = self.fields.count("n", 1..=10)?.unwrap_or(1);
        let size = self.size()?;
        self.fields.choice("output_format", &[("png", ())])?;
        let is_gpt_image = self.fields.text("model")?.unwrap_or(self.model).contains("gpt-image");
        if self.fields.flag("stream")? == Some(true) {
            return self.stream(size);
        }
        let formats = [("b64_json", true), ("url", false)];
        let in_base64 = self.fields.choice("response_format", &formats)?.unwrap_or(is_gpt_image);
        let mut data = Vec::new();
        for nth in 0..n {
            let image = self.draw(nth, size)?;
            data.push(if in_base64 {
                json!({"b64_json": image})
            } else {
                json!({"url": format!("data:image/png;base64,{image}")})
            });
        }
        let mut answer = json!({"created": now_unix(), "data": data, "usage": self.usage(n, size)});
        if is_gpt_image {
            answer["size"] = self.size_name(size).into();
            answer["quality"] = "low".into();
            answer["background"] = "opaque".into();
            answer["output_format"] = "png".into();
        }
        Ok(Json(answer).into_response())
    }

    fn size(&self) -> Result<Size, Refusal> {
        let text = match self.fields.text("size")? {
            None | Some("auto") => "1024x1024",
            Some(text) => text,
        };
        let max = Size::SIDE_MAX;
        Size::parse(text).ok_or_else(|| Refusal::value("size", format!("'auto' or WIDTHxHEIGHT, 16 to {max} each.")))
    }

    fn size_name(&self, size: Size) -> String {
        format!("{}x{}", size.width, size.height)
    }

    /// The `nth` picture (from 0) in base64.
    fn draw(&self, nth: u64, size: Size) -> Result<String, Refusal> {
        let file = png(&format!("{nth} {}", self.prompt), size);
        file.map(|bytes| STANDARD.encode(bytes)).map_err(|error| Refusal::Body(error.to_string()))
    }

    fn usage(&self, n: u64, size: Size) -> Value {
        let read = tokens(self.prompt);
        let made = n * (u64::from(size.width) * u64::from(size.height)).div_ceil(PIXELS_PER_TOKEN);
        json!({
            "input_tokens": read, "output_tokens": made, "total_tokens": read + made,
            "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
            "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        })
    }

    fn stream(&self, size: Size) -> Result<Response, Refusal> {
        let partial_images = self.fields.count("partial_images", 0..=3)?.unwrap_or(0);
        let event = |kind: &str, image: String| {
            json!({
                "type": format!("{}.{kind}", self.event), "b64_json": image, "created_at": now_unix(),
                "size": self.size_name(size), "quality": "low", "background": "opaque", "output_format": "png",
            })
        };
        let mut events = Vec::new();
        for index in 0..partial_images {
            let mut partial = event("partial_image", self.draw(0, size)?);
            partial["partial_image_index"] = index.into();
            events.push(partial);
        }
        let mut last = event("completed", self.draw(0, size)?);
        last["usage"] = self.usage(1, size);
        events.push(last);
        Ok(stream::respond(events.iter().map(stream::named).collect()))
    }
}
