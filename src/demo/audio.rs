//! `POST /v1/audio/speech`, `/v1/audio/transcriptions`, `/v1/audio/translations`.
//!
//! <https://platform.openai.com/docs/api-reference/audio>

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::sound::{self, Container};
use super::stream;
use super::upload::{File, Upload};
use super::writing::{pieces, tokens};

/// The longest text to speak, by the reference.
const SPOKEN_CHARS_MAX: usize = 4096;
/// A file's length in time is taken from its size at this rate: 128 kbit/s.
const BYTES_PER_SECOND: f64 = 16_000.0;
/// The bytes of audio in one event of a speech stream.
const AUDIO_EVENT_BYTES: usize = 8 * 1024;

/// A tone, the longer the more there is to say.
pub(super) async fn speak(fields: Fields) -> Result<Response, Refusal> {
    fields.required_text("model")?;
    let input = fields.required_text("input")?;
    if input.is_empty() || input.chars().count() > SPOKEN_CHARS_MAX {
        return Err(Refusal::value("input", format!("1 to {SPOKEN_CHARS_MAX} characters.")));
    }
    let voice = fields.required("voice")?;
    if !voice.is_string() && !voice["id"].is_string() {
        return Err(Refusal::wrong_type("voice", "a string or an object with 'id'"));
    }
    fields.number("speed", 0.25..=4.0)?;
    let container = fields.choice("response_format", &Container::NAMES)?.unwrap_or(Container::Mp3);
    let audio = sound::speech(container, input.chars().count());
    if fields.choice("stream_format", &[("audio", false), ("sse", true)])? != Some(true) {
        return Ok(([(CONTENT_TYPE, container.media_type())], audio).into_response());
    }
    let deltas = audio.chunks(AUDIO_EVENT_BYTES);
    let mut events: Vec<Value> =
        deltas.map(|bytes| json!({"type": "speech.audio.delta", "audio": STANDARD.encode(bytes)})).collect();
    let (read, made) = (tokens(input), (audio.len() as u64).div_ceil(1000));
    events.push(json!({
        "type": "speech.audio.done",
        "usage": {"input_tokens": read, "output_tokens": made, "total_tokens": read + made},
    }));
    Ok(stream::respond(events.iter().map(stream::data).collect()))
}

pub(super) async fn transcribe(upload: Upload) -> Result<Response, Refusal> {
    let transcript = Transcript::of(&upload, "transcribe")?;
    let format = upload.fields.choice("response_format", &Format::NAMES)?.unwrap_or(Format::Json);
    if upload.fields.flag("stream")? == Some(true) {
        return Ok(stream::respond(transcript.events().iter().map(stream::data).collect()));
    }
    Ok(transcript.render(format))
}

/// As a transcription, but never streamed and never by speaker.
pub(super) async fn translate(upload: Upload) -> Result<Response, Refusal> {
    let transcript = Transcript::of(&upload, "translate")?;
    let format = upload.fields.choice("response_format", &Format::NAMES[..5])?.unwrap_or(Format::Json);
    Ok(transcript.render(format))
}

/// The forms of a transcript.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Text,
    Srt,
    Vtt,
    Verbose,
    Diarized,
}

impl Format {
    /// The names `response_format` uses; the last is for transcriptions only.
    const NAMES: [(&str, Self); 6] = [
        ("json", Self::Json),
        ("text", Self::Text),
        ("srt", Self::Srt),
        ("vtt", Self::Vtt),
        ("verbose_json", Self::Verbose),
        ("diarized_json", Self::Diarized),
    ];
}

/// What the demo model heard.
struct Transcript {
    task: &'static str,
    text: String,
    language: String,
    seconds: f64,
}

impl Transcript {
    fn of(upload: &Upload, task: &'static str) -> Result<Self, Refusal> {
        let File { name, size_bytes, .. } = upload.file("file")?;
        let model = upload.fields.required_text("model")?;
        upload.fields.number("temperature", 0.0..=1.0)?;
        let text = format!(
            "This is Forge's built-in demo model, which answers for \"{model}\". It received the file \"{name}\" \
             of {size_bytes} bytes and cannot hear. Route the model to a real provider in routes.yaml to {task} it."
        );
        let language = upload.fields.text("language")?.unwrap_or("english").to_owned();
        Ok(Self { task, text, language, seconds: *size_bytes as f64 / BYTES_PER_SECOND })
    }

    fn render(&self, format: Format) -> Response {
        let plain = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        match format {
            Format::Text => (plain, format!("{}\n", self.text)).into_response(),
            Format::Srt => (plain, self.cue("1\n", ',')).into_response(),
            Format::Vtt => ([(CONTENT_TYPE, "text/vtt; charset=utf-8")], self.cue("WEBVTT\n\n", '.')).into_response(),
            Format::Verbose => Json(self.verbose()).into_response(),
            Format::Diarized => Json(self.diarized()).into_response(),
            Format::Json => Json(json!({"text": self.text, "usage": self.usage()})).into_response(),
        }
    }

    /// One subtitle; SRT and WebVTT differ in the head and in the mark before milliseconds.
    fn cue(&self, head: &str, mark: char) -> String {
        format!("{head}{} --> {}\n{}\n\n", timestamp(0.0, mark), timestamp(self.seconds, mark), self.text)
    }

    fn verbose(&self) -> Value {
        json!({
            "task": self.task, "language": self.language, "duration": self.seconds, "text": self.text,
            "segments": [{
                "id": 0, "seek": 0, "start": 0.0, "end": self.seconds, "text": self.text, "tokens": [],
                "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0,
            }],
            "words": self.words(),
            "usage": {"type": "duration", "seconds": self.seconds.ceil()},
        })
    }

    /// Every word, evenly spread over the time.
    fn words(&self) -> Vec<Value> {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let each = self.seconds / words.len().max(1) as f64;
        let word = |(index, word): (usize, &str)| json!({"word": word, "start": each * index as f64, "end": each * (index + 1) as f64});
        words.into_iter().enumerate().map(word).collect()
    }

    fn diarized(&self) -> Value {
        json!({
            "task": self.task, "duration": self.seconds, "text": self.text,
            "segments": [{
                "type": "transcript.text.segment", "id": "seg_0", "start": 0.0, "end": self.seconds,
                "text": self.text, "speaker": "A",
            }],
            "usage": {"type": "duration", "seconds": self.seconds.ceil()},
        })
    }

    fn usage(&self) -> Value {
        let (heard, written) = (self.seconds.ceil() as u64 * 10, tokens(&self.text));
        json!({
            "type": "tokens", "input_tokens": heard, "output_tokens": written, "total_tokens": heard + written,
            "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        })
    }

    fn events(&self) -> Vec<Value> {
        let deltas =
            pieces(&self.text).into_iter().map(|piece| json!({"type": "transcript.text.delta", "delta": piece}));
        deltas.chain([json!({"type": "transcript.text.done", "text": self.text, "usage": self.usage()})]).collect()
    }
}

/// `hh:mm:ss,mmm`
fn timestamp(seconds: f64, mark: char) -> String {
    let ms = (seconds * 1000.0).round() as u64;
    format!("{:02}:{:02}:{:02}{mark}{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}
