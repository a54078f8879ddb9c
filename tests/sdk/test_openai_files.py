"""/v1/files by the official SDK. Forge keeps files itself, so the demo provider alone has none."""

import hashlib
import io

import openai
import pytest

from conftest import openai_client

pytestmark = pytest.mark.usefixtures("gateway")


def upload(oai, content=b'{"a": 1}\n', name="input.jsonl", purpose="user_data", **more):
    return oai.files.create(file=(name, io.BytesIO(content)), purpose=purpose, **more)


def test_upload_retrieve_content_delete(oai):
    content = bytes(range(256)) * 5000
    file = upload(oai, content, name="naïve name.bin")
    assert (file.object, file.bytes, file.filename, file.purpose) == (
        "file",
        len(content),
        "naïve name.bin",
        "user_data",
    )
    assert file.status == "processed" and file.expires_at is None
    assert oai.files.retrieve(file.id) == file
    assert oai.files.content(file.id).read() == content
    with oai.files.with_streaming_response.content(file.id) as response:
        digest = hashlib.sha256()
        for chunk in response.iter_bytes():
            digest.update(chunk)
        assert digest.hexdigest() == hashlib.sha256(content).hexdigest()
    deleted = oai.files.delete(file.id)
    assert deleted.deleted and deleted.id == file.id
    with pytest.raises(openai.NotFoundError):
        oai.files.retrieve(file.id)


def test_list_pages_by_themselves(oai):
    ids = [upload(oai, purpose="evals").id for _ in range(5)]
    found = [file.id for file in oai.files.list(purpose="evals", limit=2)]
    assert found == ids[::-1]
    assert [file.id for file in oai.files.list(purpose="evals", order="asc", limit=3)] == ids
    page = oai.files.list(purpose="evals", limit=2, after=ids[3])
    assert [file.id for file in page.data] == [ids[2], ids[1]] and page.has_more
    for file_id in ids:
        oai.files.delete(file_id)
    assert list(oai.files.list(purpose="evals")) == []


def test_expiry(oai):
    file = upload(oai, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    batch = upload(oai, purpose="batch")
    assert batch.expires_at == batch.created_at + 30 * 24 * 3600
    oai.files.delete(file.id), oai.files.delete(batch.id)


def test_paths_and_bytes_are_taken(oai, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    by_path = oai.files.create(file=path, purpose="assistants")
    assert (by_path.filename, by_path.bytes) == ("notes.txt", 5)
    by_bytes = oai.files.create(file=b"hello", purpose="assistants")
    assert oai.files.content(by_bytes.id).text == "hello"
    oai.files.delete(by_path.id), oai.files.delete(by_bytes.id)


def test_refusals(oai, server):
    with pytest.raises(openai.BadRequestError) as refused:
        upload(oai, purpose="spying")
    assert refused.value.param == "purpose"
    file = upload(oai)
    with openai_client(server, server.limited_key) as other:
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
        assert file.id not in [seen.id for seen in other.files.list()]
    with openai_client(server, "sk-unknown") as nobody:
        with pytest.raises(openai.AuthenticationError):
            upload(nobody)
    oai.files.delete(file.id)


@pytest.mark.anyio
async def test_async_client(async_oai):
    file = await async_oai.files.create(file=("a.txt", b"hello"), purpose="user_data")
    assert (await async_oai.files.content(file.id)).content == b"hello"
    listed = [seen.id async for seen in async_oai.files.list(limit=1)]
    assert file.id in listed
    await async_oai.files.delete(file.id)
