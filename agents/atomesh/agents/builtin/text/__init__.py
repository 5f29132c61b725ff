"""What the text agent does, as plain functions: no network, no clock, no state but the lexicon.

    from atomesh.agents.builtin.text import process
    from atomesh.text.v1 import text_pb2

    output = process(text_pb2.TextInput(content="It works. I love it!", operation="sentiment"))
    print(output.result)  # positive

| module | what |
|---|---|
| `processor` | one TextInput in, one TextOutput out |
| `summarize` | which sentences say the most: biased LexRank |
| `keywords` | what a text is about: position, frequency, nesting |
| `sentiment` | whether it speaks well or ill: VADER, at linear cost |
| `sentences`, `abbreviations` | where sentences end |
| `words` | where words begin and end, in any script |
| `languages`, `stopwords` | stop words and stemmers by language |
"""

from atomesh.agents.builtin.text.languages import SUPPORTED as SUPPORTED_LANGUAGES
from atomesh.agents.builtin.text.languages import UnsupportedLanguage
from atomesh.agents.builtin.text.processor import UnknownOperation, process

__all__ = ["SUPPORTED_LANGUAGES", "UnknownOperation", "UnsupportedLanguage", "process"]
