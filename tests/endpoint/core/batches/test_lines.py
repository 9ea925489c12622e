"""Files of many requests: what each format means, and what is refused with the line's number."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.batches import lines
from endpoint.core.batches.lines import FileRefused, ModelFacts, read_file
from endpoint.core.generation import GenerationRequest

PROMPTS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="<-"), min_size=1, max_size=30
).filter(lambda text: text.strip() and not text.isspace())


def read(suffix, text, models=("sd",), **options):
    return read_file(suffix, text.encode(), models, **options)


def requests(suffix, text, **options):
    return [
        {
            name: value
            for name, value in picture.request.to_dict().items()
            if value not in ("", "png", "sd") and name != "seed"
        }
        for line in read(suffix, text, **options)
        for picture in line.pictures
    ]


def refused(suffix, content, models=("sd",)):
    content = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(FileRefused) as error:
        read_file(suffix, content, models)
    return str(error.value).split("\n")


# --- Text -----------------------------------------------------------------------------------------


def test_each_line_of_a_text_is_a_prompt_and_blank_ones_are_skipped():
    text = "\ufeffa red apple\r\n\r\n  a blue boat  \na cat -- asleep\n"

    assert requests(".txt", text) == [
        {"prompt": "a red apple"}, {"prompt": "a blue boat"}, {"prompt": "a cat -- asleep"},
    ]  # fmt: skip
    assert [line.custom_id for line in read(".txt", text)] == ["0001", "0003", "0004"]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("--prompt a cat", {"prompt": "a cat"}),
        (
            '--prompt "a cat" --negative_prompt dog, blurry --steps 7 --cfg_scale 4.5',
            {"prompt": "a cat", "negative_prompt": "dog, blurry", "steps": 7,
             "guidance_scale": 4.5},
        ),
        (
            "--width 512 --height 768 --prompt a cat --sampler_name 'DPM++ 2M' --styles x",
            {"prompt": "a cat", "width": 512, "height": 768},
        ),
        ("--prompt a <lora:ink:0.5> cat", {"prompt": "a cat", "lora": "ink:0.5"}),
        ("--prompt a cat --tiling false --restore_faces true", {"prompt": "a cat"}),
        ("--prompt a cat --sd_model unknown.safetensors", {"prompt": "a cat"}),
        ("--prompt a cat --sd_model xl", {"prompt": "a cat", "model": "xl"}),
    ],
)  # fmt: skip
def test_a_line_of_options_is_read_as_in_the_web_ui(line, request_):
    assert requests(".txt", line, models=("sd", "xl")) == [request_]


def test_the_web_uis_batches_are_pictures_with_consecutive_seeds():
    (line,) = read(".txt", "--prompt a --seed 4294967295 --n_iter 2 --batch_size 2")

    assert [picture.request.seed for picture in line.pictures] == [4294967295, 0, 1, 2]
    assert [picture.file for picture in line.pictures] == [
        "0001-1.png", "0001-2.png", "0001-3.png", "0001-4.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a cat --seed 5", "--seed: comes after the prompt; begin the line with --prompt"),
        ("--prompt", "--prompt: has no value"),
        ("--prompt a --steps", "--steps: has no value"),
        ("--prompt a --prompt b", "--prompt: is there twice"),
        ("--nothing 5 --prompt a", "--nothing: is not an option"),
        ("--steps 5", "--prompt: is missing"),
        ("--prompt a --steps 500", "--steps: must be a whole number from 1 to 100"),
        ("--prompt a --cfg_scale x", "--cfg_scale: must be a number"),
        ("--prompt a --tiling true", "--tiling: is not supported"),
        ("--prompt a --subseed_strength 0.5", "--subseed_strength: variations"),
        ("--prompt a --n_iter 50 --batch_size 50", "--n_iter: must be"),
        ("--prompt it's", "no closing quotation"),
        ("--prompt <lora:a:99>", "--prompt: <lora:a:99> in it must have a number"),
        ("x" * 1_001, "prompt: must be at most 1,000"),
    ],
)
def test_a_wrong_line_of_text_is_refused_with_its_number(line, reason):
    (fault,) = refused(".txt", f"a cat\n\n{line}\na dog\n")

    assert fault.startswith(f"line 3: {reason}")


# --- Tables ---------------------------------------------------------------------------------------


def test_a_table_has_the_names_of_the_contract_of_openai_or_of_the_web_ui():
    text = (
        "id,prompt,cfg_scale,seed,size,n,\n"
        'first,"a cat, asleep",4,7,512x512,\n'
        '\n"",a dog,,,,2,\n'
        'third,"two\nlines",,-1,,\n'
    )

    first, second, third = read(".csv", text)

    assert first.pictures[0].request == GenerationRequest(
        prompt="a cat, asleep",
        guidance_scale=4,
        seed=7,
        width=512,
        height=512,
        model="sd",
        format="png",
    )
    assert (second.custom_id, len(second.pictures)) == ("0004", 2)
    assert (third.custom_id, third.number) == ("third", 5)
    assert third.pictures[0].request.prompt == "two lines"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("id,text\n1,2\n", ["line 1: the first row must have the names of the fields"]),
        ("prompt,prompt\n1,2\n", ["line 1: the column 'prompt' is there twice"]),
        ("prompt,a,\n1,2\n", ["line 2: a: is not a field"]),
        ('prompt,steps\n"a\nb",5\nc,400\n', ["line 4: steps: must be"]),
        ("id,prompt\n1,a\n2,b\n1,c\n", ["line 4: custom_id: is that of line 2, too"]),
        ("id,prompt\n1,a,b\n", ["line 2: has more cells than the header"]),
        ("id,prompt\n1,\n", ["line 2: prompt: is missing"]),
        ('prompt\n"a"b\n', ["line 2: the row cannot be read"]),
        ('prompt\n"a', ["line 2: the row cannot be read"]),
        ("prompt,seed,steps\na,1,0\nb,x,1\n", ["line 2: steps", "line 3: seed"]),
        ("guidance_scale,cfg_scale,prompt\n1,2,a", ["line 2: cfg_scale: is the same as guidance"]),
    ],
)
def test_a_wrong_table_is_refused_with_the_lines_where_its_rows_begin(text, faults):
    got = refused(".csv", text)

    assert len(got) == len(faults)
    assert all(one.startswith(start) for one, start in zip(got, faults, strict=True))


# --- JSON -----------------------------------------------------------------------------------------


def openai_line(identifier="a", **body):
    return json.dumps(
        {"custom_id": identifier, "method": "POST", "url": lines.URL, "body": body}
    )  # fmt: skip


def test_openais_lines_and_flat_ones_mean_the_same():
    fields = {"prompt": "a cat", "size": "512x512", "seed": 5, "output_format": "webp"}

    (openai,) = read(".jsonl", openai_line("a", **fields, model="gpt-image-1"))
    (flat,) = read(".jsonl", json.dumps({**fields, "custom_id": "a", "response_format": "url"}))

    assert openai == flat
    assert flat.pictures[0].file == "a.webp"


def test_a_quality_takes_its_share_of_the_models_own_steps():
    text = openai_line(prompt="a", quality="high")

    assert requests(".jsonl", text, facts={"sd": ModelFacts(steps=20)}) == [
        {"prompt": "a", "steps": 30}
    ]
    assert requests(".jsonl", text) == [{"prompt": "a"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("5", "is not a JSON object"),
        ("{}", "prompt: is missing"),
        ('{"prompt": 5}', "prompt: must be text"),
        ('{"prompt": "a", "more": 1}', "more: is not a field"),
        ('{"prompt": "a", "custom_id": 5}', "custom_id: must be text"),
        ('{"prompt": "a", "custom_id": ""}', "custom_id: must have from 1 to 512"),
        ('{"prompt": "a", "custom_id": "a\\u0000"}', "custom_id: must be text"),
        ('{"prompt": "a", "custom_id": "\\ud800"}', "custom_id: must be text"),
        ('{"prompt": "\\ud800"}', "prompt: must not contain control characters"),
        ('{"prompt": "a", "stream": true}', "stream: is not supported"),
        ('{"prompt": "a", "n": 101}', "n: must be a whole number from 1 to 100"),
        ('{"custom_id": "a", "body": 5}', "body: must be an object"),
        ('{"body": {"prompt": "a"}}', "custom_id: is missing"),
        ('{"custom_id": "a", "method": "GET", "body": {}}', "method: must be POST"),
        ('{"custom_id": "a", "url": "/v1/responses", "body": {}}', "url: must be /v1/images/gen"),
        ('{"custom_id": "a", "extra": 5, "body": {}}', "extra: is not a field"),
    ],
)
def test_a_wrong_line_of_json_is_refused_with_its_number(line, reason):
    (fault,) = refused(".jsonl", f"\n{line}\n")

    assert fault.startswith(f"line 2: {reason}")


# --- Every format ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", lines.SUFFIXES)
def test_a_file_that_is_empty_or_no_text_is_refused(suffix):
    assert refused(suffix, "\n \n")[0] in {
        "the file has no prompts",
        "line 1: the first row must have the names of the fields, one of them prompt",
    }
    assert refused(suffix, b"prompt\na\nb\xff") == [
        "line 3: is not UTF-8 text; save the file as UTF-8"
    ]


def test_another_ending_is_refused():
    assert refused(".docx", "a") == ["the file's name must end in .txt, .csv, .jsonl"]


def test_a_file_of_too_many_lines_or_pictures_is_refused():
    many = "a\n" * (lines.MOST_LINES + 1)

    assert refused(".txt", many) == [f"line {lines.MOST_LINES + 1}: a file has at most 50,000"
                                     " lines"]  # fmt: skip
    assert refused(".txt", "--prompt a --n_iter 100\n" * 501) == [
        "the file asks for more than 50,000 pictures"
    ]


def test_not_all_lines_of_a_wrong_file_are_reported():
    assert len(refused(".txt", "--x\n" * 1_000)) == 20


def test_names_of_files_differ_without_their_case_and_are_safe():
    identifiers = ["a", "A", "../a", "results", "b-1", "b", "x" * 100, "é", "con/../..", "a" * 63]
    rows = [{"prompt": "p", "id": one, "n": 2 if one == "b" else 1} for one in identifiers]

    names = [
        picture.name
        for line in read(".jsonl", "\n".join(map(json.dumps, rows)))
        for picture in line.pictures
    ]

    assert len({name.casefold() for name in names}) == len(names) == 11
    assert all(lines.Name("").clean(name) for name in names)
    assert names[0] == "a"
    assert "results" not in names


def test_seeds_stay_when_the_file_is_read_again_or_another_line_changes():
    before = read(".txt", "a cat\na dog\na cat")
    after = read(".txt", "a cat\na bird\na cat\na fish")

    assert before == read(".txt", "a cat\na dog\na cat")
    assert [before[0], before[2]] == [after[0], after[2]]
    assert before[0].pictures[0].request.seed != before[2].pictures[0].request.seed
    assert before[1].digest != after[1].digest


@given(st.lists(PROMPTS, min_size=1, max_size=5))
def test_a_prompt_means_the_same_in_every_format(prompts):
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows([["prompt"], *([prompt] for prompt in prompts)])
    flat = "\n".join(json.dumps({"prompt": prompt}) for prompt in prompts)

    of_table, of_json = requests(".csv", table.getvalue()), requests(".jsonl", flat)

    assert of_table == of_json == requests(".txt", "\n".join(prompts))


@given(st.sampled_from(lines.SUFFIXES), st.binary(max_size=200))
def test_any_file_is_read_or_refused(suffix, content):
    try:
        read_lines = read_file(suffix, content, ["sd"])
    except FileRefused:
        return
    assert lines.read_lines(lines.to_jsonl(read_lines)) == read_lines


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jsonl", b'{"prompt": "a", "size": "1792x1024", "model": "flux"}'),
        (".csv", b"prompt,size,model\na,1792x1024,flux"),
    ],
)
def test_a_size_of_openais_models_is_the_nearest_that_the_model_has(suffix, content):
    (line,) = read_file(suffix, content, ["sd", "flux"], {"flux": ModelFacts(step=16)})

    request = line.pictures[0].request
    assert (request.width, request.height) == (1456, 832)


def test_a_model_without_a_seed_gets_none_and_its_own_format():
    facts = {"sd": ModelFacts(format="jpeg", repeats=False)}
    content = b'{"prompt": "a", "n": 2}\n{"prompt": "b", "seed": 7, "output_format": "png"}'

    first, second = read_file(".jsonl", content, ["sd"], facts)

    assert [picture.request.to_dict().get("seed") for picture in first.pictures] == [None, None]
    assert [picture.file for picture in first.pictures] == ["0001-1.jpeg", "0001-2.jpeg"]
    # What the line names stays, to be refused by name.
    assert (second.pictures[0].request.seed, second.pictures[0].request.format) == (7, "png")
