#!/usr/bin/env python3
"""Writes chat_templates.json: templates, inputs and what Python's jinja2 renders, with the settings of transformers.

The templates (chat_templates/*.jinja) are our own; they produce the prompt formats of the model families they are
named after, with the constructs that the originals use. Needs: pip install jinja2. Run after changing a template.
"""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1760000000  # for strftime_now

TEMPLATES = {path.stem: path.read_text(encoding="utf-8")
             for path in sorted(pathlib.Path(__file__).with_name("chat_templates").glob("*.jinja"))}

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city, \"now\"",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Où?"}, "unit": {"type": "string", "enum": ["c", "f"]},
            "days": {"type": "integer", "default": 3}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "noop", "description": "does nothing",
                                      "parameters": {"type": "object", "properties": {}}}},
]


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


SINGLE = [user("Hello <|im_start|>system")]
MULTI = [user("  Hi\n"), assistant("<think>\nhm\n</think>\n\nHello! \n"), user("Größe? 日本語")]
SYSTEM = [system("Be brief. /no_think"), user("a"), assistant("b"), user("c")]
TOOL_CALL = [
    user("Weather?"),
    {"role": "assistant", "content": "", "tool_calls": [
        {"id": "call00001", "type": "function",
         "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}}]},
    {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"t\": 20}"},
    assistant("20 degrees."), user("Thanks"),
]
PARTS = [user([{"type": "text", "text": " look "}, {"type": "image"}])]

WITH_TOOLS = {"llama3", "qwen2.5", "qwen3", "mistral-v3", "mistral-v7", "smollm3", "deepseek-r1"}
WITH_PARTS = {"gemma3", "mistral-v7", "qwen3"}


def cases(name):
    for messages in (SINGLE, MULTI, SYSTEM):
        for prompt in (True, False):
            yield messages, prompt, {}
    if name in WITH_TOOLS:
        yield SYSTEM, True, {"tools": TOOLS}
        yield TOOL_CALL, True, {"tools": TOOLS}
        yield TOOL_CALL[:3], True, {}
    if name in WITH_PARTS:
        yield PARTS, True, {}
    if name in ("qwen3", "smollm3"):
        yield MULTI, True, {"enable_thinking": False}


def environment():
    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def strftime_now(pattern):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(pattern)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def main():
    out = {"now": NOW, "templates": TEMPLATES, "cases": []}
    for name, source in TEMPLATES.items():
        template = environment().from_string(source)
        for messages, prompt, extra in cases(name):
            case = {"template": name, "messages": messages, "add_generation_prompt": prompt, "extra": extra}
            try:
                case["output"] = template.render(messages=messages, add_generation_prompt=prompt, bos_token="<s>",
                                                 eos_token="</s>", **extra)
            except jinja2.exceptions.TemplateError as error:
                case["error"] = str(error)
            out["cases"].append(case)
    with open(pathlib.Path(__file__).with_name("chat_templates.json"), "w", encoding="utf-8") as file:
        json.dump(out, file, ensure_ascii=False, indent=1)
        file.write("\n")
    print(len(out["cases"]), "cases,", sum("error" in case for case in out["cases"]), "of them refused")


if __name__ == "__main__":
    main()
