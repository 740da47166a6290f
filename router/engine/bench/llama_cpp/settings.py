"""The settings of llama.cpp that greedy.py reads texts under; without its library, for dequantised.py."""

# The first one is compared with. `single`: one token of the answer at a time, as when it is generated.
SETTINGS = {
    "KV f32": {"flash": "off", "f32": True},
    "KV f16": {"flash": "off"},
    "KV f16, flash": {"flash": "on"},
    "KV f16, token by token": {"flash": "off", "single": True},
}
