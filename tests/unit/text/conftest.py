"""Texts that break text processors, each with a name; a test that asks for `nasty` runs once for each."""

from __future__ import annotations

import pytest

NASTY: dict[str, str] = {
    "one letter": "a",
    "one mark": ".",
    "marks only": "?!?! ... --- ***",
    "emoji only": "😀🎉👩‍👩‍👧‍👦🇩🇪1️⃣",
    "NUL": "a\0b. c\0. \0",
    "controls": "".join(map(chr, range(1, 32))) + "a\x7f\x85\u2028b",
    "CRLF": "One line\r\ngoes on. Two.\r\n\r\nThree\r\n- four\r\n- five",
    "zalgo": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘ is great. He comes.",
    "lone marks": "\u0301\u0301 \u20e3\ufe0f",
    "right to left": "هذا نص جيد. هل تحب القراءة؟ نعم! שלום עולם. מה שלומך?",
    "direction overrides": "\u202eright to left\u202c. \u2066isolate\u2069 \u200f\u200e",
    "chinese": "我来了。你呢？好的！今天天气很好，我们去公园。",
    "japanese": "「行く。」と言った。東京タワーは高い！コンピューター、パソコン。",
    "thai": "สวัสดีครับผมชื่อสมชายยินดีที่ได้รู้จัก",
    "hindi": "यह पहला वाक्य है। यह दूसरा वाक्य है॥ क्या यह तीसरा है?",
    "korean": "안녕하세요. 반갑습니다! 오늘 날씨가 좋네요.",
    "no spaces": "thisisatextwithoutanyspacesatall" * 20,
    "no marks": "word " * 400 + "end",
    "giant word": "a" * 10_000,
    "only digits": "3.14159 2,718 1e10 0x7f 127.0.0.1 " * 20,
    "urls": "See https://a.example/x?y=1.2&z=3#f, www.b.example. Or me@c.example! ftp://d.example/e.f",
    "markup": "<script>alert('x. Y')</script> &amp; {{7*7}} ${jndi:x} '; DROP TABLE t; --",
    "mojibake": "CafÃ© â€œquotedâ€\u009d. It was nice\ufffd\ufffd.",
    "astral": "𝕿𝖍𝖊 𝖖𝖚𝖎𝖈𝖐 𝒻ℴ𝓍. 𠀀𠀁𠀂。 \U000e0001\U0010ffff",
    "ligatures": "ﬁne ﬂow ŉ ǆ ẞ İstanbul ß ſ.",
    "format signs": "soft\u00adhyphen zero\u200bwidth\u200cnon\u200djoin\ufeff.",
    "same sentence": "Hi. " * 2_500,
    "same phrase": "data mesh " * 1_000,
    "elisions": "L'homme qu'il aime, c'est l'ami d'aujourd'hui. N'est-ce pas ?",
    "quotes": "\"'“‘«»’”'\" \"a.\" 'b.' “c.” «d.»",
    "brackets": "((((a. b)))) [[c. d]] {{e. f}}",
    "shouting": "THIS IS GREAT!!! REALLY??? NO!!! WORST. EVER.",
    "emoticons": ":) :( :D >:[ <3 </3 xD ;-) :'(",
}


@pytest.fixture
def nasty_texts() -> tuple[str, ...]:
    return tuple(NASTY.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "nasty" in metafunc.fixturenames:
        metafunc.parametrize("nasty", NASTY.values(), ids=NASTY.keys())
