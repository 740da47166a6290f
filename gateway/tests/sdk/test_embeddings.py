"""Embeddings through the official SDK, which asks for base64 unless told otherwise."""

import math

import openai
import pytest

MODEL = "all-minilm-l6-v2"
TEXTS = ["The cat sat on the mat.", "A kitten was sitting on a rug.", "Interest rates rose by half a point."]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_both_encodings_give_the_same_unit_vectors(client):
    packed = client.embeddings.create(model=MODEL, input=TEXTS)
    floats = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1, 2]
    for one, other in zip(packed.data, floats.data, strict=True):
        assert len(one.embedding) == 384
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5)
    cats, kittens, rates = (item.embedding for item in floats.data)
    assert cosine(cats, kittens) > 0.5 > 0.3 > cosine(cats, rates)
    # Word pieces with the two marks around them: 7 + 8 + 8 words and stops, and 3 x 2.
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 29


def test_one_text_is_as_a_list_of_one_and_its_size_may_be_named(client):
    one = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=384)
    many = client.embeddings.create(model=MODEL, input=TEXTS)
    assert one.data[0].embedding == pytest.approx(many.data[0].embedding, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"dimensions": 128}, "dimensions", "unsupported_parameter"),
        ({"input": [101, 7592, 102]}, "input", "unsupported_parameter"),
        ({"input": [[101, 102]]}, "input", "unsupported_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": ["short", "word " * 300]}, "input[1]", "context_length_exceeded"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(client, fields, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**{"model": MODEL, "input": TEXTS} | fields)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_another_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="a")


def test_many_texts_keep_their_order(client):
    texts = [f"This is sentence number {number}." for number in range(300)]
    data = client.embeddings.create(model=MODEL, input=texts).data
    for index in (0, 16, 17, 255, 256, 299):
        alone = client.embeddings.create(model=MODEL, input=texts[index]).data[0].embedding
        assert cosine(data[index].embedding, alone) > 0.9999
