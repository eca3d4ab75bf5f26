#!/usr/bin/env python3
"""Render fixtures/templates/*.jinja with Hugging Face's own code, into expected.json beside them.

    pip install transformers jinja2
    scripts/golden-templates.py

Every template is rendered with every chat of chats.json; tests/prompts.rs renders the same with aird
and compares. What a template raises is kept as well. The clock is set to chats.json's second, in UTC
and without a time zone, as datetime.now() has none. Templates named in "typed" are given what is said
as a list of parts, which aird finds out by itself.
"""
import datetime, json, os, pathlib, time

import jinja2
from transformers.utils import chat_template_utils

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "templates"


def fixed_clock(unix_seconds):
    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(unix_seconds, datetime.timezone.utc).replace(tzinfo=None)

    return Fixed


def in_parts(message):
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def rendered(template, chat, special, typed):
    messages = [in_parts(m) for m in chat["messages"]] if typed else chat["messages"]
    try:
        [text], _ = chat_template_utils.render_jinja_template(
            [messages],
            chat_template=template,
            add_generation_prompt=chat["add_generation_prompt"],
            # As aird asks: models that can think first are told to answer.
            enable_thinking=False,
            **special,
        )
    except jinja2.exceptions.TemplateError as error:
        return {"raises": str(error)}
    return {"text": text}


def main():
    # "%s" goes by the local time zone.
    os.environ["TZ"] = "UTC"
    time.tzset()
    given = json.loads((FOLDER / "chats.json").read_text(encoding="utf-8"))
    special = {name: given[name] for name in ("bos_token", "eos_token")}
    chat_template_utils.datetime = fixed_clock(given["unix_seconds"])
    expected = {}
    for path in sorted(FOLDER.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        typed = path.stem in given["typed"]
        chats = given["chats"].items()
        expected[path.stem] = {name: rendered(template, chat, special, typed) for name, chat in chats}
    text = json.dumps(expected, ensure_ascii=False, indent=2)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(expected)} templates, {len(given['chats'])} chats each")


if __name__ == "__main__":
    main()
