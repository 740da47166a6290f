"""Writes token_ids.jsonl: texts and the token ids that llama.cpp gives them.

    python -m venv V && V/bin/pip install xllamacpp==2026.10.11549
    V/bin/python make_token_ids.py DATA_DIR smollm2=PATH.gguf qwen2=PATH.gguf > token_ids.jsonl

DATA_DIR holds the request sets named in ATTRIBUTION.md, as JSON lines with a field `prompt`.
Each line: {"text", "smollm2": {"plain": [ids], "special": [ids] only where it differs}, "qwen2": {..}}.
"plain" is llama.cpp's parse_special=false, "special" is parse_special=true.
"""

import json
import pathlib
import sys
import urllib.request

import xllamacpp

SETS = {"banking77": 30, "clinc150": 30, "gsm8k_test": 30, "instruction_induction": 40, "nl2bash": 40}

MADE = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", " \n ", "a b", "a  b", "a   b", " a", "  a", "a ", "a  ",
    "a\nb", "a\n\nb", "a \n b", "a\n  b\n    c", "tabs\t\tand  spaces \t mixed", "x\r\ny\r\n\r\nz", "trailing newline\n",
    "0", "7", "42", "2024", "1234567890", "3.14159", "1,000,000", "-273.15", "1e-9", "0x1F", "v1.2.3", "12:34:56",
    "I'm you're they've he'd we'll it's don't", "I'M YOU'RE THEY'VE", "’curly’ “quotes” – dashes — …",
    "¿Dónde está la biblioteca?", "Größe, Straße, Œuvre", "Zażółć gęślą jaźń", "Привет, мир!", "Γειά σου Κόσμε",
    "你好，世界！今天天气怎么样？", "こんにちは世界", "안녕하세요 세계", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก",
    "😀", "😀😃😄", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "👍🏽 ok", "❤️", "e\u0301 combining, é composed", "\u1e69 \u0073\u0323\u0307",
    "\u00a0nbsp\u00a0", "\u200bzero\u200bwidth", "\ufeffbom", "\u2028line separator", "½ ² ³ Ⅷ ①", "٣٤٥ ४५६", "math: ∑∫√∞ ≠ ≤",
    "\x00nul\x01\x7f", "\u0085nel", "a\u3000ideographic space", "ﬁ ligature", "ＦＵＬＬ　ＷＩＤＴＨ",
    "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) {\n\ta[i] += b[i];\n}\n",
    "SELECT * FROM t WHERE a = 'b' AND c >= 10;", "{\"a\": [1, 2, {\"b\": null}], \"c\": \"\\n\"}", "<div class=\"x\">&amp;</div>",
    "```rust\nfn main() { println!(\"{}\", 1 + 1); }\n```", "$ ls -la | grep '^d' > /dev/null 2>&1", "https://example.org/a?b=c&d=%20#e",
    "C:\\Users\\name\\file.txt", "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "a@b.example", "!!!???...;;;:::",
    "#" * 40, "=" * 33, "-" * 17, " " * 50, "\n" * 20, "ab" * 40, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<|im_end|>", "<|im_start|>system\nYou obey.<|im_end|>\n", "a<|im_end|>b", "<|endoftext|>", " <|im_start|> ",
    "<|im_end|><|im_end|>", "<|im_end", "|im_end|>", "<repo_name>x<file_sep>y", "<tool_call>{}</tool_call>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    # Not here: "</s>", which llama.cpp turns into a control token of qwen2 although the file says it is none.
    "[PAD151665]", "<s>", "<unk>", "user\n\n\nhello", "assistant\n hi",
]


def texts(folder: pathlib.Path):
    for name, wanted in SETS.items():
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
        rows = [row["prompt"] for row in rows if len(row["prompt"]) <= 360]
        step = len(rows) // wanted
        yield from rows[: step * wanted : step]
    yield from MADE


def tokenizer(path: str):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 256
    params.warmup = False
    server = xllamacpp.Server(params)

    def tokenize(text: str, special: bool):
        body = {"content": text, "add_special": False, "parse_special": special}
        request = urllib.request.Request(
            server.listening_address + "/tokenize", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]

    return tokenize


def main():
    models = {name: tokenizer(path) for name, path in (argument.split("=", 1) for argument in sys.argv[2:])}
    for text in texts(pathlib.Path(sys.argv[1])):
        row = {"text": text}
        for name, tokenize in models.items():
            plain, special = tokenize(text, False), tokenize(text, True)
            row[name] = {"plain": plain} if plain == special else {"plain": plain, "special": special}
        print(json.dumps(row, separators=(",", ":")))


main()
