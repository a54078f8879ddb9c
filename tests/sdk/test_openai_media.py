"""Audio and images by OpenAI's SDK, with uploads of more than a megabyte."""

import base64
import io
import struct
import wave

import pytest

#: A WAV file of 2 MB: 1 MiB samples.
RECORDING = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + (1 << 21), b"WAVEfmt ", 16, 1, 1, 24000, 48000, 2, 16,
                        b"data", 1 << 21) + bytes(1 << 21)


def png_size(data: bytes):
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize(
    ("response_format", "media_type", "mark"),
    [
        ("mp3", "audio/mpeg", b"\xff\xfb"),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff\xf1"),
        ("flac", "audio/flac", b"fLaC"),
        ("wav", "audio/wav", b"RIFF"),
        ("pcm", "audio/pcm", b"\0\0"),
    ],
)
def test_speech_has_the_format_asked_for(oai, response_format, media_type, mark):
    speech = oai.audio.speech.create(
        model="tts-1", voice="alloy", input="Hello from Forge.", response_format=response_format
    )
    assert speech.response.headers["content-type"] == media_type
    assert speech.content.startswith(mark)


def test_speech_as_wav_is_a_readable_file(oai, tmp_path):
    with oai.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello from Forge.", response_format="wav"
    ) as speech:
        speech.stream_to_file(tmp_path / "speech.wav")
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.getframerate() == 24000 and file.getnframes() > 2400


@pytest.mark.parametrize("response_format", ["json", "verbose_json", "text", "srt", "vtt"])
def test_a_large_recording_arrives_whole(oai, response_format):
    transcription = oai.audio.transcriptions.create(
        model="whisper-1", file=("ঢাকা.wav", RECORDING), language="bn", response_format=response_format
    )
    text = transcription if isinstance(transcription, str) else transcription.text
    assert f"{len(RECORDING)} bytes" in text and "ঢাকা.wav" in text
    if response_format == "verbose_json":
        assert transcription.duration > 60 and transcription.segments[0].text == text


def test_a_transcription_streams(oai):
    stream = oai.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=io.BytesIO(RECORDING), response_format="json", stream=True
    )
    events = list(stream)
    text = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert events[-1].type == "transcript.text.done" and events[-1].text == text


def test_a_recording_is_translated(oai):
    translation = oai.audio.translations.create(model="whisper-1", file=("a.wav", RECORDING))
    assert f"{len(RECORDING)} bytes" in translation.text


def test_images_have_the_number_and_size_asked_for(oai):
    images = oai.images.generate(
        model="dall-e-2", prompt="Dhaka at dusk", n=2, size="256x256", response_format="b64_json"
    )
    files = [base64.b64decode(image.b64_json) for image in images.data]
    assert [png_size(file) for file in files] == [(256, 256)] * 2 and files[0] != files[1]


def test_images_come_as_urls_by_default(oai):
    image = oai.images.generate(model="dall-e-3", prompt="Dhaka", size="1024x1024").data[0]
    assert image.url


def test_an_image_without_a_model_has_the_default_one(oai):
    images = oai.images.generate(prompt="Dhaka")
    assert png_size(base64.b64decode(images.data[0].b64_json)) == (1024, 1024)
    assert images.usage.total_tokens > 0


def test_an_image_streams_its_stages(oai):
    stream = oai.images.generate(model="gpt-image-1", prompt="Dhaka", stream=True, partial_images=2)
    assert [event.type for event in stream] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]


def test_large_images_are_edited(oai):
    picture = ("photo.png", bytes(1_200_000), "image/png")
    edited = oai.images.edit(model="gpt-image-1", image=[picture, picture], mask=picture, prompt="Add a rickshaw", n=2)
    assert len(edited.data) == 2
    assert oai.images.edit(image=picture, prompt="Add a rickshaw").data


def test_images_are_varied(oai):
    varied = oai.images.create_variation(image=("a.png", bytes(1_200_000)), size="512x512", n=2)
    assert len(varied.data) == 2


@pytest.mark.anyio
async def test_the_async_client_uploads_and_downloads(async_oai):
    speech = await async_oai.audio.speech.create(model="tts-1", voice="nova", input="Salam")
    assert speech.content
    transcription = await async_oai.audio.transcriptions.create(model="whisper-1", file=("a.wav", RECORDING))
    assert f"{len(RECORDING)} bytes" in transcription.text
